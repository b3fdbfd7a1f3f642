//! GET_EDID (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkEdid};

/// GET_EDID: how a display describes itself.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetEdid {
    /// Which scanout.
    pub scanout: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for GetEdid {
    const CODE: Code = Code(0x10a);
    type Response = OkEdid;
}
