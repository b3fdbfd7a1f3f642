//! GET_CAPSET (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkCapset};

/// GET_CAPSET: the contents of a capability set.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetCapset {
    /// Which.
    pub capset_id: u32,
    /// Which version.
    pub capset_version: u32,
}

impl Command for GetCapset {
    const CODE: Code = Code(0x109);
    type Response = OkCapset;
}
