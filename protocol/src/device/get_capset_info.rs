//! GET_CAPSET_INFO (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkCapsetInfo};

/// GET_CAPSET_INFO: which capability set has this index.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetCapsetInfo {
    /// Index, below the number in the configuration.
    pub capset_index: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for GetCapsetInfo {
    const CODE: Code = Code(0x108);
    type Response = OkCapsetInfo;
}
