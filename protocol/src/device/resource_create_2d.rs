//! RESOURCE_CREATE_2D (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// RESOURCE_CREATE_2D: a 2D resource.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceCreate2d {
    /// Its number.
    pub resource_id: u32,
    /// `virtio_gpu_formats`.
    pub format: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Command for ResourceCreate2d {
    const CODE: Code = Code(0x101);
    type Response = OkNoData;
}
