//! What a door hears from the scheme. A door is where clients come in: on Linux sockets and shared memory, on
//! Redox a scheme.

use std::fmt;
use std::sync::Arc;

use virgld_runtime::memory::Memory;
use virgld_runtime::{Interface, io::Ready, words};

use super::scheme::{ExportKey, Reached, SyncobjKey};
use super::spoil;
use crate::channel::Mapped;
use crate::client::Reply;
use crate::errno::Errno;
use crate::ids::{FenceKey, FileId, Token};

/// Everything a door hears.
#[derive(Debug)]
pub enum Message {
    /// From the scheme.
    Command(Command),
    /// From the reactor.
    Ready(Ready),
}

words!(Message {
    "Scheme.Answer" => Self::Command(Command::Answer { .. }),
    "Scheme.Signal" => Self::Command(Command::Signal { .. }),
    "Scheme.Reached" => Self::Command(Command::Reached { .. }),
    "Scheme.WatchExport" => Self::Command(Command::WatchExport { .. }),
    "Scheme.ForgetExport" => Self::Command(Command::ForgetExport { .. }),
    "Scheme.Event" => Self::Command(Command::Event { .. }),
    "Scheme.Hotplug" => Self::Command(Command::Hotplug),
    "Scheme.Expel" => Self::Command(Command::Expel { .. }),
    "Ready" => Self::Ready(_),
}
    fn twin(&self) -> Option<Self> {
        match self {
            Self::Command(Command::Reached { file, reached }) => {
                Some(Self::Command(Command::Reached { file: *file, reached: *reached }))
            }
            Self::Command(Command::Hotplug) => Some(Self::Command(Command::Hotplug)),
            Self::Ready(ready) => Some(Self::Ready(*ready)),
            Self::Command(_) => None,
        }
    }

    fn corrupt(&mut self) -> bool {
        match self {
            // One that carries a descriptor is more than a report.
            Self::Command(Command::Answer { result, attach: None, .. }) => spoil(result),
            Self::Command(Command::Signal { result, .. }) => spoil(result),
            _ => false,
        }
    }
);

/// What the scheme asks of a door.
#[derive(Debug)]
pub enum Command {
    /// Answers a call.
    Answer {
        /// Which.
        token: Token,
        /// The outcome.
        result: Result<Reply, Errno>,
        /// What goes with it.
        attach: Option<Attach>,
    },
    /// A fence has signalled: every descriptor for it becomes readable. A fence that signalled with an error says
    /// so in its status.
    Signal {
        /// Which.
        fence: FenceKey,
        /// How.
        result: Result<(), Errno>,
    },
    /// The asynchronous work of a file has gone on. What is complete has retired.
    Reached {
        /// The file.
        file: FileId,
        /// How far it is.
        reached: Reached,
    },
    /// Nothing in the daemon needs this exported buffer any more: report
    /// [`super::scheme::DoorEvent::ExportUnused`] as soon as nobody outside holds a descriptor of it.
    WatchExport {
        /// Which.
        export: ExportKey,
    },
    /// Forget an export that was reported unused.
    ForgetExport {
        /// Which.
        export: ExportKey,
    },
    /// Bytes to be read from the DRM file (events).
    Event {
        /// The file.
        file: FileId,
        /// One event, whole.
        bytes: Vec<u8>,
    },
    /// What is connected to the screens is not what it was: everybody who watches for that is to be told.
    Hotplug,
    /// The file has broken the rules: cut it off.
    Expel {
        /// The file.
        file: FileId,
    },
}

/// A descriptor to pass to a client.
pub enum Attach {
    /// A buffer. The descriptor's memory is `memory` and nothing else.
    Buffer {
        /// By which an import will name it.
        export: ExportKey,
        /// What it gives access to.
        memory: Arc<dyn Memory>,
    },
    /// A fence.
    Fence {
        /// Which.
        fence: FenceKey,
        /// Set if it has signalled already.
        result: Option<Result<(), Errno>>,
    },
    /// A synchronisation object.
    Syncobj(SyncobjKey),
    /// Memory to map, and how.
    Memory {
        /// The memory.
        memory: Arc<dyn Memory>,
        /// Where in it.
        mapped: Mapped,
    },
}

impl fmt::Debug for Attach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer { export, .. } => write!(formatter, "Buffer({export:?})"),
            Self::Fence { fence, result } => write!(formatter, "Fence({fence:?}, {result:?})"),
            Self::Syncobj(syncobj) => write!(formatter, "Syncobj({syncobj:?})"),
            Self::Memory { mapped, .. } => write!(formatter, "Memory({mapped:?})"),
        }
    }
}

/// What the scheme may say to a door.
pub struct FromScheme;

impl Interface for FromScheme {
    type Message = Command;
    type Whole = Message;
    const NAME: &'static str = "door::FromScheme";

    fn widen(message: Command) -> Message {
        Message::Command(message)
    }
}

/// How the reactor reports readiness.
pub struct FromReactor;

impl Interface for FromReactor {
    type Message = Ready;
    type Whole = Message;
    const NAME: &'static str = "door::FromReactor";

    fn widen(message: Ready) -> Message {
        Message::Ready(message)
    }
}
