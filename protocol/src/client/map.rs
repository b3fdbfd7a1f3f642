//! MAP (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Field, Ioctl, Layout};

/// MAP: where to `mmap` a buffer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Map {
    /// Out: the offset to give to `mmap` on this file.
    pub offset: u64,
    /// The handle.
    pub handle: u32,
    /// Ignored.
    pub pad: u32,
}

impl Ioctl for Map {
    const TABLE: Layout = Layout {
        number: 0x41,
        name: "DRM_IOCTL_VIRTGPU_MAP",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}
