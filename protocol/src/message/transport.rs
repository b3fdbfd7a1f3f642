//! What the transport hears. It moves chains of bytes and opens regions of memory; it never looks inside.

use virgld_runtime::Interface;
use virgld_runtime::dma::DmaSlice;
use virgld_runtime::io::Ready;
use virgld_runtime::link::{Region, RegionId};

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
}

/// One command for the device: given up until it comes back as [`Event::Returned`].
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
    /// A command is back that the device will never answer.
    Lost {
        /// The one published with this cookie.
        cookie: u32,
        /// Its bytes.
        slice: DmaSlice,
    },
    /// The device is gone, or broke its word; nothing can be published until it is up again.
    Down {
        /// What happened.
        reason: String,
    },
    /// The device's configuration changed.
    ConfigurationChanged,
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
    /// There is no memory for it.
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
