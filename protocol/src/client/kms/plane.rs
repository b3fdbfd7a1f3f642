//! Planes: what lies over what.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout};

/// GETPLANE: the array is the formats that it can show (fourcc codes).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetPlane {
    /// The plane.
    pub plane_id: u32,
    /// Out: the CRTC that it is on, or 0.
    pub crtc_id: u32,
    /// Out: the framebuffer that it shows, or 0.
    pub fb_id: u32,
    /// Out: bit n: it can be on the n-th CRTC.
    pub possible_crtcs: u32,
    /// Out: 0.
    pub gamma_size: u32,
    /// In: room; out: how many formats there are.
    pub count_format_types: u32,
}

impl Ioctl for GetPlane {
    const TABLE: Layout = Layout {
        size: 32,
        fields: &[Field { from: 0, to: 0, size: 24 }],
        arrays: &[Array::out(24, 20, 20, 4)],
        ..whole!(0xb6, "DRM_IOCTL_MODE_GETPLANE")
    };
}

/// SETPLANE: puts a framebuffer on a plane, or takes it off (`fb_id` 0).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetPlane {
    /// The plane.
    pub plane_id: u32,
    /// The CRTC.
    pub crtc_id: u32,
    /// The framebuffer.
    pub fb_id: u32,
    /// `DRM_MODE_PRESENT_*`.
    pub flags: u32,
    /// Left, on the CRTC.
    pub crtc_x: i32,
    /// Top, on the CRTC.
    pub crtc_y: i32,
    /// Width, on the CRTC.
    pub crtc_w: u32,
    /// Height, on the CRTC.
    pub crtc_h: u32,
    /// Left, in the framebuffer; this and the next three in 1/65536 of a pixel.
    pub src_x: u32,
    /// Top, in the framebuffer.
    pub src_y: u32,
    /// Height, in the framebuffer: it comes before the width.
    pub src_h: u32,
    /// Width, in the framebuffer.
    pub src_w: u32,
}

impl Ioctl for SetPlane {
    const TABLE: Layout = whole!(0xb7, "DRM_IOCTL_MODE_SETPLANE");
}

/// Values of the property `type` of a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneType(pub u64);

impl PlaneType {
    /// `DRM_PLANE_TYPE_OVERLAY`.
    pub const OVERLAY: Self = Self(0);
    /// `DRM_PLANE_TYPE_PRIMARY`.
    pub const PRIMARY: Self = Self(1);
    /// `DRM_PLANE_TYPE_CURSOR`.
    pub const CURSOR: Self = Self(2);
}
