//! RESOURCE_CREATE_3D (virtio 1.2, section 5.7.6.9).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// RESOURCE_CREATE_3D: a texture or buffer of the renderer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceCreate3d {
    /// Its number.
    pub resource_id: u32,
    /// Kind (`pipe_texture_target`).
    pub target: u32,
    /// `virgl_formats`.
    pub format: u32,
    /// `VIRGL_BIND_*`.
    pub bind: u32,
    /// Texels or bytes.
    pub width: u32,
    /// Texels.
    pub height: u32,
    /// Texels.
    pub depth: u32,
    /// Layers.
    pub array_size: u32,
    /// Smallest mipmap level.
    pub last_level: u32,
    /// Samples per texel.
    pub nr_samples: u32,
    /// Bit 0: the first row is the top one.
    pub flags: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for ResourceCreate3d {
    const CODE: Code = Code(0x204);
    type Response = OkNoData;
}
