//! CTX_DETACH_RESOURCE (virtio 1.2, section 5.7.6.9).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// CTX_DETACH_RESOURCE: no longer let it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ContextDetachResource {
    /// Which.
    pub resource_id: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for ContextDetachResource {
    const CODE: Code = Code(0x203);
    type Response = OkNoData;
}
