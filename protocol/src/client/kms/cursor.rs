//! The cursor, without planes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Field, Ioctl, Layout};

/// CURSOR.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Cursor {
    /// [`CursorFlags`].
    pub flags: u32,
    /// The CRTC.
    pub crtc_id: u32,
    /// Left, with MOVE.
    pub x: i32,
    /// Top, with MOVE.
    pub y: i32,
    /// Width of the image, with BO.
    pub width: u32,
    /// Height of the image, with BO.
    pub height: u32,
    /// The image, with BO; 0 hides the cursor.
    pub handle: u32,
}

impl Ioctl for Cursor {
    const TABLE: Layout = whole!(0xa3, "DRM_IOCTL_MODE_CURSOR");
}

/// CURSOR2: the same with the point that points.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Cursor2 {
    /// [`CursorFlags`].
    pub flags: u32,
    /// The CRTC.
    pub crtc_id: u32,
    /// Left, with MOVE.
    pub x: i32,
    /// Top, with MOVE.
    pub y: i32,
    /// Width of the image, with BO.
    pub width: u32,
    /// Height of the image, with BO.
    pub height: u32,
    /// The image, with BO; 0 hides the cursor.
    pub handle: u32,
    /// The point that points, from the image's left.
    pub hot_x: i32,
    /// The point that points, from the image's top.
    pub hot_y: i32,
}

impl Ioctl for Cursor2 {
    const TABLE: Layout = whole!(0xbb, "DRM_IOCTL_MODE_CURSOR2");
}

bitflags::bitflags! {
    /// `DRM_MODE_CURSOR_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CursorFlags: u32 {
        /// Change the image.
        const BO = 1;
        /// Move it.
        const MOVE = 2;
    }
}
