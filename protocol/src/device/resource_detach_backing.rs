//! RESOURCE_DETACH_BACKING (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// RESOURCE_DETACH_BACKING: take the memory away again.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceDetachBacking {
    /// Which.
    pub resource_id: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for ResourceDetachBacking {
    const CODE: Code = Code(0x107);
    type Response = OkNoData;
}
