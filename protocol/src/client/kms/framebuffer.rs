//! Framebuffers: buffers with a shape.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout};

/// ADDFB: one buffer, described by depths.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AddFb {
    /// Out: the framebuffer.
    pub fb_id: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Bytes per line.
    pub pitch: u32,
    /// Bits per pixel.
    pub bpp: u32,
    /// Bits of colour.
    pub depth: u32,
    /// The buffer.
    pub handle: u32,
}

impl Ioctl for AddFb {
    const TABLE: Layout = whole!(0xae, "DRM_IOCTL_MODE_ADDFB");
}

/// GETFB: the same of one that exists. A handle only for a master; else 0.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetFb {
    /// The framebuffer.
    pub fb_id: u32,
    /// Out: width.
    pub width: u32,
    /// Out: height.
    pub height: u32,
    /// Out: bytes per line.
    pub pitch: u32,
    /// Out: bits per pixel.
    pub bpp: u32,
    /// Out: bits of colour.
    pub depth: u32,
    /// Out: a new handle of the buffer.
    pub handle: u32,
}

impl Ioctl for GetFb {
    const TABLE: Layout = whole!(0xad, "DRM_IOCTL_MODE_GETFB");
}

/// ADDFB2: up to four buffers or parts of them, and a format (fourcc code).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AddFb2 {
    /// Out: the framebuffer.
    pub fb_id: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Format.
    pub pixel_format: u32,
    /// [`FramebufferFlags`].
    pub flags: u32,
    /// The buffers.
    pub handles: [u32; 4],
    /// Bytes per line.
    pub pitches: [u32; 4],
    /// Where each begins in its buffer.
    pub offsets: [u32; 4],
    /// Padding, as C has it.
    pub padding: u32,
    /// How each is tiled, with the flag MODIFIERS.
    pub modifier: [u64; 4],
}

impl Ioctl for AddFb2 {
    const TABLE: Layout = whole!(0xb8, "DRM_IOCTL_MODE_ADDFB2");
}

/// GETFB2: the same of one that exists. Handles only for a master; else 0.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetFb2 {
    /// The framebuffer.
    pub fb_id: u32,
    /// Out: width.
    pub width: u32,
    /// Out: height.
    pub height: u32,
    /// Out: format.
    pub pixel_format: u32,
    /// Out: [`FramebufferFlags`].
    pub flags: u32,
    /// Out: new handles of the buffers.
    pub handles: [u32; 4],
    /// Out: bytes per line.
    pub pitches: [u32; 4],
    /// Out: where each begins in its buffer.
    pub offsets: [u32; 4],
    /// Padding, as C has it.
    pub padding: u32,
    /// Out: how each is tiled.
    pub modifier: [u64; 4],
}

impl Ioctl for GetFb2 {
    const TABLE: Layout = whole!(0xce, "DRM_IOCTL_MODE_GETFB2");
}

bitflags::bitflags! {
    /// `DRM_MODE_FB_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct FramebufferFlags: u32 {
        /// Interlaced.
        const INTERLACED = 1;
        /// `modifier` is meant.
        const MODIFIERS = 2;
    }
}

/// RMFB: gives a framebuffer up. What shows it is switched off.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RmFb {
    /// The framebuffer.
    pub fb_id: u32,
}

impl Ioctl for RmFb {
    const TABLE: Layout = whole!(0xaf, "DRM_IOCTL_MODE_RMFB");
}

/// CLOSEFB: gives a framebuffer up. What shows it goes on showing it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CloseFb {
    /// The framebuffer.
    pub fb_id: u32,
    /// Must be 0.
    pub pad: u32,
}

impl Ioctl for CloseFb {
    const TABLE: Layout = whole!(0xd0, "DRM_IOCTL_MODE_CLOSEFB");
}

/// DIRTYFB: what is shown has changed. The array is [`Clip`]s; none means all of it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DirtyFb {
    /// The framebuffer.
    pub fb_id: u32,
    /// [`DirtyFlags`].
    pub flags: u32,
    /// Colour, with FILL.
    pub color: u32,
    /// How many rectangles, at most [`DirtyFb::MOST_CLIPS`].
    pub num_clips: u32,
}

impl DirtyFb {
    /// `DRM_MODE_FB_DIRTY_MAX_CLIPS`.
    pub const MOST_CLIPS: u32 = 256;
}

impl Ioctl for DirtyFb {
    const TABLE: Layout = Layout {
        size: 24,
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[Array::input(16, 12, 12, size_of::<Clip>())],
        ..whole!(0xb1, "DRM_IOCTL_MODE_DIRTYFB")
    };
}

bitflags::bitflags! {
    /// `DRM_MODE_FB_DIRTY_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DirtyFlags: u32 {
        /// Rectangles come in pairs: from, to.
        const ANNOTATE_COPY = 1;
        /// All of one colour.
        const ANNOTATE_FILL = 2;
    }
}

/// A rectangle (`struct drm_clip_rect`), without its right and lower edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Clip {
    /// Left.
    pub x1: u16,
    /// Top.
    pub y1: u16,
    /// Right.
    pub x2: u16,
    /// Bottom.
    pub y2: u16,
}
