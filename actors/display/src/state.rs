//! All screens, and the way of a call through them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::ctrlq::DisplayCommand;
use virgld_protocol::message::cursorq;
use virgld_protocol::message::display::{
    Answer, Call, ControlEvent, LeaseCall, Notice, OutputReport, Picture, Report, Request,
};
use virgld_protocol::message::live::{Live, Owner};
use virgld_runtime::Time;

use crate::blob::Blob;
use crate::commit::{Blocked, Fences, Flip};
use crate::framebuffer::Framebuffer;
use crate::master::Rights;
use crate::object::FIRST_MADE;
use crate::output::Output;
use crate::picture::Job;
use crate::present::Told;
use crate::vblank::Waiter;

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Tell the scheme.
    Scheme(Notice),
    /// Have the device do this.
    Control(DisplayCommand),
    /// Have the device show a pointer.
    Cursor(cursorq::Request),
    /// Fetch the pixels of a resource from the host.
    ReadBack {
        /// Comes back with them.
        token: Token,
        /// Which.
        resource: ResourceId,
    },
    /// Hand a picture to whoever wanted to see it.
    Show {
        /// As [`State::look`] was told.
        look: Token,
        /// The picture.
        picture: Result<Picture, Errno>,
    },
}

/// How pictures get to where people see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presentation {
    /// The device is told what to scan out.
    Scanout,
    /// The device is told nothing: it would abort. Who wants to see the picture has it fetched.
    ReadBack,
}

/// The circumstances of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) now: Time,
    pub(crate) file: FileId,
    pub(crate) token: Token,
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    /// The answer comes later.
    Later,
    /// The call is to be made again when the flip that is under way is shown.
    Again,
}

pub(crate) const DONE: Result<Outcome, Refusal> = Ok(Outcome::Answer(Answer::Done));

/// All screens.
pub struct State {
    pub(crate) presentation: Presentation,
    pub(crate) up: bool,
    pub(crate) has_edid: bool,
    pub(crate) outputs: Vec<Output>,
    /// Whether a display has told of itself what it had not told before, and nobody has heard of it yet.
    pub(crate) replugged: bool,
    /// For each output: the flip that waits for its refresh.
    pub(crate) flips: Vec<Option<Flip>>,
    /// For each output: what the device was told.
    pub(crate) told: Vec<Told>,
    pub(crate) files: BTreeMap<FileId, Rights>,
    pub(crate) master: Option<FileId>,
    pub(crate) framebuffers: BTreeMap<u32, Framebuffer>,
    pub(crate) blobs: BTreeMap<u32, Blob>,
    /// Framebuffers without a name and blobs without an owner: they live while something shows or holds them.
    pub(crate) nameless: BTreeSet<u32>,
    pub(crate) disowned: BTreeSet<u32>,
    pub(crate) waiters: Vec<Waiter>,
    /// Calls that wait for flips to be shown, in order.
    pub(crate) deferred: VecDeque<(FileId, Token, Call)>,
    /// Calls that are answered when so many outputs show what they changed.
    pub(crate) blocked: HashMap<Token, Blocked>,
    pub(crate) jobs: Vec<Job>,
    /// When the event that is being dealt with came.
    pub(crate) now: Time,
    next_object: u32,
    next_token: u64,
}

impl State {
    /// No screens yet: the device tells how many there are.
    pub fn new(presentation: Presentation) -> Self {
        Self {
            presentation,
            up: false,
            has_edid: false,
            outputs: Vec::new(),
            replugged: false,
            flips: Vec::new(),
            told: Vec::new(),
            files: BTreeMap::new(),
            master: None,
            framebuffers: BTreeMap::new(),
            blobs: BTreeMap::new(),
            nameless: BTreeSet::new(),
            disowned: BTreeSet::new(),
            waiters: Vec::new(),
            deferred: VecDeque::new(),
            blocked: HashMap::new(),
            jobs: Vec::new(),
            now: Time(0),
            next_object: FIRST_MADE,
            next_token: 0,
        }
    }

    /// Takes a request of the scheme.
    pub fn request(&mut self, now: Time, request: Request, effects: &mut Vec<Effect>) {
        self.now = now;
        match request {
            Request::Opened { file, privileged } => self.open(file, privileged),
            Request::Closed { file } => self.close(now, file, effects),
            Request::Call { file, token, call } => self.call(now, file, token, call, effects),
            Request::Ready { gate } => {
                self.gate_opens(now, gate);
                self.arrived(gate, Ok(()), effects);
            }
            Request::Revoked { resource, maker } => self.revoked(now, resource, maker, effects),
            Request::Moved { resource, backing } => self.moved(resource, &backing),
        }
        self.settle(now, effects);
    }

    /// Takes what the control queue tells.
    pub fn control(&mut self, now: Time, event: ControlEvent, effects: &mut Vec<Effect>) {
        self.now = now;
        match event {
            ControlEvent::Up { features, scanouts } => self.come_up(features, scanouts, effects),
            ControlEvent::Down => self.go_down(effects),
            ControlEvent::Changed => self.ask_displays(effects),
            ControlEvent::Displays(Ok(extents)) => self.displays(&extents, effects),
            ControlEvent::Displays(Err(_)) => self.displays(&[], effects),
            ControlEvent::Edid { scanout, result } => {
                if let (Ok(bytes), Ok(index)) = (result, usize::try_from(scanout)) {
                    self.edid(index, bytes);
                }
            }
            ControlEvent::Transferred { token, result } => self.arrived(token, result, effects),
            // What the device would not show it will not show better a second time.
            ControlEvent::Flushed { token, .. } => self.flushed(token, effects),
        }
        self.settle(now, effects);
    }

    /// Begins anew after a step that failed: what files set up and what is to be on the screens stays, and the device is
    /// told of it once more.
    pub fn restart(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.now = now;
        self.present_anew(effects);
        self.settle(now, effects);
    }

    /// When something is to happen at a refresh.
    pub fn deadline(&self) -> Option<Time> {
        let outputs = self.outputs.iter().enumerate();
        let due = outputs.filter_map(|(index, output)| Some(output.clock.time(self.due(index)?)));
        let unanswered = self.told.iter().filter_map(Told::deadline);
        due.chain(self.next_wait()).chain(unanswered).min()
    }

    /// A refresh has come, or the end of a patience.
    pub fn wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.now = now;
        self.settle(now, effects);
    }

    /// The display's account.
    pub fn report(&self) -> Report {
        let outputs = self.outputs.iter().map(|output| OutputReport {
            connected: output.monitor.preferred(),
            mode: output.shown.extent(),
            millihertz: match output.clock.period() {
                0 => 0,
                period => u32::try_from(1_000_000_000_000 / period).unwrap_or(u32::MAX),
            },
            flips: output.flips,
            pointer: output.shown.pointer(),
        });
        Report {
            outputs: outputs.collect(),
            framebuffers: self.framebuffers.len(),
            blobs: self.blobs.values().filter(|blob| blob.owner.is_some()).count(),
            master: self.master,
            live: self.live().collect(),
        }
    }

    /// What clients made, or wait for. A file's being open is the scheme's to tell.
    fn live(&self) -> impl Iterator<Item = Live> {
        let framebuffers = self.framebuffers.iter().map(|(id, it)| {
            let kept = if it.is_named() { "" } else { "shown on a screen" };
            Live::new("framebuffer", u64::from(*id), owner(it.owner())).kept(kept)
        });
        let blobs = self.blobs.iter().filter(|(_, blob)| blob.owner.is_some());
        let blobs = blobs.map(|(id, blob)| {
            Live::new("mode property blob", u64::from(*id), owner(blob.owner)).bytes(blob.bytes.len() as u64)
        });
        let deferred = self
            .deferred
            .iter()
            .map(|(file, token, _)| Live::new("call that waits for a screen", token.0, Owner::File(*file)));
        framebuffers.chain(blobs).chain(deferred)
    }

    /// Does what has come due.
    fn settle(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.give_up_late(effects);
        self.complete_flips(now, effects);
        self.update_further(effects);
        self.tell_waiters(now, effects);
        self.sweep(effects);
        self.sweep_blobs();
    }

    pub(crate) fn call(
        &mut self,
        now: Time,
        file: FileId,
        token: Token,
        call: Call,
        effects: &mut Vec<Effect>,
    ) {
        // Those that wait already come first, so that nobody overtakes.
        let caller = Caller { now, file, token };
        let result = match self.dispatch(caller, &call, effects) {
            Ok(Outcome::Later) => return,
            Ok(Outcome::Again) => match self.may_wait(file) {
                Ok(()) => return self.deferred.push_back((file, token, call)),
                Err(refusal) => Err(refusal),
            },
            Ok(Outcome::Answer(answer)) => Ok(answer),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &result {
            self.give_up(&call, refusal.errno, effects);
        }
        effects.push(Effect::Scheme(Notice::Answered { token, result }));
    }

    fn dispatch(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        self.may(caller.file, call)?;
        match call {
            Call::Understand { capability, value } => self.understand(caller.file, *capability, *value),
            Call::SetMaster => self.set_master(caller.file),
            Call::DropMaster => self.drop_master(caller.file),
            Call::NeedMaster(Ok(())) => DONE,
            Call::NeedMaster(Err(errno)) => {
                Err(Refusal::new(*errno, "a call with words that it may not have"))
            }
            Call::Resources => self.resources(caller.file),
            Call::Connector(id) => self.connector(caller.file, *id),
            Call::Encoder(id) => self.encoder(*id),
            Call::Crtc(id) => self.show_crtc(*id),
            Call::Planes => self.planes(caller.file),
            Call::Plane(id) => self.show_plane(*id),
            Call::Properties { object, kind } => self.properties(caller.file, *object, *kind),
            Call::Property(id) => self.property(*id),
            Call::Blob(id) => self.blob(*id),
            Call::CreateBlob(bytes) => self.create_blob(caller.file, bytes),
            Call::DestroyBlob(id) => self.destroy_blob(caller.file, *id),
            Call::AddFramebuffer(new) => self.add_framebuffer(caller.file, new, effects),
            Call::RemoveFramebuffer(id) => self.remove_framebuffer(caller, *id, true, effects),
            Call::CloseFramebuffer(id) => self.remove_framebuffer(caller, *id, false, effects),
            Call::Framebuffer(id) => self.show_framebuffer(caller.file, *id),
            Call::SetCrtc(it) => self.set_crtc(caller, it, effects),
            Call::PageFlip { crtc, framebuffer, flags, user_data } => {
                self.page_flip(caller, *crtc, *framebuffer, *flags, *user_data, effects)
            }
            Call::Dirty { framebuffer, flags, clips } => {
                self.dirty(caller, *framebuffer, *flags, clips, effects)
            }
            Call::SetPlane(it) => self.set_plane(caller, it, effects),
            Call::Cursor(it) => self.cursor(caller.file, it, effects),
            Call::Gamma { crtc, size } => self.gamma(*crtc, *size),
            Call::SetGamma { crtc, .. } => self.set_gamma(*crtc),
            Call::SetProperty { object, kind, property, value } => {
                self.set_property(caller, (*object, *kind), *property, *value, effects)
            }
            Call::Atomic { flags, sets, user_data, fence_in, fence_out } => {
                let fences = Fences { within: *fence_in, out: *fence_out };
                self.atomic(caller, *flags, sets, *user_data, fences, effects)
            }
            Call::WaitVblank { kind, sequence, user_data } => {
                self.wait_vblank(caller, *kind, *sequence, *user_data)
            }
            Call::Sequence(crtc) => self.sequence(caller.now, *crtc),
            Call::QueueSequence { crtc, flags, sequence, user_data } => {
                self.queue_sequence(caller, *crtc, *flags, *sequence, *user_data)
            }
            Call::Lease(what) => lease(*what),
        }
    }

    /// A call will not happen: a fence that was to signal when it has says so.
    pub(crate) fn give_up(&self, call: &Call, errno: Errno, effects: &mut Vec<Effect>) {
        if let Call::Atomic { fence_out: Some(fence), .. } = call {
            effects.push(Effect::Scheme(Notice::Signal { fence: *fence, result: Err(errno) }));
        }
    }

    /// A number for a framebuffer or a blob.
    pub(crate) fn fresh_object(&mut self) -> u32 {
        let id = self.next_object;
        self.next_object = id.checked_add(1).unwrap_or(FIRST_MADE);
        id
    }

    pub(crate) fn fresh_token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }
}

fn owner(file: Option<FileId>) -> Owner {
    file.map_or(Owner::Nobody, Owner::File)
}

/// Nothing is leased, and nothing can be: who shares a screen does so through its compositor.
fn lease(what: LeaseCall) -> Result<Outcome, Refusal> {
    match what {
        LeaseCall::List => Ok(Outcome::Answer(Answer::NoLessees)),
        LeaseCall::Revoke => Err(Refusal::new(Errno::ENOENT, "there is no such lessee")),
        LeaseCall::Create | LeaseCall::Get => Err(Refusal::new(Errno::EOPNOTSUPP, "nothing can be leased")),
    }
}
