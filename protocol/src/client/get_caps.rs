//! GET_CAPS (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Array, Direction, Field, Ioctl, Layout};

/// GET_CAPS: a capability set of the host renderer. Only what the host has is written: the client filled the
/// buffer with defaults.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetCaps {
    /// Which set.
    pub cap_set_id: u32,
    /// Which version of it.
    pub cap_set_ver: u32,
    /// Room in bytes.
    pub size: u32,
    /// Ignored.
    pub pad: u32,
}

impl Ioctl for GetCaps {
    const TABLE: Layout = Layout {
        number: 0x49,
        name: "DRM_IOCTL_VIRTGPU_GET_CAPS",
        size: 24,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 8 }, Field { from: 16, to: 8, size: 8 }],
        arrays: &[Array {
            pointer: 8,
            count: 16,
            wire_count: 8,
            count_size: 4,
            element: 1,
            direction: Direction::Out,
        }],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}
