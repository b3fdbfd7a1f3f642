//! CRTCs: what they show, with which timing and colours, and how the next picture comes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout};
use super::ModeInfo;

/// GETCRTC: the state of a CRTC. Linux looks at none of the incoming fields but `crtc_id`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetCrtc {
    /// Unused; 0 from a Linux client, whatever it had there.
    pub count_connectors: u32,
    /// The CRTC.
    pub crtc_id: u32,
    /// Out: framebuffer that it shows, or 0.
    pub fb_id: u32,
    /// Out: left of what it shows of that.
    pub x: u32,
    /// Out: top of what it shows of that.
    pub y: u32,
    /// Out: entries of its colour table.
    pub gamma_size: u32,
    /// Out: whether `mode` means anything.
    pub mode_valid: u32,
    /// Out: the mode.
    pub mode: ModeInfo,
}

impl Ioctl for GetCrtc {
    const TABLE: Layout = Layout {
        size: 104,
        fields: &[Field { from: 8, to: 0, size: 96 }],
        arrays: &[Array::unused(0, 8, 0, 4)],
        ..whole!(0xa1, "DRM_IOCTL_MODE_GETCRTC")
    };
}

/// SETCRTC: sets a mode, or switches the CRTC off (`mode_valid` 0). The array is the connectors' numbers.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetCrtc {
    /// How many connectors are to show it.
    pub count_connectors: u32,
    /// The CRTC.
    pub crtc_id: u32,
    /// The framebuffer; `u32::MAX` keeps the present one.
    pub fb_id: u32,
    /// Left of what is to be shown of that.
    pub x: u32,
    /// Top of what is to be shown of that.
    pub y: u32,
    /// Ignored.
    pub gamma_size: u32,
    /// Whether there is a mode.
    pub mode_valid: u32,
    /// The mode.
    pub mode: ModeInfo,
}

impl Ioctl for SetCrtc {
    const TABLE: Layout = Layout {
        size: 104,
        fields: &[Field { from: 8, to: 0, size: 96 }],
        arrays: &[Array::input(0, 8, 0, 4)],
        ..whole!(0xa2, "DRM_IOCTL_MODE_SETCRTC")
    };
}

/// GETGAMMA: the colour table, as three arrays of 16-bit numbers (red, green, blue).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetGamma {
    /// The CRTC.
    pub crtc_id: u32,
    /// Entries; must be what GETCRTC told.
    pub gamma_size: u32,
}

impl Ioctl for GetGamma {
    const TABLE: Layout = Layout {
        size: 32,
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[Array::out(8, 4, 4, 2), Array::out(16, 4, 4, 2), Array::out(24, 4, 4, 2)],
        ..whole!(0xa4, "DRM_IOCTL_MODE_GETGAMMA")
    };
}

/// SETGAMMA: sets the colour table.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetGamma {
    /// The CRTC.
    pub crtc_id: u32,
    /// Entries; must be what GETCRTC told.
    pub gamma_size: u32,
}

impl Ioctl for SetGamma {
    const TABLE: Layout = Layout {
        size: 32,
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[Array::input(8, 4, 4, 2), Array::input(16, 4, 4, 2), Array::input(24, 4, 4, 2)],
        ..whole!(0xa5, "DRM_IOCTL_MODE_SETGAMMA")
    };
}

/// PAGE_FLIP: shows another framebuffer from the next refresh on, or at once.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PageFlip {
    /// The CRTC.
    pub crtc_id: u32,
    /// The framebuffer.
    pub fb_id: u32,
    /// [`PageFlipFlags`].
    pub flags: u32,
    /// The refresh to flip at, with one of the TARGET flags; else must be 0.
    pub sequence: u32,
    /// Comes back in the event.
    pub user_data: u64,
}

impl Ioctl for PageFlip {
    const TABLE: Layout = whole!(0xb0, "DRM_IOCTL_MODE_PAGE_FLIP");
}

bitflags::bitflags! {
    /// `DRM_MODE_PAGE_FLIP_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PageFlipFlags: u32 {
        /// An event when it has happened.
        const EVENT = 1;
        /// At once, torn.
        const ASYNC = 2;
        /// At the refresh `sequence`.
        const TARGET_ABSOLUTE = 4;
        /// `sequence` refreshes from now.
        const TARGET_RELATIVE = 8;
    }
}
