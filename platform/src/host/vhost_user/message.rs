//! The words of vhost-user, as far as a frontend for virtio-gpu speaks them.
//!
//! Integers are in the byte order of the machine, which both ends share. Source: QEMU,
//! docs/interop/vhost-user.rst, "Message Specification".

use std::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::error::Malformed;

/// What a message asks. Any number may arrive from the device; the named ones are sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Request(pub u32);

macro_rules! requests {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        #[allow(missing_docs, reason = "the macro documents each")]
        impl Request {
            $(#[doc = $doc] pub const $name: Self = Self($number);)*

            fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

requests! {
    GET_FEATURES = 1, "What the device offers.";
    SET_FEATURES = 2, "What is used of it.";
    SET_OWNER = 3, "Begins the session.";
    SET_MEM_TABLE = 5, "Gives all memory regions at once.";
    SET_VRING_NUM = 8, "Sets a queue's entries.";
    SET_VRING_ADDR = 9, "Sets where a queue lies.";
    SET_VRING_BASE = 10, "Sets a queue's first available index.";
    SET_VRING_KICK = 12, "Gives the eventfd that tells the device of new buffers.";
    SET_VRING_CALL = 13, "Gives the eventfd by which the device tells of used buffers.";
    SET_VRING_ERR = 14, "Gives the eventfd by which the device tells of a broken queue.";
    GET_PROTOCOL_FEATURES = 15, "What parts of vhost-user the device speaks.";
    SET_PROTOCOL_FEATURES = 16, "What is spoken of it.";
    GET_QUEUE_NUM = 17, "How many queues there are.";
    SET_VRING_ENABLE = 18, "Starts a queue.";
    GET_CONFIG = 24, "Reads the device configuration space.";
    GPU_SET_SOCKET = 33, "Gives the display socket.";
    GET_MAX_MEM_SLOTS = 36, "How many memory regions the device can hold.";
    ADD_MEM_REG = 37, "Gives one more memory region.";
    REM_MEM_REG = 38, "Takes one memory region back.";
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "request {}", self.0),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The feature bits of virtio-gpu (virtio 1.2, section 5.7.3), as masks.
pub mod gpu_feature {
    /// 3D commands.
    pub const VIRGL: u64 = 1 << 0;
    /// Displays describe themselves.
    pub const EDID: u64 = 1 << 1;
    /// Resources can be named across devices.
    pub const RESOURCE_UUID: u64 = 1 << 2;
    /// Resources made of plain memory.
    pub const RESOURCE_BLOB: u64 = 1 << 3;
    /// Contexts of several kinds and rings.
    pub const CONTEXT_INIT: u64 = 1 << 4;
    /// All that this crate knows.
    pub const ALL: u64 = VIRGL | EDID | RESOURCE_UUID | RESOURCE_BLOB | CONTEXT_INIT;
}

/// Feature bits of any virtio device behind vhost-user, as masks (virtio 1.2, section 6; vhost-user.rst).
pub(super) mod device_feature {
    pub(in super::super) const INDIRECT_DESC: u64 = 1 << 28;
    pub(in super::super) const EVENT_IDX: u64 = 1 << 29;
    pub(in super::super) const PROTOCOL_FEATURES: u64 = 1 << 30;
    pub(in super::super) const VERSION_1: u64 = 1 << 32;
}

/// Parts of vhost-user that both ends may speak, as masks.
pub(super) mod protocol_feature {
    pub(in super::super) const MQ: u64 = 1 << 0;
    pub(in super::super) const REPLY_ACK: u64 = 1 << 3;
    pub(in super::super) const CONFIG: u64 = 1 << 9;
    pub(in super::super) const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
}

/// What every message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub(super) request: Request,
    pub(super) flags: u32,
    /// Bytes that follow.
    pub(super) size: u32,
}

impl Header {
    pub(super) const SIZE: usize = size_of::<Self>();

    /// The header of a message to the device.
    pub(super) fn new(request: Request, size: usize, need_reply: bool) -> Self {
        let flags = if need_reply { VERSION | NEED_REPLY } else { VERSION };
        // PANIC: payloads are structs of this file and at most 256 bytes of configuration.
        Self { request, flags, size: u32::try_from(size).expect("a payload below 4 GiB") }
    }

    /// Whether this is the answer to `request`, with `size` bytes to follow.
    pub(super) fn check(&self, request: Request, size: usize) -> Result<(), Malformed> {
        if self.request != request {
            return Err(Malformed::Request(self.request));
        }
        if self.flags & (VERSION_MASK | REPLY) != VERSION | REPLY {
            return Err(Malformed::Flags(self.flags));
        }
        if self.size as usize != size {
            return Err(Malformed::Size(self.size));
        }
        Ok(())
    }
}

pub(super) const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
pub(super) const REPLY: u32 = 1 << 2;
pub(super) const NEED_REPLY: u32 = 1 << 3;

/// Structs that are sent and received whole.
pub(super) trait Payload: FromBytes + FromZeros + IntoBytes + Immutable + KnownLayout {}
impl<T: FromBytes + FromZeros + IntoBytes + Immutable + KnownLayout> Payload for T {}

/// One range of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MemoryRegion {
    pub(super) guest_address: u64,
    pub(super) size: u64,
    pub(super) user_address: u64,
    pub(super) file_offset: u64,
}

impl MemoryRegion {
    /// A whole file at `address`, which serves as both kinds of address.
    pub(super) fn new(address: u64, size: usize) -> Self {
        Self { guest_address: address, size: size as u64, user_address: address, file_offset: 0 }
    }
}

/// Payload of SET_MEM_TABLE with one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MemoryTable {
    pub(super) count: u32,
    pub(super) padding: u32,
    pub(super) region: MemoryRegion,
}

/// Payload of ADD_MEM_REG and REM_MEM_REG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SingleRegion {
    pub(super) padding: u64,
    pub(super) region: MemoryRegion,
}

/// Payload of SET_VRING_NUM, _BASE and _ENABLE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RingState {
    pub(super) index: u32,
    pub(super) value: u32,
}

/// Payload of SET_VRING_ADDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RingAddress {
    pub(super) index: u32,
    pub(super) flags: u32,
    pub(super) descriptors: u64,
    pub(super) used: u64,
    pub(super) available: u64,
    pub(super) log: u64,
}

/// Payload of GET_CONFIG, both ways: the configuration of virtio-gpu (virtio 1.2, section 5.7.4) at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Configuration {
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
    pub(super) events_read: u32,
    pub(super) events_clear: u32,
    pub(super) scanouts: u32,
    pub(super) capsets: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Payload + PartialEq + fmt::Debug>(value: T, bytes: usize) {
        assert_eq!(value.as_bytes().len(), bytes);
        assert_eq!(T::read_from_bytes(value.as_bytes()).unwrap(), value);
    }

    #[test]
    fn payloads_have_the_sizes_of_the_protocol_and_come_back() {
        let region = MemoryRegion::new(0x10_0000_0000, 4096);
        round_trip(Header::new(Request::ADD_MEM_REG, 40, true), 12);
        round_trip(region, 32);
        round_trip(MemoryTable { count: 1, padding: 0, region }, 40);
        round_trip(SingleRegion { padding: 0, region }, 40);
        round_trip(RingState { index: 1, value: 256 }, 8);
        let ring = RingAddress { index: 1, flags: 0, descriptors: 1, used: 2, available: 3, log: 0 };
        round_trip(ring, 40);
        round_trip(Configuration::new_zeroed(), 28);
    }

    #[test]
    fn a_header_is_laid_out_as_specified() {
        let header = Header::new(Request::GET_CONFIG, 28, true);
        let words = [24, VERSION | NEED_REPLY, 28].map(u32::to_ne_bytes).concat();
        assert_eq!(header.as_bytes(), words);
    }

    #[test]
    fn only_the_answer_that_was_asked_for_passes() {
        let good = Header { request: Request::GET_FEATURES, flags: VERSION | REPLY, size: 8 };
        assert_eq!(good.check(Request::GET_FEATURES, 8), Ok(()));
        assert_eq!(good.check(Request::GET_FEATURES, 4), Err(Malformed::Size(8)));
        let other = Malformed::Request(Request::GET_FEATURES);
        assert_eq!(good.check(Request::GET_CONFIG, 8), Err(other));
        for flags in [VERSION, REPLY, 2 | REPLY, 0] {
            let bad = Header { flags, ..good };
            assert_eq!(bad.check(Request::GET_FEATURES, 8), Err(Malformed::Flags(flags)));
        }
    }

    #[test]
    fn requests_are_named_and_unknown_ones_numbered() {
        assert_eq!(Request::GPU_SET_SOCKET.to_string(), "GPU_SET_SOCKET");
        assert_eq!(Request(99).to_string(), "request 99");
    }
}
