//! RESOURCE_ATTACH_BACKING (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// RESOURCE_ATTACH_BACKING: memory behind a resource; here always one range, so its entry is part of the structure.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceAttachBacking {
    /// Which.
    pub resource_id: u32,
    /// Ranges of memory: 1.
    pub nr_entries: u32,
    /// Where the device sees the range.
    pub address: u64,
    /// Bytes of the range.
    pub length: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for ResourceAttachBacking {
    const CODE: Code = Code(0x106);
    type Response = OkNoData;
}
