//! RESOURCE_CREATE (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Field, Ioctl, Layout};

/// RESOURCE_CREATE: a 3D resource and memory of the client behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceCreate {
    /// Kind of texture or buffer (`pipe_texture_target`).
    pub target: u32,
    /// `virgl_formats`.
    pub format: u32,
    /// `VIRGL_BIND_*`.
    pub bind: u32,
    /// Texels, or bytes of a buffer.
    pub width: u32,
    /// Texels.
    pub height: u32,
    /// Texels.
    pub depth: u32,
    /// Layers.
    pub array_size: u32,
    /// Number of the smallest mipmap level.
    pub last_level: u32,
    /// Samples per texel; 0 for one.
    pub nr_samples: u32,
    /// `VIRTIO_GPU_RESOURCE_FLAG_*`.
    pub flags: u32,
    /// Out: the handle.
    pub bo_handle: u32,
    /// Out: the device's number for it, by which command streams name it.
    pub res_handle: u32,
    /// Bytes of memory behind it; 0 means one page.
    pub size: u32,
    /// Bytes per row, kept for RESOURCE_INFO.
    pub stride: u32,
    /// Out, for the client library and not for the program: the offset that MAP would give, for as long as the buffer
    /// is not shared. 0 if MAP must be asked.
    pub offset: u64,
}

impl Ioctl for ResourceCreate {
    const TABLE: Layout = Layout {
        number: 0x44,
        name: "DRM_IOCTL_VIRTGPU_RESOURCE_CREATE",
        size: 56,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 56 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}
