//! CTX_ATTACH_RESOURCE (virtio 1.2, section 5.7.6.9).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// CTX_ATTACH_RESOURCE: let a context name a resource.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ContextAttachResource {
    /// Which.
    pub resource_id: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for ContextAttachResource {
    const CODE: Code = Code(0x202);
    type Response = OkNoData;
}
