//! SUBMIT_3D (virtio 1.2, section 5.7.6.9).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// SUBMIT_3D: execute the command stream that follows.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Submit3d {
    /// Bytes of the stream.
    pub size: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for Submit3d {
    const CODE: Code = Code(0x207);
    type Response = OkNoData;
}
