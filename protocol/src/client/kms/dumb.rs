//! Dumb buffers: pixels that the CPU writes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Field, Ioctl, Layout};

/// CREATE_DUMB.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateDumb {
    /// Height: it comes before the width.
    pub height: u32,
    /// Width.
    pub width: u32,
    /// Bits per pixel.
    pub bpp: u32,
    /// Must be 0.
    pub flags: u32,
    /// Out: the handle.
    pub handle: u32,
    /// Out: bytes per line.
    pub pitch: u32,
    /// Out: bytes.
    pub size: u64,
}

impl Ioctl for CreateDumb {
    const TABLE: Layout = whole!(0xb2, "DRM_IOCTL_MODE_CREATE_DUMB");
}

/// MAP_DUMB.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MapDumb {
    /// The handle.
    pub handle: u32,
    /// Ignored.
    pub pad: u32,
    /// Out: what to pass to `mmap`.
    pub offset: u64,
}

impl Ioctl for MapDumb {
    const TABLE: Layout = whole!(0xb3, "DRM_IOCTL_MODE_MAP_DUMB");
}

/// DESTROY_DUMB: as GEM_CLOSE.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyDumb {
    /// The handle.
    pub handle: u32,
}

impl Ioctl for DestroyDumb {
    const TABLE: Layout = whole!(0xb4, "DRM_IOCTL_MODE_DESTROY_DUMB");
}
