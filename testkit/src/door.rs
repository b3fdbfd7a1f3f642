//! A door without a wall: tests play the clients that come in through it.
//!
//! The actor behind it writes down all that the scheme says, and checks what any door may rely on: each call is
//! answered once, each fence signals once, a file's work retires forwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use virgld_protocol::client::{Call, Execbuffer, ExecbufferFlags, ExecbufferSyncobj, Ioctl, Reply};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, Serial, Token};
use virgld_protocol::message::ctrlq::STREAM_OFFSET;
use virgld_protocol::message::door::{Attach, Command, Message};
use virgld_protocol::message::scheme::{
    Attached, CallEvent, Credentials, DoorEvent, ExportKey, FromDoor, Node, Reached, SyncobjKey,
};
use virgld_runtime::dma::DmaPool;
use virgld_runtime::{Actor, Cap, Fault, Restart, Turn};
use zerocopy::IntoBytes;

use crate::aside::aside;
use crate::link::locked;

/// A call as it was answered.
#[derive(Debug)]
pub struct Answer {
    /// The outcome.
    pub result: Result<Reply, Errno>,
    /// What came with it.
    pub attach: Option<Attach>,
}

impl Answer {
    /// The fixed part of a successful answer.
    pub fn fixed<T: Ioctl>(&self) -> Option<T> {
        T::read_from_bytes(&self.result.as_ref().ok()?.fixed).ok()
    }

    /// The error, if it is one.
    pub fn errno(&self) -> Option<Errno> {
        self.result.as_ref().err().copied()
    }
}

/// The answer to calls of a file that is cut off.
const CUT_OFF: Answer = Answer { result: Err(Errno::EIO), attach: None };

/// All that the scheme said to the door, and what the door makes of it.
#[derive(Debug, Default)]
struct Ledger {
    /// Calls not answered.
    open: BTreeMap<Token, FileId>,
    answers: BTreeMap<Token, Answer>,
    /// Every fence given out, and how it signalled.
    fences: BTreeMap<FenceKey, Option<Result<(), Errno>>>,
    /// How far the work of each file is.
    reached: BTreeMap<FileId, Reached>,
    /// Exports that the scheme wants to know the end of.
    watched: BTreeSet<ExportKey>,
    /// Exports whose descriptor nobody was there to take.
    orphans: Vec<ExportKey>,
    /// What files have to read.
    events: Vec<(FileId, Vec<u8>)>,
    /// Files that the scheme had cut off, and the calls that they had under way.
    expelled: BTreeSet<FileId>,
    cut_off: BTreeSet<Token>,
    offences: Vec<String>,
}

/// The actor.
pub struct DoorActor {
    ledger: Arc<Mutex<Ledger>>,
    scheme: Cap<FromDoor>,
}

/// A submit to make.
#[derive(Debug, Default, Clone)]
pub struct Submission<'a> {
    /// The command stream.
    pub stream: &'a [u8],
    /// Buffers that it uses, as handles.
    pub handles: &'a [u32],
    /// Whether a fence is wanted.
    pub fence: bool,
    /// A fence to wait for.
    pub wait: Option<Attached>,
    /// The ring, if it is for one.
    pub ring: Option<u32>,
    /// Synchronisation objects to wait for.
    pub waits: &'a [ExecbufferSyncobj],
    /// Synchronisation objects to signal.
    pub signals: &'a [ExecbufferSyncobj],
}

/// A submit that was made.
#[derive(Debug, Clone, Copy)]
pub struct Submitted {
    /// The call.
    pub token: Token,
    /// Its place in the order of the file.
    pub serial: Serial,
    /// Its fence, if one was wanted.
    pub fence: Option<FenceKey>,
}

/// The clients' side of the door.
pub struct FakeDoor {
    scheme: Cap<FromDoor>,
    streams: DmaPool,
    ledger: Arc<Mutex<Ledger>>,
    next: u64,
    serials: BTreeMap<FileId, u64>,
}

impl FakeDoor {
    /// A door to `scheme` that copies command streams into `streams`, and the actor that belongs behind it.
    pub fn new(scheme: Cap<FromDoor>, streams: DmaPool) -> (Self, DoorActor) {
        let ledger = Arc::default();
        let actor = DoorActor { ledger: Arc::clone(&ledger), scheme: scheme.grant() };
        (Self { scheme, streams, ledger, next: 0, serials: BTreeMap::new() }, actor)
    }

    /// Opens a node.
    pub fn open(&mut self, node: Node) -> FileId {
        let file = FileId(self.fresh());
        self.serials.insert(file, 0);
        self.say(DoorEvent::Opened { file, node, credentials: Credentials::default() });
        file
    }

    /// Closes a file. Its calls are not waited for any more.
    pub fn close(&mut self, file: FileId) {
        locked(&self.ledger).open.retain(|_, caller| *caller != file);
        self.say(DoorEvent::Closed { file });
    }

    /// Makes a call.
    pub fn call<T: Ioctl>(&mut self, file: FileId, fixed: &T, arrays: &[&[u8]]) -> Token {
        self.call_with(file, fixed, arrays, None)
    }

    /// Makes a call that a descriptor goes with.
    pub fn call_with<T: Ioctl>(
        &mut self,
        file: FileId,
        fixed: &T,
        arrays: &[&[u8]],
        attached: Option<Attached>,
    ) -> Token {
        let bytes = [&[fixed.as_bytes()], arrays].concat().concat();
        self.raw(file, Call { number: T::TABLE.number, bytes: bytes.into() }, attached)
    }

    /// Makes a call of any bytes.
    pub fn raw(&mut self, file: FileId, call: Call, attached: Option<Attached>) -> Token {
        let token = self.token(file);
        let serial = self.serial(file);
        let event =
            CallEvent { file, call, bulk: None, token: Some(token), serial, attached, fence_out: None };
        self.say(DoorEvent::Call(event));
        token
    }

    /// Makes a call that has a fence signalled.
    pub fn call_signalling<T: Ioctl>(
        &mut self,
        file: FileId,
        fixed: &T,
        arrays: &[&[u8]],
        attached: Option<Attached>,
    ) -> (Token, FenceKey) {
        let bytes = [&[fixed.as_bytes()], arrays].concat().concat();
        let (token, serial, fence) = (self.token(file), self.serial(file), self.fence());
        let call = Call { number: T::TABLE.number, bytes: bytes.into() };
        let event = CallEvent {
            file,
            call,
            bulk: None,
            token: Some(token),
            serial,
            attached,
            fence_out: Some(fence),
        };
        self.say(DoorEvent::Call(event));
        (token, fence)
    }

    /// Submits a command stream. As a real door does, it waits for memory first: `None` while there is none.
    pub fn submit(&mut self, file: FileId, what: &Submission<'_>) -> Option<Submitted> {
        let bulk = match what.stream {
            [] => None,
            stream => {
                let slice = self.streams.take(STREAM_OFFSET + stream.len())?;
                slice.write(STREAM_OFFSET, stream).ok()?;
                Some(slice)
            }
        };
        let mut flags = ExecbufferFlags::empty();
        flags.set(ExecbufferFlags::FENCE_FD_OUT, what.fence);
        flags.set(ExecbufferFlags::FENCE_FD_IN, what.wait.is_some());
        flags.set(ExecbufferFlags::RING_IDX, what.ring.is_some());
        let fixed = Execbuffer {
            flags: flags.bits(),
            size: count(what.stream.len()),
            num_bo_handles: count(what.handles.len()),
            fence_fd: -1,
            ring_idx: what.ring.unwrap_or(0),
            syncobj_stride: count(size_of::<ExecbufferSyncobj>()),
            num_in_syncobjs: count(what.waits.len()),
            num_out_syncobjs: count(what.signals.len()),
        };
        let parts =
            [fixed.as_bytes(), what.handles.as_bytes(), what.waits.as_bytes(), what.signals.as_bytes()];
        let call = Call { number: Execbuffer::TABLE.number, bytes: parts.concat().into() };
        let (token, serial) = (self.token(file), self.serial(file));
        let fence = what.fence.then(|| self.fence());
        let attached = what.wait;
        let event = CallEvent { file, call, bulk, token: Some(token), serial, attached, fence_out: fence };
        self.say(DoorEvent::Call(event));
        Some(Submitted { token, serial, fence })
    }

    /// A fence that somebody else will signal, by [`FakeDoor::signal`].
    pub fn foreign_fence(&mut self) -> FenceKey {
        FenceKey(self.fresh())
    }

    /// Signals a foreign fence.
    pub fn signal(&mut self, fence: FenceKey, result: Result<(), Errno>) {
        self.say(DoorEvent::FenceSignalled { fence, result });
    }

    /// `mmap` of an offset that MAP gave.
    pub fn map(&mut self, file: FileId, offset: u64, length: u64) -> Token {
        let token = self.token(file);
        self.say(DoorEvent::Map { file, token, offset, length });
        token
    }

    /// SYNC_IOC_MERGE.
    pub fn merge(&mut self, file: FileId, fences: [Attached; 2]) -> Token {
        let token = self.token(file);
        self.say(DoorEvent::Merge { file, token, fences });
        token
    }

    /// What others get of a buffer from now on.
    pub fn restrict(&mut self, file: FileId, handle: u32, rights: u32) -> Token {
        let token = self.token(file);
        self.say(DoorEvent::Restrict { file, token, handle, rights });
        token
    }

    /// Takes back what others got of a buffer.
    pub fn revoke(&mut self, file: FileId, handle: u32) -> Token {
        let token = self.token(file);
        self.say(DoorEvent::Revoke { file, token, handle });
        token
    }

    /// No descriptor of an exported buffer is left. Reports it if the scheme wants to know.
    pub fn drop_export(&mut self, export: ExportKey) {
        if locked(&self.ledger).watched.remove(&export) {
            self.say(DoorEvent::ExportUnused { export });
        }
    }

    /// Exports that the scheme wants to know the end of.
    pub fn watched(&self) -> Vec<ExportKey> {
        locked(&self.ledger).watched.iter().copied().collect()
    }

    /// Takes the exports whose callers had left before the descriptor came.
    pub fn take_orphans(&mut self) -> Vec<ExportKey> {
        std::mem::take(&mut locked(&self.ledger).orphans)
    }

    /// No descriptor of an exported synchronisation object is left.
    pub fn drop_syncobj(&mut self, syncobj: SyncobjKey) {
        self.say(DoorEvent::SyncobjUnused { syncobj });
    }

    /// Takes what a file has to read, in order.
    pub fn events(&mut self, file: FileId) -> Vec<Vec<u8>> {
        let events = &mut locked(&self.ledger).events;
        events.extract_if(.., |(to, _)| *to == file).map(|(_, bytes)| bytes).collect()
    }

    /// Whether the scheme had a file cut off.
    pub fn is_cut_off(&self, file: FileId) -> bool {
        locked(&self.ledger).expelled.contains(&file)
    }

    /// Takes the answer to a call, if it has come.
    pub fn answer(&mut self, token: Token) -> Option<Answer> {
        locked(&self.ledger).answers.remove(&token)
    }

    /// How a fence signalled, if it has.
    pub fn signalled(&self, fence: FenceKey) -> Option<Result<(), Errno>> {
        locked(&self.ledger).fences.get(&fence).copied().flatten()
    }

    /// Up to where all work of a file has retired.
    pub fn retired(&self, file: FileId) -> Serial {
        locked(&self.ledger).reached.get(&file).map_or_else(Serial::default, |reached| reached.complete)
    }

    /// Calls of open files that have not been answered.
    pub fn unanswered(&self) -> usize {
        locked(&self.ledger).open.len()
    }

    /// Fences given out by the door that have not signalled.
    pub fn unsignalled(&self) -> usize {
        locked(&self.ledger).fences.values().filter(|result| result.is_none()).count()
    }

    /// What the scheme did that no door expects.
    pub fn offences(&self) -> Vec<String> {
        locked(&self.ledger).offences.clone()
    }

    fn say(&self, event: DoorEvent) {
        if locked(&self.ledger).refuses(&event) {
            return;
        }
        // A scheme that died is reported as a casualty of the stage.
        let _ = self.scheme.send(event);
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn token(&mut self, file: FileId) -> Token {
        let token = Token(self.fresh());
        locked(&self.ledger).open.insert(token, file);
        token
    }

    fn serial(&mut self, file: FileId) -> Serial {
        let serial = self.serials.entry(file).or_default();
        *serial += 1;
        Serial(*serial)
    }

    fn fence(&mut self) -> FenceKey {
        let fence = FenceKey(self.fresh());
        locked(&self.ledger).fences.insert(fence, None);
        fence
    }
}

impl Actor for DoorActor {
    type Message = Message;

    fn handle(&mut self, _: Turn, message: Message) -> Result<(), Fault> {
        if let Message::Command(command) = message {
            let expelled = if let Command::Expel { file } = &command { Some(*file) } else { None };
            aside(|| locked(&self.ledger).hear(command));
            if let Some(file) = expelled {
                // A scheme that died is reported as a casualty of the stage.
                let _ = self.scheme.send(DoorEvent::Closed { file });
            }
        }
        Ok(())
    }

    fn restart(&mut self, _: Restart) -> Result<(), Fault> {
        // Its books are elsewhere.
        Ok(())
    }
}

impl Ledger {
    fn hear(&mut self, command: Command) {
        match command {
            Command::Answer { token, result, attach } => {
                if let Some(Attach::Fence { fence, result: None }) = &attach {
                    self.fences.insert(*fence, None);
                }
                if self.cut_off.contains(&token) {
                    return;
                }
                if self.open.remove(&token).is_some() {
                    self.answers.insert(token, Answer { result, attach });
                } else if self.answers.contains_key(&token) {
                    self.offences.push(format!("{token:?} was answered twice"));
                } else if let Some(Attach::Buffer { export, .. }) = attach {
                    self.orphans.push(export);
                }
            }
            Command::Signal { fence, result } => match self.fences.get_mut(&fence) {
                Some(Some(before)) => {
                    let offence = format!("{fence:?} signalled {before:?} and then {result:?}");
                    self.offences.push(offence);
                }
                Some(signalled) => *signalled = Some(result),
                // One that never left the scheme, or a foreign one.
                None => {}
            },
            Command::Reached { file, reached } => {
                let before = self.reached.insert(file, reached).unwrap_or_default();
                if before.complete > reached.complete || before.executed > reached.executed {
                    self.offences.push(format!("{file:?} went back from {before:?} to {reached:?}"));
                }
            }
            Command::WatchExport { export } => drop(self.watched.insert(export)),
            Command::ForgetExport { export } => drop(self.watched.remove(&export)),
            Command::Event { file, bytes } => self.events.push((file, bytes)),
            Command::Expel { file } => {
                self.expelled.insert(file);
                for (token, _) in self.open.extract_if(.., |_, caller| *caller == file) {
                    self.cut_off.insert(token);
                    self.answers.insert(token, CUT_OFF);
                }
            }
            Command::Hotplug => {}
        }
    }

    /// Whether this comes from a file that is cut off: then a call fails, and nobody hears of it.
    fn refuses(&mut self, event: &DoorEvent) -> bool {
        let (file, token, fence) = match event {
            DoorEvent::Call(call) => (call.file, call.token, call.fence_out),
            DoorEvent::Map { file, token, .. }
            | DoorEvent::Restrict { file, token, .. }
            | DoorEvent::Revoke { file, token, .. }
            | DoorEvent::Merge { file, token, .. } => (*file, Some(*token), None),
            DoorEvent::Closed { file } => (*file, None, None),
            _ => return false,
        };
        let refuses = self.expelled.contains(&file);
        if let Some(token) = token.filter(|_| refuses) {
            self.open.remove(&token);
            self.answers.insert(token, CUT_OFF);
        }
        if let Some(fence) = fence.filter(|_| refuses) {
            self.fences.insert(fence, Some(Err(Errno::EIO)));
        }
        refuses
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
