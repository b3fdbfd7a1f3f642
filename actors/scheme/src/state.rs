//! All open files, and the way of a call through them.

use std::collections::VecDeque;

use foldhash::HashMap;
use std::time::Duration;

use virgld_protocol::client::{Reply, is_asynchronous};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId, Serial, Token};
use virgld_protocol::message::door::{Attach, Command};
use virgld_protocol::message::resource::{Capset, Notice};
use virgld_protocol::message::scheme::{
    CallEvent, ContextNotice, Credentials, DoorEvent, ExportKey, FileReport, Node, Reached, Report,
};
use virgld_protocol::message::{context, display, resource};
use virgld_runtime::Time;

use crate::buffer::Buffer;
use crate::create::Parked;
use crate::distant::Distant;
use crate::fence::Fences;
use crate::file::{File, Promised};
use crate::kms::Showing;
use crate::syncobj::Syncobjs;
use crate::syncobj_transfer::TransferWait;
use crate::syncobj_wait::SyncWait;
use crate::vigil::Vigil;
use crate::wait::{BufferWait, Uses};

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Tell the door.
    Door(Command),
    /// Ask the resource actor.
    Resource(resource::Request),
    /// Ask the display.
    Display(display::Request),
    /// Start a context actor for a file.
    StartContext(FileId),
    /// Ask the context of a file.
    Context(FileId, context::Request),
    /// The context of a file has nothing more to hear.
    ForgetContext(FileId),
    /// The context of a file has gone wrong without dying: it is to end.
    EndContext(FileId),
}

/// How long things may take, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A blocking WAIT answers EBUSY after this long; Linux has 15 seconds.
    pub wait: Duration,
    /// A submit whose fence has not signalled after this long fails.
    pub hold: Duration,
    /// What another actor has not answered after this long counts as lost: longer than the daemon goes without a device,
    /// and a command.
    pub silence: Duration,
    /// How long the device may take for one command.
    pub command: Duration,
    /// Synchronisation objects of one file.
    pub syncobjs: usize,
    /// What all files of one user may have together.
    pub user: UserLimits,
    /// Contexts keep a journal, and so must know where the bytes of what they may name lie.
    pub journals: bool,
}

/// What all files of one user may have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimits {
    /// GL contexts.
    pub contexts: usize,
    /// Synchronisation objects.
    pub syncobjs: usize,
    /// Of these, objects of which a descriptor was made: each costs the daemon one.
    pub exported_syncobjs: usize,
    /// Fences that were merged from others and have not signalled: each costs the daemon a descriptor.
    pub merged_fences: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let user =
            UserLimits { contexts: 256, syncobjs: 262_144, exported_syncobjs: 1024, merged_fences: 1024 };
        Self {
            wait: Duration::from_secs(15),
            hold: Duration::from_secs(10),
            silence: Duration::from_secs(90),
            command: Duration::from_secs(30),
            syncobjs: 65_536,
            user,
            journals: false,
        }
    }
}

/// What is known of the device.
pub(crate) struct Device {
    pub(crate) features: u64,
    pub(crate) capsets: Vec<Capset>,
}

/// What becomes of a call.
pub(crate) enum Outcome {
    Answer(Reply),
    AnswerWith(Reply, Attach),
    /// The answer comes later.
    Later,
}

/// The circumstances of a call.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) now: Time,
    pub(crate) file: FileId,
    pub(crate) token: Option<Token>,
}

/// All open files.
pub struct State {
    pub(crate) limits: Limits,
    pub(crate) files: HashMap<FileId, File>,
    /// Who had the files that were closed last, oldest first.
    pub(crate) departed: VecDeque<(FileId, Credentials)>,
    pub(crate) buffers: HashMap<ResourceId, Buffer>,
    /// Those of them whose memory some client sees and the device cannot reach.
    pub(crate) distant: HashMap<ResourceId, Distant>,
    /// Fences for work of files that are closed.
    pub(crate) orphans: HashMap<(FileId, Serial), Promised>,
    /// Lists of waits that are over, to be used again.
    pub(crate) spent: Vec<Uses>,
    pub(crate) exports: HashMap<ExportKey, ResourceId>,
    pub(crate) parked: HashMap<Token, Parked>,
    pub(crate) waits: Vec<BufferWait>,
    /// Calls that the display has.
    pub(crate) shown: HashMap<Token, Showing>,
    pub(crate) fences: Fences,
    pub(crate) syncobjs: Syncobjs,
    pub(crate) sync_waits: Vec<SyncWait>,
    pub(crate) transfers: Vec<TransferWait>,
    pub(crate) vigil: Vigil,
    pub(crate) device: Option<Device>,
    pub(crate) next: u64,
}

impl State {
    /// No file is open.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            files: HashMap::default(),
            departed: VecDeque::new(),
            buffers: HashMap::default(),
            distant: HashMap::default(),
            orphans: HashMap::default(),
            spent: Vec::new(),
            exports: HashMap::default(),
            parked: HashMap::default(),
            waits: Vec::new(),
            shown: HashMap::default(),
            fences: Fences::default(),
            syncobjs: Syncobjs::default(),
            sync_waits: Vec::new(),
            transfers: Vec::new(),
            vigil: Vigil::default(),
            device: None,
            next: 0,
        }
    }

    /// Takes what a door saw.
    pub fn door(&mut self, now: Time, event: DoorEvent, effects: &mut Vec<Effect>) {
        match event {
            DoorEvent::Opened { file, node, credentials } => {
                self.vigil.begin(now, self.limits.silence);
                self.open(file, node, credentials, effects);
            }
            DoorEvent::Closed { file } => self.close(file, effects),
            DoorEvent::Call(call) => self.call(now, call, effects),
            DoorEvent::Map { file, token, offset, length } => {
                let outcome = self.map_memory(file, offset, length);
                answer(Some(token), outcome, effects);
            }
            DoorEvent::Restrict { file, token, handle, rights } => {
                let outcome = self.restrict(file, handle, rights);
                answer(Some(token), outcome, effects);
            }
            DoorEvent::Revoke { file, token, handle } => {
                let outcome = self.revoke(now, file, token, handle, effects);
                answer(Some(token), outcome, effects);
            }
            DoorEvent::Merge { file, token, fences } => {
                let outcome = self.merge(file, fences);
                answer(Some(token), outcome, effects);
            }
            DoorEvent::FenceSignalled { fence, result } => self.signal(fence, result, effects),
            DoorEvent::ExportUnused { export } => self.export_unused(export, effects),
            DoorEvent::SyncobjUnused { syncobj } => self.syncobjs.unexport(syncobj),
        }
    }

    /// Takes what the context of a file tells.
    pub fn context(&mut self, file: FileId, notice: ContextNotice, effects: &mut Vec<Effect>) {
        match notice {
            ContextNotice::Completed { serial, result, reached } => {
                self.completed(file, serial, result, reached, effects);
            }
            ContextNotice::Reached(reached) => self.reached(file, reached, effects),
            ContextNotice::Detached { resource } => self.dropped(file, resource, effects),
            ContextNotice::Expelled => self.context_expelled(file),
            ContextNotice::Lost => self.context_lost(file),
            ContextNotice::Revived => self.context_revived(file),
            ContextNotice::Unjournaled { why } => self.context_unjournaled(file, why),
            ContextNotice::Ended => self.context_ended(file, effects),
        }
    }

    /// Takes what the resource actor tells.
    pub fn resource(&mut self, notice: Notice, effects: &mut Vec<Effect>) {
        match notice {
            Notice::DeviceUp { features, capsets } => self.device = Some(Device { features, capsets }),
            // Another is on its way, and offers the same: what only asks goes on meanwhile.
            Notice::DeviceDown => {}
            Notice::Created { token, resource, backing } => self.created(token, resource, backing, effects),
            Notice::Isolated { token, resource, backing } => self.isolated(token, resource, backing, effects),
            Notice::Refused { token, errno } => self.resource_refused(token, errno, effects),
            Notice::Failed { resource, .. } => self.resource_failed(resource),
        }
    }

    /// The scheme's account.
    pub fn report(&self) -> Report {
        let files = self.files.iter().map(|(id, file)| FileReport {
            file: *id,
            node: file.node,
            credentials: file.credentials,
            context: file.context.is_open(),
            lost: file.lost,
            expelled: file.expelled,
            revivals: file.revivals,
            unjournaled: file.unjournaled,
            handles: file.handles(),
            derived: file.derived(),
            syncobjs: file.syncobjs.len(),
            errors: file.errors,
        });
        Report {
            files: files.collect(),
            buffers: self.buffers.len(),
            syncobjs: self.syncobjs.len(),
            fences: self.fences.len(),
            silences: self.vigil.silences,
            live: self.live().collect(),
            departed: self.departed.iter().copied().collect(),
        }
    }

    fn open(&mut self, file: FileId, node: Node, credentials: Credentials, effects: &mut Vec<Effect>) {
        self.files.insert(file, File::new(node, credentials));
        if node == Node::Card {
            let privileged = credentials.uid == 0;
            effects.push(Effect::Display(display::Request::Opened { file, privileged }));
        }
    }

    fn call(&mut self, now: Time, event: CallEvent, effects: &mut Vec<Effect>) {
        let (file, token, serial) = (event.file, event.token, event.serial);
        let asynchronous = is_asynchronous(event.call.number);
        let Some(entry) = self.files.get_mut(&file) else { return };
        if asynchronous {
            entry.latest = serial;
        }
        let fence_out = event.fence_out;
        let outcome = self.dispatch(Caller { now, file, token }, event, effects);
        if let Err(refusal) = &outcome {
            if let Some(file) = self.files.get_mut(&file).filter(|_| asynchronous) {
                file.errors += 1;
            }
            if let Some(fence) = fence_out {
                self.signal(fence, Err(refusal.errno), effects);
            }
            if asynchronous {
                self.skip(file, serial, effects);
            }
        }
        answer(token, outcome, effects);
    }

    fn dispatch(
        &mut self,
        caller: Caller,
        event: CallEvent,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::EINVAL, "no such ioctl");
        let file = caller.file;
        self.may(file, event.call.number)?;
        let call = &event.call;
        match call.number {
            0x00 => self.version(call),
            0x01 => self.unique(file, call),
            0x02 => self.magic(file, call),
            0x07 => self.set_version(file, call),
            0x09 => self.gem_close(file, call, effects),
            0x0a | 0x0b => Err(Refusal::new(Errno::EOPNOTSUPP, "global names can be guessed")),
            0x0c => self.capability(call),
            0x0d | 0x11 | 0x1e | 0x1f | 0x3a..=0x3c => self.ask_display(caller, event, effects),
            0x2d => self.prime_export(caller, call, effects),
            0x2e => self.prime_import(file, call, event.attached, effects),
            0x41 => self.map(caller, call),
            0x42 => self.execbuffer(caller, event, effects),
            0x43 => self.parameter(call),
            0x44 => self.create(caller, call, effects),
            0x45 => self.info(file, call),
            0x46 => self.transfer_from_host(file, call, event.serial, effects),
            0x47 => self.transfer_to_host(file, call, event.serial, effects),
            0x48 => self.wait(caller, call, effects),
            0x49 => self.capset(call),
            0x4a => self.create_blob(call),
            0x4b => self.context_init(file, call, effects),
            0xb2 => self.create_dumb(caller, call, effects),
            0xb3 => self.map_dumb(caller, call),
            0xb4 => self.destroy_dumb(file, call, effects),
            0xa0..=0xbe | 0xc6..=0xc9 | 0xce | 0xd0 => self.ask_display(caller, event, effects),
            0xbf => self.syncobj_create(file, call),
            0xc0 => self.syncobj_destroy(file, call),
            0xc1 => self.syncobj_export(file, call),
            0xc2 => self.syncobj_import(file, call, event.attached, effects),
            0xc3 => self.syncobj_wait(caller, call),
            0xc4 => self.syncobj_reset(file, call),
            0xc5 => self.syncobj_signal(caller, call, effects),
            0xca => self.syncobj_timeline_wait(caller, call),
            0xcb => self.syncobj_query(file, call),
            0xcc => self.syncobj_transfer(caller, call, effects),
            0xcd => self.syncobj_timeline_signal(caller, call, effects),
            _ => Err(UNKNOWN),
        }
    }

    /// The earliest moment at which something that waits must be told that it has waited long enough.
    pub fn deadline(&self) -> Option<Time> {
        let waits = self.waits.iter().map(|wait| wait.deadline);
        let sync_waits = self.sync_waits.iter().map(|wait| wait.deadline);
        let transfers = self.transfers.iter().map(|wait| wait.deadline);
        waits
            .chain(sync_waits)
            .chain(transfers)
            .chain(self.fences.deadline())
            .chain(self.vigil.deadline())
            .min()
    }

    /// Tells what has waited long enough.
    pub fn expire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.expire_waits(now, effects);
        self.expire_sync_waits(now, effects);
        self.expire_transfers(now, effects);
        self.expire_holds(now, effects);
        self.keep_vigil(now, effects);
    }

    /// The files of the user whose file this is.
    pub(crate) fn files_of_same_user(&self, file: FileId) -> impl Iterator<Item = &File> {
        let user = self.files.get(&file).map(File::user);
        self.files.values().filter(move |other| Some(other.user()) == user)
    }

    pub(crate) fn file(&mut self, file: FileId) -> Result<&mut File, Refusal> {
        self.files.get_mut(&file).ok_or(Refusal::new(Errno::EBADF, "the file is closed"))
    }

    /// A number that names nothing else.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Passes over a place in a file's order: nothing is to be done there.
    fn skip(&mut self, file: FileId, serial: Serial, effects: &mut Vec<Effect>) {
        let Some(entry) = self.files.get_mut(&file) else { return };
        if entry.context.is_open() {
            effects.push(Effect::Context(file, context::Request::Skip { serial }));
        } else {
            let reached = Reached { executed: serial, complete: serial };
            entry.reached = reached;
            effects.push(Effect::Door(Command::Reached { file, reached }));
        }
    }
}

/// Passes an outcome on to whoever waits for it.
pub(crate) fn answer(token: Option<Token>, outcome: Result<Outcome, Refusal>, effects: &mut Vec<Effect>) {
    let Some(token) = token else { return };
    let (result, attach) = match outcome {
        Ok(Outcome::Later) => return,
        Ok(Outcome::Answer(reply)) => (Ok(reply), None),
        Ok(Outcome::AnswerWith(reply, attach)) => (Ok(reply), Some(attach)),
        Err(refusal) => (Err(refusal.errno), None),
    };
    effects.push(Effect::Door(Command::Answer { token, result, attach }));
}
