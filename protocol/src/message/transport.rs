//! What the transport hears. It moves chains of bytes and opens regions of memory; it never looks inside.

use std::fmt;

use virgld_runtime::dma::DmaSlice;
use virgld_runtime::io::Ready;
use virgld_runtime::link::{Link, Region, RegionId};
use virgld_runtime::{Interface, Respond, words};

use crate::ids::Token;

/// Index of the control queue (virtio 1.2, section 5.7.2).
pub const CONTROL_QUEUE: u16 = 0;
/// Index of the cursor queue.
pub const CURSOR_QUEUE: u16 = 1;

/// Bytes at the start of every command's slice that belong to the transport: it builds the descriptor table of
/// an indirect chain there.
pub const TABLE_BYTES: usize = 64;

/// Everything the transport hears.
#[derive(Debug)]
pub enum Message {
    /// From a queue's owner.
    Publish(Publish),
    /// From the resource actor.
    Region(RegionRequest),
    /// From the reactor.
    Ready(Ready),
    /// From whoever connects to devices.
    Attach(NewLink),
    /// From whoever waits for answers in vain.
    Condemn(Complaint),
    /// From the daemon itself.
    Report(Respond<Report>),
}

words!(Message {
    "Publish" => Self::Publish(_),
    "Region.Open" => Self::Region(RegionRequest::Open { .. }),
    "Region.Show" => Self::Region(RegionRequest::Show { .. }),
    "Region.Hide" => Self::Region(RegionRequest::Hide { .. }),
    "Region.Close" => Self::Region(RegionRequest::Close { .. }),
    "Ready" => Self::Ready(_),
    "Attach" => Self::Attach(_),
    "Condemn" => Self::Condemn(_),
    "Report" => Self::Report(_),
}
    fn twin(&self) -> Option<Self> {
        match self {
            Self::Ready(ready) => Some(Self::Ready(*ready)),
            Self::Condemn(complaint) => Some(Self::Condemn(complaint.clone())),
            _ => None,
        }
    }
);

impl Event {
    /// Makes a command that came back one that came back without an answer.
    pub(super) fn corrupt(&mut self) -> bool {
        if let Self::Returned { written, .. } = self { core::mem::take(written) > 0 } else { false }
    }

    /// The same, if it can be said twice.
    pub(super) fn again(&self) -> Option<Self> {
        if let Self::ConfigurationChanged = self { Some(Self::ConfigurationChanged) } else { None }
    }
}

/// A device that is ready for use, in place of any that was there.
pub struct NewLink(pub Box<dyn Link>);

impl fmt::Debug for NewLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NewLink")
    }
}

/// The transport's account.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Whether there is a device.
    pub up: bool,
    /// Why there is none.
    pub down_reason: Option<String>,
    /// Negotiated features.
    pub features: u64,
    /// Entries of the control queue.
    pub queue_size: u16,
    /// Chains that the device has, of both queues.
    pub in_flight: usize,
    /// Chains that wait for room in a queue.
    pub waiting: usize,
    /// Kicks.
    pub kicks: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Notifications of nothing new, while somebody waited.
    pub urges: u64,
    /// Used elements that no interrupt told of.
    pub lost_interrupts: u64,
    /// Used elements whose length was larger than their buffer.
    pub exaggerations: u64,
    /// Commands that the cursor queue's owner gave: of many moves the newest.
    pub cursor_commands: u64,
}

/// One command for the device: given up until it comes back as [`Event::Returned`].
///
/// ```compile_fail,E0382
/// # use virgld_protocol::message::transport::{ControlQueue, Publish};
/// # use virgld_runtime::Cap;
/// fn keep_what_the_device_has(transport: &Cap<ControlQueue>, publish: Publish) {
///     let _ = transport.send(publish);
///     let _ = publish.slice.write(0, &[1]);
/// }
/// ```
#[derive(Debug)]
pub struct Publish {
    /// The queue's index.
    pub queue: u16,
    /// Comes back with the command.
    pub cookie: u32,
    /// The bytes. The first [`TABLE_BYTES`] are the transport's.
    pub slice: DmaSlice,
    /// The part that the device reads: offset and length.
    pub request: (u32, u32),
    /// The part that the device writes: offset and length; length 0 for none.
    pub response: (u32, u32),
    /// Whether somebody waits for it, so that the device may be urged.
    pub awaited: bool,
}

/// What the transport tells a queue's owner.
#[derive(Debug)]
pub enum Event {
    /// The device is ready for commands. It has forgotten whatever it knew.
    Up {
        /// The device features that were negotiated.
        features: u64,
        /// The configuration space.
        configuration: Vec<u8>,
    },
    /// A command is back.
    Returned {
        /// The one published with this cookie.
        cookie: u32,
        /// Its bytes.
        slice: DmaSlice,
        /// Bytes that the device says it wrote, at most what there was room for.
        written: u32,
    },
    /// The device will never answer a command. Its bytes are kept until no device can write them any more.
    Lost {
        /// The one published with this cookie.
        cookie: u32,
    },
    /// The device is gone, or broke its word; nothing can be published until it is up again.
    Down {
        /// What happened.
        reason: String,
    },
    /// The device's configuration changed.
    ConfigurationChanged,
}

/// Which device, in the order in which they were attached, from 1 on. Each is said to be lost once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// What the transport tells whoever looks after the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEvent {
    /// Which device it is about. What is told of an earlier one than is known already is old news.
    pub generation: Generation,
    /// What has become of it.
    pub news: DeviceNews,
}

/// What becomes of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceNews {
    /// It is ready for commands, with all the memory that the one before had.
    Up,
    /// It is gone, or broke its word: another is needed.
    Lost {
        /// What happened.
        reason: String,
        /// Whether it had been ready.
        was_up: bool,
    },
    /// It is still gone, and no other is ready. Said again and again, so that no single word decides whether there is ever
    /// another.
    Away {
        /// What had happened.
        reason: String,
        /// Whether it had been ready.
        was_up: bool,
    },
}

/// The device does not do its work: it counts as lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What it did, or did not.
    pub reason: String,
}

/// What the resource actor asks about memory.
#[derive(Debug)]
pub enum RegionRequest {
    /// A region of so many bytes, zeroed.
    Open {
        /// Comes back with the answer.
        token: Token,
        /// Bytes, a multiple of the page size.
        bytes: usize,
        /// Whether a region that the device cannot reach will do as well.
        device_optional: bool,
    },
    /// The device is about to be told of memory: it must be able to reach it when it is. It may be able already, to exactly
    /// this, of a buffer that had the memory before.
    Show {
        /// The region that it lies in.
        id: RegionId,
        /// The first byte; at a page.
        offset: usize,
        /// Whole pages.
        length: usize,
    },
    /// The device has forgotten memory that was shown to it, and the next to have it is not about to come.
    Hide {
        /// As shown.
        id: RegionId,
        /// As shown.
        offset: usize,
        /// As shown.
        length: usize,
    },
    /// The region is not needed any more: nothing on the device refers to it.
    Close {
        /// Which.
        id: RegionId,
    },
}

/// What the transport answers about memory.
#[derive(Debug)]
pub enum RegionEvent {
    /// Here it is.
    Opened {
        /// As asked.
        token: Token,
        /// The region.
        region: Region,
    },
    /// There is no memory for it. The loss of a device is no reason: the next is asked.
    Refused {
        /// As asked.
        token: Token,
    },
}

/// What the control queue's owner may say: publish, and only on that queue.
pub struct ControlQueue;

impl Interface for ControlQueue {
    type Message = Publish;
    type Whole = Message;
    const NAME: &'static str = "transport::ControlQueue";

    fn widen(publish: Publish) -> Message {
        Message::Publish(Publish { queue: CONTROL_QUEUE, ..publish })
    }
}

/// What the cursor queue's owner may say: publish, and only on that queue.
pub struct CursorQueue;

impl Interface for CursorQueue {
    type Message = Publish;
    type Whole = Message;
    const NAME: &'static str = "transport::CursorQueue";

    fn widen(publish: Publish) -> Message {
        Message::Publish(Publish { queue: CURSOR_QUEUE, ..publish })
    }
}

/// What the resource actor may say.
pub struct Regions;

impl Interface for Regions {
    type Message = RegionRequest;
    type Whole = Message;
    const NAME: &'static str = "transport::Regions";

    fn widen(request: RegionRequest) -> Message {
        Message::Region(request)
    }
}

/// What may be said against the device.
pub struct Complaints;

impl Interface for Complaints {
    type Message = Complaint;
    type Whole = Message;
    const NAME: &'static str = "transport::Complaints";

    fn widen(complaint: Complaint) -> Message {
        Message::Condemn(complaint)
    }
}

/// How the reactor reports readiness.
pub struct FromReactor;

impl Interface for FromReactor {
    type Message = Ready;
    type Whole = Message;
    const NAME: &'static str = "transport::FromReactor";

    fn widen(message: Ready) -> Message {
        Message::Ready(message)
    }
}

/// What whoever connects to devices may say.
pub struct Devices;

impl Interface for Devices {
    type Message = NewLink;
    type Whole = Message;
    const NAME: &'static str = "transport::Devices";

    fn widen(link: NewLink) -> Message {
        Message::Attach(link)
    }
}

/// What the daemon may ask.
pub struct FromDaemon;

impl Interface for FromDaemon {
    type Message = Respond<Report>;
    type Whole = Message;
    const NAME: &'static str = "transport::FromDaemon";

    fn widen(message: Respond<Report>) -> Message {
        Message::Report(message)
    }
}
