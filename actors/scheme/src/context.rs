//! The GL context of a file: made when first needed, gone with the file.

use virgld_protocol::client::{Call, ContextInit, ContextParameter, Reply};
use virgld_protocol::device::Feature;
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId};
use virgld_protocol::message::context::Request;
use virgld_protocol::message::ctrlq::DebugName;
use virgld_protocol::message::door::Command;
use virgld_protocol::message::scheme::{Node, Reached};
use virgld_protocol::message::{display, resource};
use virgld_protocol::rights::Rights;
use zerocopy::FromBytes;

use crate::file::{File, GlContext, Origin};
use crate::state::{Effect, Outcome, State};

/// As many rings as Linux allows (`MAX_RINGS`).
const MOST_RINGS: u64 = 64;
/// As many closed files as the leak report can put a name to.
const MOST_REMEMBERED: usize = 256;

impl State {
    /// Makes the context unless it is there.
    pub(crate) fn need_context(&mut self, file: FileId, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        const DEAD: Refusal = Refusal::new(Errno::EIO, "the actor of the file's context died");
        match self.file(file)?.context {
            GlContext::None => self.open_context(file, 0, 0, effects),
            GlContext::Open { .. } => Ok(()),
            GlContext::Dead => Err(DEAD),
        }
    }

    fn open_context(
        &mut self,
        id: FileId,
        capset: u32,
        rings: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        const MANY: Refusal = Refusal::new(Errno::ENOSPC, "the user has too many contexts");
        const NO_3D: Refusal = Refusal::new(Errno::ENOSYS, "the device has no 3D");
        if self.device()?.features & Feature::VIRGL == 0 {
            return Err(NO_3D);
        }
        let contexts = self.files_of_same_user(id).filter(|file| file.context.is_open()).count();
        if contexts >= self.limits.user.contexts {
            return Err(MANY);
        }
        let file = self.file(id)?;
        file.context = GlContext::Open { rings };
        let name = DebugName::new(&format!("pid {} file {}", file.credentials.pid, id.0));
        let resources: Vec<_> = file.resources_with(Rights::EXECUTE).collect();
        effects.push(Effect::StartContext(id));
        effects.push(Effect::Context(id, Request::Open { name, capset }));
        for resource in resources {
            self.attach(id, resource, effects);
        }
        Ok(())
    }

    pub(crate) fn context_init(
        &mut self,
        file: FileId,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const NOT_OFFERED: Refusal = Refusal::new(Errno::EINVAL, "the device has no CONTEXT_INIT");
        const MANY: Refusal = Refusal::new(Errno::EINVAL, "more parameters than there are");
        const THERE: Refusal = Refusal::new(Errno::EEXIST, "the file has its context already");
        let wire = call.parse::<ContextInit>()?;
        if self.device()?.features & Feature::CONTEXT_INIT == 0 {
            return Err(NOT_OFFERED);
        }
        if wire.fixed.num_params > 4 {
            return Err(MANY);
        }
        if self.file(file)?.context != GlContext::None {
            return Err(THERE);
        }
        let (capset, rings) = self.context_parameters(wire.arrays[0])?;
        self.open_context(file, capset, rings, effects)?;
        Ok(Outcome::Answer(Reply::empty()))
    }

    fn context_parameters(&self, bytes: &[u8]) -> Result<(u32, u32), Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::EINVAL, "no such parameter, or no such value");
        let (mut capset, mut rings, mut polled) = (None, 0, 0_u64);
        for chunk in bytes.chunks_exact(size_of::<ContextParameter>()) {
            let ContextParameter { param, value } =
                ContextParameter::read_from_bytes(chunk).map_err(|_| UNKNOWN)?;
            match param {
                ContextParameter::CAPSET_ID if capset.is_none() => {
                    let known = |id: u32| self.device.as_ref()?.capsets.iter().find(|it| it.info.id == id);
                    let id = u32::try_from(value).map_err(|_| UNKNOWN)?;
                    capset = Some(known(id).ok_or(UNKNOWN)?.info.id);
                }
                ContextParameter::NUM_RINGS if value <= MOST_RINGS => {
                    rings = u32::try_from(value).unwrap_or(0);
                }
                ContextParameter::POLL_RINGS_MASK => polled = value,
                ContextParameter::DEBUG_NAME => {}
                _ => return Err(UNKNOWN),
            }
        }
        let existing = if rings >= 64 { u64::MAX } else { (1 << rings) - 1 };
        if polled & !existing != 0 {
            return Err(UNKNOWN);
        }
        Ok((capset.unwrap_or(0), rings))
    }

    /// The last descriptor of a file is gone.
    pub(crate) fn close(&mut self, id: FileId, effects: &mut Vec<Effect>) {
        self.forget_waits(id);
        self.fences.forget_holds(id);
        self.release_syncobjs(id);
        let Some(file) = self.files.get_mut(&id) else { return };
        file.closed = true;
        if file.node == Node::Card {
            effects.push(Effect::Display(display::Request::Closed { file: id }));
        }
        if file.context.is_open() {
            effects.push(Effect::Context(id, Request::Close));
        } else {
            self.context_ended(id, effects);
        }
    }

    /// The device does not know the context any more. What the file has under way fails; its handles, mappings and
    /// synchronisation objects stay.
    pub(crate) fn context_lost(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.lost = true;
        let resources = file.resources();
        for resource in resources {
            self.end_query(id, resource);
        }
    }

    pub(crate) fn context_expelled(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.expelled = true;
        }
    }

    /// Lets the context of a file name a buffer.
    pub(crate) fn attach(&mut self, id: FileId, resource: ResourceId, effects: &mut Vec<Effect>) {
        let own = |file: &File| file.entry_of(resource).is_some_and(|entry| entry.origin == Origin::Own);
        let borrowed = !self.files.get(&id).is_some_and(own);
        let Some(buffer) = self.buffers.get_mut(&resource) else { return };
        if borrowed && !buffer.borrowers.contains(&id) {
            buffer.borrowers.push(id);
        }
        let backing = self.limits.journals.then(|| buffer.backing.clone());
        effects.push(Effect::Context(id, Request::Attach { resource, backing, borrowed }));
    }

    /// The device was lost, and the file's context is made anew on the next. What was under way has failed: queries
    /// among it have no result.
    pub(crate) fn context_revived(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.revivals += 1;
        for resource in file.resources() {
            self.answer_query(resource);
        }
    }

    pub(crate) fn context_unjournaled(&mut self, id: FileId, why: &'static str) {
        if let Some(file) = self.files.get_mut(&id) {
            file.unjournaled = Some(why);
        }
    }

    /// The context's actor died. What it had under way fails; the file stays, without a context.
    pub fn context_died(&mut self, id: FileId, effects: &mut Vec<Effect>) {
        self.orphans_died(id, effects);
        let Some(file) = self.files.get_mut(&id).filter(|file| file.context.is_open()) else { return };
        file.context = GlContext::Dead;
        let closed = file.closed;
        let serial = file.latest;
        let reached = Reached { executed: serial, complete: serial };
        file.reached = reached;
        let signals = std::mem::take(&mut file.signals);
        for fence in signals.into_values().flat_map(|signals| signals.fences).flatten() {
            self.signal(fence, Err(Errno::EIO), effects);
        }
        self.fences.forget_holds(id);
        effects.push(Effect::Door(Command::Reached { file: id, reached }));
        effects.push(Effect::ForgetContext(id));
        self.retire_waits(id, effects);
        self.drop_all(id, effects);
        if closed {
            // The context cannot say any more that it has ended.
            self.context_ended(id, effects);
        }
    }

    /// Nobody will ever say that the work of a closed file is complete.
    pub(crate) fn orphans_died(&mut self, id: FileId, effects: &mut Vec<Effect>) {
        for (_, fences) in self.orphans.extract_if(|(file, _), _| *file == id).collect::<Vec<_>>() {
            fences.into_iter().flatten().for_each(|fence| self.signal(fence, Err(Errno::EIO), effects));
        }
    }

    /// The context's last work is on its way, or there never was any: the file can go.
    pub(crate) fn context_ended(&mut self, id: FileId, effects: &mut Vec<Effect>) {
        let Some(mut file) = self.files.remove(&id) else { return };
        if self.departed.len() == MOST_REMEMBERED {
            self.departed.pop_front();
        }
        self.departed.push_back((id, file.credentials));
        // The device still executes what it has: others may hold fences for that.
        for (serial, signals) in std::mem::take(&mut file.signals) {
            self.orphans.insert((id, serial), signals.fences);
        }
        self.retire_waits(id, effects);
        for resource in file.resources() {
            if let Some(buffer) = self.buffers.get_mut(&resource) {
                buffer.holders.retain(|holder| *holder != id);
            }
            self.release_if_unnamed(resource, effects);
        }
        for buffer in self.buffers.values_mut() {
            buffer.borrowers.retain(|borrower| *borrower != id);
        }
        // Each was detached before the context ended, whether that was heard of or not.
        self.drop_all(id, effects);
        effects.push(Effect::Resource(resource::Request::Retire { owner: id }));
        effects.push(Effect::ForgetContext(id));
    }
}
