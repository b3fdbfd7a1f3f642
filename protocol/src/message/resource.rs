//! What the resource actor hears. It holds the truth on resources: their numbers, their memory, who pays for them.

use std::sync::Arc;

use virgld_runtime::link::Region;
use virgld_runtime::{Interface, Respond, words};

use super::ctrlq::{CapsetInfo, Description, ResourceEvent, Surface};
use super::live::Inventory;
use super::spoil;
use super::transport::RegionEvent;
use crate::errno::Errno;
use crate::ids::{FileId, ResourceId, Token, UserId};

/// Everything the resource actor hears.
#[derive(Debug)]
pub enum Message {
    /// From the scheme.
    Scheme(Request),
    /// From the display.
    Display(ReadBack),
    /// From the control queue.
    Control(ResourceEvent),
    /// From the transport.
    Region(RegionEvent),
    /// From the daemon itself.
    Report(Respond<Report>),
}

words!(Message {
    "Scheme.Create" => Self::Scheme(Request::Create { .. }),
    "Scheme.Isolate" => Self::Scheme(Request::Isolate { .. }),
    "Scheme.Move" => Self::Scheme(Request::Move { .. }),
    "Scheme.Release" => Self::Scheme(Request::Release { .. }),
    "Scheme.Withdraw" => Self::Scheme(Request::Withdraw { .. }),
    "Scheme.Retire" => Self::Scheme(Request::Retire { .. }),
    "Display.ReadBack" => Self::Display(_),
    "Control.Up" => Self::Control(ResourceEvent::Up { .. }),
    "Control.Down" => Self::Control(ResourceEvent::Down),
    "Control.Failed" => Self::Control(ResourceEvent::Failed { .. }),
    "Control.Unreferenced" => Self::Control(ResourceEvent::Unreferenced { .. }),
    "Control.Fetched" => Self::Control(ResourceEvent::Fetched { .. }),
    "Control.CapsetInfo" => Self::Control(ResourceEvent::CapsetInfo { .. }),
    "Control.Capset" => Self::Control(ResourceEvent::Capset { .. }),
    "Transport.Opened" => Self::Region(RegionEvent::Opened { .. }),
    "Transport.Refused" => Self::Region(RegionEvent::Refused { .. }),
    "Report" => Self::Report(_),
}
    fn corrupt(&mut self) -> bool {
        match self {
            Self::Control(ResourceEvent::Fetched { result, .. }) => spoil(result),
            Self::Control(ResourceEvent::CapsetInfo { result, .. }) => spoil(result),
            Self::Control(ResourceEvent::Capset { result, .. }) => spoil(result),
            _ => false,
        }
    }

    fn refuse(&mut self) -> bool {
        let Self::Scheme(Request::Create { bytes, .. }) = self else { return false };
        // More than any quota.
        *bytes = u64::MAX;
        true
    }
);

/// What the scheme asks about resources.
#[derive(Debug)]
pub enum Request {
    /// Make one.
    Create {
        /// Comes back with the answer.
        token: Token,
        /// Who pays.
        owner: FileId,
        /// Whose file that is: who pays with all files together.
        user: UserId,
        /// What it is.
        shape: Shape,
        /// Bytes of memory behind it.
        bytes: u64,
        /// Whether it is likely to be shared: then its memory is its own, not a part of its owner's arena.
        shareable: bool,
    },
    /// Move its memory out of the owner's arena, so that it can be shared.
    Isolate {
        /// Comes back with the answer.
        token: Token,
        /// Which.
        resource: ResourceId,
    },
    /// Move its memory, which is its own, to where nobody has seen it: what was shared is shared no more.
    /// Answered with [`Notice::Isolated`].
    Move {
        /// Comes back with the answer.
        token: Token,
        /// Which.
        resource: ResourceId,
    },
    /// Nobody names it any more.
    Release {
        /// Which.
        resource: ResourceId,
    },
    /// Nobody waits for what was asked any more, and nobody has heard of an answer: what was made goes.
    Withdraw {
        /// Which [`Request::Create`].
        token: Token,
    },
    /// The file is closed: its arena goes as soon as the last resource in it has.
    Retire {
        /// Which.
        owner: FileId,
    },
}

/// What a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A 3D resource.
    Texture(Description),
    /// A 2D resource: a dumb buffer.
    Flat(Surface),
}

/// The display wants the pixels of a resource that are on the host only; answered by [`super::display::ReadBack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBack {
    /// Comes back with the answer.
    pub token: Token,
    /// Which. Its first level, four bytes a texel.
    pub resource: ResourceId,
}

/// What the resource actor tells the scheme.
#[derive(Debug)]
pub enum Notice {
    /// The device is there.
    DeviceUp {
        /// Negotiated feature bits.
        features: u64,
        /// Its capability sets.
        capsets: Vec<Capset>,
    },
    /// The device is gone; all contexts with it.
    DeviceDown,
    /// A resource was made.
    Created {
        /// As asked.
        token: Token,
        /// Its number.
        resource: ResourceId,
        /// Its memory.
        backing: Backing,
    },
    /// A resource's memory is its own now.
    Isolated {
        /// As asked.
        token: Token,
        /// Which.
        resource: ResourceId,
        /// Its memory.
        backing: Backing,
    },
    /// Something that was asked for can't be had.
    Refused {
        /// As asked.
        token: Token,
        /// Why.
        errno: Errno,
    },
    /// The device refused a resource that was already handed out: what names it draws nothing.
    Failed {
        /// Which.
        resource: ResourceId,
        /// Why.
        errno: Errno,
    },
}

/// A capability set of the host renderer.
#[derive(Debug, Clone)]
pub struct Capset {
    /// Its number and newest version.
    pub info: CapsetInfo,
    /// Its contents.
    pub bytes: Arc<[u8]>,
}

/// The memory behind a resource.
#[derive(Debug, Clone)]
pub struct Backing {
    /// The region that it is part of.
    pub region: Region,
    /// Where in the region.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Whether the region holds nothing else.
    pub isolated: bool,
    /// Where the device has the bytes, if it cannot reach the region: what one side writes must be copied to the
    /// other.
    pub device: Option<Place>,
}

/// A place in memory that the device reaches and no client does.
#[derive(Debug, Clone)]
pub struct Place {
    /// The region.
    pub region: Region,
    /// Where in it.
    pub offset: u64,
}

/// The resource actor's account.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Every resource that the device knows or is about to.
    pub resources: Vec<ResourceReport>,
    /// Regions of memory.
    pub regions: usize,
    /// Resources and arenas.
    pub live: Inventory,
}

/// One resource.
#[derive(Debug, Clone)]
pub struct ResourceReport {
    /// Its number.
    pub resource: ResourceId,
    /// Who pays.
    pub owner: FileId,
    /// Bytes of memory behind it.
    pub bytes: u64,
    /// Bytes that the daemon keeps besides, as the device cannot reach those.
    pub copied_bytes: u64,
    /// Whether it only waits for the device to forget it.
    pub released: bool,
}

/// What the scheme may say.
pub struct FromScheme;

impl Interface for FromScheme {
    type Message = Request;
    type Whole = Message;
    const NAME: &'static str = "resource::FromScheme";

    fn widen(message: Request) -> Message {
        Message::Scheme(message)
    }
}

/// What the display may say.
pub struct FromDisplay;

impl Interface for FromDisplay {
    type Message = ReadBack;
    type Whole = Message;
    const NAME: &'static str = "resource::FromDisplay";

    fn widen(message: ReadBack) -> Message {
        Message::Display(message)
    }
}

/// What the control queue may say.
pub struct FromControl;

impl Interface for FromControl {
    type Message = ResourceEvent;
    type Whole = Message;
    const NAME: &'static str = "resource::FromControl";

    fn widen(message: ResourceEvent) -> Message {
        Message::Control(message)
    }
}

/// What the transport may say.
pub struct FromTransport;

impl Interface for FromTransport {
    type Message = RegionEvent;
    type Whole = Message;
    const NAME: &'static str = "resource::FromTransport";

    fn widen(message: RegionEvent) -> Message {
        Message::Region(message)
    }
}

/// What the daemon may ask.
pub struct FromDaemon;

impl Interface for FromDaemon {
    type Message = Respond<Report>;
    type Whole = Message;
    const NAME: &'static str = "resource::FromDaemon";

    fn widen(message: Respond<Report>) -> Message {
        Message::Report(message)
    }
}
