//! CTX_CREATE (virtio 1.2, section 5.7.6.9).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// CTX_CREATE: a rendering context; its number is in the header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ContextCreate {
    /// Bytes of the name.
    pub nlen: u32,
    /// Capability set, with CONTEXT_INIT; else zero.
    pub context_init: u32,
    /// Name for the log of the host.
    pub debug_name: [u8; 64],
}

impl Command for ContextCreate {
    const CODE: Code = Code(0x200);
    type Response = OkNoData;
}
