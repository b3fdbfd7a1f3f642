//! A display mode.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct drm_mode_modeinfo`, 68 bytes; also the contents of a `MODE_ID` property blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ModeInfo {
    /// Pixel clock in kHz.
    pub clock: u32,
    /// Visible width.
    pub hdisplay: u16,
    /// Where the horizontal pulse begins.
    pub hsync_start: u16,
    /// Where it ends.
    pub hsync_end: u16,
    /// Width with blanking.
    pub htotal: u16,
    /// Skew.
    pub hskew: u16,
    /// Visible height.
    pub vdisplay: u16,
    /// Where the vertical pulse begins.
    pub vsync_start: u16,
    /// Where it ends.
    pub vsync_end: u16,
    /// Height with blanking.
    pub vtotal: u16,
    /// Repetitions of each line.
    pub vscan: u16,
    /// Refreshes per second, rounded.
    pub vrefresh: u32,
    /// [`ModeFlags`].
    pub flags: u32,
    /// [`ModeType`]; `type` in C.
    pub kind: u32,
    /// Name, ended by a zero byte.
    pub name: [u8; 32],
}

bitflags::bitflags! {
    /// `DRM_MODE_FLAG_*`, those that are used here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ModeFlags: u32 {
        /// Horizontal sync is high.
        const PHSYNC = 1 << 0;
        /// Horizontal sync is low.
        const NHSYNC = 1 << 1;
        /// Vertical sync is high.
        const PVSYNC = 1 << 2;
        /// Vertical sync is low.
        const NVSYNC = 1 << 3;
        /// Interlaced.
        const INTERLACE = 1 << 4;
        /// Every line twice.
        const DBLSCAN = 1 << 5;
    }
}

bitflags::bitflags! {
    /// `DRM_MODE_TYPE_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ModeType: u32 {
        /// What the display likes best.
        const PREFERRED = 1 << 3;
        /// A user made it.
        const USERDEF = 1 << 5;
        /// The driver made it.
        const DRIVER = 1 << 6;
    }
}
