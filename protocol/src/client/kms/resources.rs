//! What there is on a card.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout};

/// GETRESOURCES: the numbers of framebuffers of this file, CRTCs, connectors and encoders. Called twice: to learn
/// the counts, then with room. An array whose room is too small is answered as far as it fits.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetResources {
    /// In: room for framebuffers; out: how many there are.
    pub count_fbs: u32,
    /// The same for CRTCs.
    pub count_crtcs: u32,
    /// The same for connectors.
    pub count_connectors: u32,
    /// The same for encoders.
    pub count_encoders: u32,
    /// Smallest width of a framebuffer.
    pub min_width: u32,
    /// Largest width of a framebuffer.
    pub max_width: u32,
    /// Smallest height of a framebuffer.
    pub min_height: u32,
    /// Largest height of a framebuffer.
    pub max_height: u32,
}

impl Ioctl for GetResources {
    const TABLE: Layout = Layout {
        size: 64,
        fields: &[Field { from: 32, to: 0, size: 32 }],
        arrays: &[
            Array::out(0, 32, 0, 4),
            Array::out(8, 36, 4, 4),
            Array::out(16, 40, 8, 4),
            Array::out(24, 44, 12, 4),
        ],
        ..whole!(0xa0, "DRM_IOCTL_MODE_GETRESOURCES")
    };
}

/// GETPLANERESOURCES: the numbers of the planes; primary and cursor planes only for a file that has set the client
/// capability for universal planes.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetPlaneResources {
    /// In: room; out: how many there are.
    pub count_planes: u32,
}

impl Ioctl for GetPlaneResources {
    const TABLE: Layout = Layout {
        size: 16,
        fields: &[Field { from: 8, to: 0, size: 4 }],
        arrays: &[Array::out(0, 8, 0, 4)],
        ..whole!(0xb5, "DRM_IOCTL_MODE_GETPLANERESOURCES")
    };
}
