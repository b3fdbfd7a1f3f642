//! What the scheme actor hears: from the doors, from the contexts and from the resource actor.

use virgld_runtime::dma::DmaSlice;
use virgld_runtime::{Interface, Respond, words};

use super::display::Notice as DisplayNotice;
use super::live::Inventory;
use super::resource::Notice as ResourceNotice;
use super::spoil;
use crate::client::{Call, is_asynchronous};
use crate::errno::Errno;
use crate::ids::{FenceKey, FileId, ResourceId, Serial, Token};

/// Everything the scheme hears.
#[derive(Debug)]
pub enum Message {
    /// From a door.
    Door(DoorEvent),
    /// From the context of a file; the badge says which.
    Context(ContextNotice),
    /// From the resource actor.
    Resource(ResourceNotice),
    /// From the display.
    Display(DisplayNotice),
    /// From the daemon itself.
    Service(Service),
}

words!(Message {
    "Door.Opened" => Self::Door(DoorEvent::Opened { .. }),
    "Door.Closed" => Self::Door(DoorEvent::Closed { .. }),
    "Door.Call" => Self::Door(DoorEvent::Call(_)),
    "Door.Map" => Self::Door(DoorEvent::Map { .. }),
    "Door.Restrict" => Self::Door(DoorEvent::Restrict { .. }),
    "Door.Revoke" => Self::Door(DoorEvent::Revoke { .. }),
    "Door.Merge" => Self::Door(DoorEvent::Merge { .. }),
    "Door.FenceSignalled" => Self::Door(DoorEvent::FenceSignalled { .. }),
    "Door.ExportUnused" => Self::Door(DoorEvent::ExportUnused { .. }),
    "Door.SyncobjUnused" => Self::Door(DoorEvent::SyncobjUnused { .. }),
    "Context.Completed" => Self::Context(ContextNotice::Completed { .. }),
    "Context.Reached" => Self::Context(ContextNotice::Reached(_)),
    "Context.Detached" => Self::Context(ContextNotice::Detached { .. }),
    "Context.Expelled" => Self::Context(ContextNotice::Expelled),
    "Context.Lost" => Self::Context(ContextNotice::Lost),
    "Context.Revived" => Self::Context(ContextNotice::Revived),
    "Context.Unjournaled" => Self::Context(ContextNotice::Unjournaled { .. }),
    "Context.Ended" => Self::Context(ContextNotice::Ended),
    "Resource.DeviceUp" => Self::Resource(ResourceNotice::DeviceUp { .. }),
    "Resource.DeviceDown" => Self::Resource(ResourceNotice::DeviceDown),
    "Resource.Created" => Self::Resource(ResourceNotice::Created { .. }),
    "Resource.Isolated" => Self::Resource(ResourceNotice::Isolated { .. }),
    "Resource.Refused" => Self::Resource(ResourceNotice::Refused { .. }),
    "Resource.Failed" => Self::Resource(ResourceNotice::Failed { .. }),
    "Display.Answered" => Self::Display(DisplayNotice::Answered { .. }),
    "Display.Event" => Self::Display(DisplayNotice::Event { .. }),
    "Display.Await" => Self::Display(DisplayNotice::Await { .. }),
    "Display.AwaitFence" => Self::Display(DisplayNotice::AwaitFence { .. }),
    "Display.Replugged" => Self::Display(DisplayNotice::Replugged),
    "Display.Signal" => Self::Display(DisplayNotice::Signal { .. }),
    "Display.Held" => Self::Display(DisplayNotice::Held { .. }),
    "Display.Let" => Self::Display(DisplayNotice::Let { .. }),
    "Service.ContextDied" => Self::Service(Service::ContextDied { .. }),
    "Service.Report" => Self::Service(Service::Report(_)),
}
    fn twin(&self) -> Option<Self> {
        match self {
            Self::Door(DoorEvent::FenceSignalled { fence, result }) => {
                Some(Self::Door(DoorEvent::FenceSignalled { fence: *fence, result: *result }))
            }
            Self::Context(ContextNotice::Reached(reached)) => {
                Some(Self::Context(ContextNotice::Reached(*reached)))
            }
            Self::Context(ContextNotice::Completed { serial, result, reached }) => {
                let (serial, result, reached) = (*serial, *result, *reached);
                Some(Self::Context(ContextNotice::Completed { serial, result, reached }))
            }
            _ => None,
        }
    }

    fn corrupt(&mut self) -> bool {
        match self {
            Self::Door(DoorEvent::FenceSignalled { result, .. })
            | Self::Context(ContextNotice::Completed { result, .. }) => spoil(result),
            _ => false,
        }
    }

    fn refuse(&mut self) -> bool {
        let Self::Door(DoorEvent::Call(event)) = self else { return false };
        // Calls that are not waited for have a place in the order of their file, which the number decides.
        let waited_for = event.token.is_some() && !is_asynchronous(event.call.number);
        if waited_for {
            event.call.number = NO_CALL;
        }
        waited_for
    }
);

/// No ioctl has this number.
const NO_CALL: u8 = 0xff;

/// Which node was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// `card0`: rendering and mode setting.
    Card,
    /// `renderD128`: rendering only.
    Render,
}

/// Who opened it, as the kernel tells (`SO_PEERCRED`, Redox's `CallerCtx`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A descriptor that came with a call, as the door recognised it. Whoever holds a descriptor was given it by
/// the kernel, so a recognised one is authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// A buffer that the scheme exported under this key.
    Buffer(ExportKey),
    /// One of our fences, signalled or not.
    Fence(FenceKey),
    /// A fence of somebody else's, which the door watches from now on: reported once, later, by
    /// [`DoorEvent::FenceSignalled`].
    ForeignFence(FenceKey),
    /// A synchronisation object that the scheme exported under this key.
    Syncobj(SyncobjKey),
    /// Nothing known here.
    Unknown,
}

/// Names an exported buffer between scheme and door; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportKey(pub u64);

/// Names an exported synchronisation object between scheme and door; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncobjKey(pub u64);

/// What a door saw.
#[derive(Debug)]
pub enum DoorEvent {
    /// A node was opened.
    Opened {
        /// The new file.
        file: FileId,
        /// Which node.
        node: Node,
        /// By whom.
        credentials: Credentials,
    },
    /// The last descriptor of a file is gone. Nothing about it comes after this.
    Closed {
        /// The file.
        file: FileId,
    },
    /// An ioctl.
    Call(CallEvent),
    /// `mmap` of an offset that MAP gave: which memory is that?
    Map {
        /// The file.
        file: FileId,
        /// To be answered with [`super::door::Attach::Memory`].
        token: Token,
        /// The offset.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// From now on, who imports the buffer gets no more than these rights.
    Restrict {
        /// The file that made the buffer.
        file: FileId,
        /// To be answered.
        token: Token,
        /// The handle.
        handle: u32,
        /// [`crate::rights::Rights`], as the client wrote them.
        rights: u32,
    },
    /// All that was derived from a handle is to be no more.
    Revoke {
        /// The file that made the buffer.
        file: FileId,
        /// To be answered, when nobody else can use the buffer.
        token: Token,
        /// The handle.
        handle: u32,
    },
    /// A fence is wanted that signals when both have.
    Merge {
        /// The file through which it was asked.
        file: FileId,
        /// To be answered with [`super::door::Attach::Fence`].
        token: Token,
        /// The two.
        fences: [Attached; 2],
    },
    /// A foreign fence that the door watched has signalled.
    FenceSignalled {
        /// Which.
        fence: FenceKey,
        /// Whether well.
        result: Result<(), Errno>,
    },
    /// No descriptor of an exported buffer is left outside the daemon.
    ExportUnused {
        /// Which.
        export: ExportKey,
    },
    /// No descriptor of an exported synchronisation object is left outside the daemon.
    SyncobjUnused {
        /// Which.
        syncobj: SyncobjKey,
    },
}

/// An ioctl as a door took it from a client.
#[derive(Debug)]
pub struct CallEvent {
    /// The file it was made on.
    pub file: FileId,
    /// The call.
    pub call: Call,
    /// Its bulk array (the command stream of EXECBUFFER), copied once, at [`super::ctrlq::STREAM_OFFSET`] of
    /// device memory; its length is what the call's count says.
    pub bulk: Option<DmaSlice>,
    /// The answer that is wanted; none if the client does not wait for one.
    pub token: Option<Token>,
    /// Where in the file's order of asynchronous work this is: reported back by [`super::door::Command::Reached`]
    /// if the call is EXECBUFFER or a transfer, whether it succeeds or not.
    pub serial: Serial,
    /// The descriptor that came with it.
    pub attached: Option<Attached>,
    /// The fence, given in advance, that the caller wants signalled.
    pub fence_out: Option<FenceKey>,
}

/// What a context tells the scheme. The badge of the message is the file.
#[derive(Debug)]
pub enum ContextNotice {
    /// One piece of work is complete, perhaps ahead of its predecessors.
    Completed {
        /// Which.
        serial: Serial,
        /// Whether the device executed it.
        result: Result<(), Errno>,
        /// How far all work is.
        reached: Reached,
    },
    /// Work that nobody is to be told of singly has gone on.
    Reached(Reached),
    /// No later work of this context can name the resource.
    Detached {
        /// Which.
        resource: ResourceId,
    },
    /// The context leaves the device, since it had something of a buffer that was revoked. It is lost, as is told next.
    Expelled,
    /// The context was lost: its work fails from now on.
    Lost,
    /// The device was lost, and the context is being made anew on the next: what was under way has failed, what comes is
    /// done.
    Revived,
    /// The context will not outlive its device after all.
    Unjournaled {
        /// Why.
        why: &'static str,
    },
    /// The last of its work is on its way, and it leaves the device.
    Ended,
}

/// How far the work of a context is. Neither mark ever goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// The device has been through all work up to here: it reads and writes no memory for it any more, but for
    /// the results of queries.
    pub executed: Serial,
    /// All work up to here has taken effect.
    pub complete: Serial,
}

/// What the daemon asks.
#[derive(Debug)]
pub enum Service {
    /// The context actor of a file died; what it had under way will not be heard of.
    ContextDied {
        /// The file.
        file: FileId,
    },
    /// Describe what there is.
    Report(Respond<Report>),
}

/// The scheme's account.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One entry per open file.
    pub files: Vec<FileReport>,
    /// Buffers that some file names, or that are exported.
    pub buffers: usize,
    /// Synchronisation objects.
    pub syncobjs: usize,
    /// Fences that have not signalled.
    pub fences: usize,
    /// Calls and work that an actor never answered, and that were given up.
    pub silences: u64,
    /// Files, exported buffers, synchronisation objects, fences and work under way.
    pub live: Inventory,
    /// Who had the files that were closed last: what others keep may be theirs.
    pub departed: Vec<(FileId, Credentials)>,
}

/// One open file.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// The file.
    pub file: FileId,
    /// Which node.
    pub node: Node,
    /// Who opened it.
    pub credentials: Credentials,
    /// Whether it has a GL context.
    pub context: bool,
    /// Whether the device has lost that: what the file draws comes to nothing.
    pub lost: bool,
    /// Whether that was because it had something of a buffer that was revoked.
    pub expelled: bool,
    /// How many devices its context has outlived.
    pub revivals: u32,
    /// Why it would not outlive another, though it was to.
    pub unjournaled: Option<&'static str>,
    /// GEM handles.
    pub handles: usize,
    /// Of these, for buffers that another file made and shared.
    pub derived: usize,
    /// Handles of synchronisation objects.
    pub syncobjs: usize,
    /// Calls that failed after they were accepted.
    pub errors: u64,
}

/// What a door may say.
pub struct FromDoor;

impl Interface for FromDoor {
    type Message = DoorEvent;
    type Whole = Message;
    const NAME: &'static str = "scheme::FromDoor";

    fn widen(message: DoorEvent) -> Message {
        Message::Door(message)
    }
}

/// What a context may say.
pub struct FromContext;

impl Interface for FromContext {
    type Message = ContextNotice;
    type Whole = Message;
    const NAME: &'static str = "scheme::FromContext";

    fn widen(message: ContextNotice) -> Message {
        Message::Context(message)
    }
}

/// What the resource actor may say.
pub struct FromResource;

impl Interface for FromResource {
    type Message = ResourceNotice;
    type Whole = Message;
    const NAME: &'static str = "scheme::FromResource";

    fn widen(message: ResourceNotice) -> Message {
        Message::Resource(message)
    }
}

/// What the display may say.
pub struct FromDisplay;

impl Interface for FromDisplay {
    type Message = DisplayNotice;
    type Whole = Message;
    const NAME: &'static str = "scheme::FromDisplay";

    fn widen(message: DisplayNotice) -> Message {
        Message::Display(message)
    }
}

/// What the daemon may ask.
pub struct FromDaemon;

impl Interface for FromDaemon {
    type Message = Service;
    type Whole = Message;
    const NAME: &'static str = "scheme::FromDaemon";

    fn widen(message: Service) -> Message {
        Message::Service(message)
    }
}
