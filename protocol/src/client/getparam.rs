//! GETPARAM (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Field, Ioctl, Layout};

/// GETPARAM: one fact about the device. In C, `value` is a pointer to 4 bytes; on the wire it is the value.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Getparam {
    /// [`Parameter`].
    pub param: u64,
    /// The value.
    pub value: u64,
}

impl Ioctl for Getparam {
    const TABLE: Layout = Layout {
        number: 0x43,
        name: "DRM_IOCTL_VIRTGPU_GETPARAM",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[],
        indirect: Some(8),
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// Values of [`Getparam::param`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter(pub u64);

impl Parameter {
    /// The device does 3D.
    pub const FEATURES_3D: Self = Self(1);
    /// GET_CAPS tells sizes correctly.
    pub const CAPSET_QUERY_FIX: Self = Self(2);
    /// Blob resources.
    pub const RESOURCE_BLOB: Self = Self(3);
    /// Host memory can be mapped.
    pub const HOST_VISIBLE: Self = Self(4);
    /// Resources can be shared between devices.
    pub const CROSS_DEVICE: Self = Self(5);
    /// CONTEXT_INIT is served.
    pub const CONTEXT_INIT: Self = Self(6);
    /// Bit n: capability set n exists.
    pub const SUPPORTED_CAPSETS: Self = Self(7);
    /// Contexts can be named.
    pub const EXPLICIT_DEBUG_NAME: Self = Self(8);
}
