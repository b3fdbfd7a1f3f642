//! RESOURCE_UNREF (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// RESOURCE_UNREF: forget a resource.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceUnref {
    /// Which.
    pub resource_id: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for ResourceUnref {
    const CODE: Code = Code(0x102);
    type Response = OkNoData;
}
