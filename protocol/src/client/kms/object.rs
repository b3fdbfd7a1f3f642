//! The kinds of things that have a number and properties.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `DRM_MODE_OBJECT_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct ObjectType(pub u32);

impl ObjectType {
    /// Of whatever kind it is.
    pub const ANY: Self = Self(0);
    /// A CRTC.
    pub const CRTC: Self = Self(0xcccc_cccc);
    /// A connector.
    pub const CONNECTOR: Self = Self(0xc0c0_c0c0);
    /// An encoder.
    pub const ENCODER: Self = Self(0xe0e0_e0e0);
    /// A mode.
    pub const MODE: Self = Self(0xdede_dede);
    /// A property.
    pub const PROPERTY: Self = Self(0xb0b0_b0b0);
    /// A framebuffer.
    pub const FB: Self = Self(0xfbfb_fbfb);
    /// A property blob.
    pub const BLOB: Self = Self(0xbbbb_bbbb);
    /// A plane.
    pub const PLANE: Self = Self(0xeeee_eeee);
}
