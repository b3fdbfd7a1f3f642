//! Who may set modes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Field, Ioctl, Layout};

/// AUTH_MAGIC: the master vouches for the file that was told this number by GET_MAGIC.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AuthMagic {
    /// The number.
    pub magic: u32,
}

impl Ioctl for AuthMagic {
    const TABLE: Layout = whole!(0x11, "DRM_IOCTL_AUTH_MAGIC");
}

/// SET_MASTER: become the one who sets modes. Has no argument.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetMaster;

impl Ioctl for SetMaster {
    const TABLE: Layout = whole!(0x1e, "DRM_IOCTL_SET_MASTER");
}

/// DROP_MASTER: stop being it. Has no argument.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DropMaster;

impl Ioctl for DropMaster {
    const TABLE: Layout = whole!(0x1f, "DRM_IOCTL_DROP_MASTER");
}
