//! PRIME: a buffer as a file descriptor and back (`drm.h`). The only way to share one between files.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Field, Ioctl, Layout};

/// PRIME_HANDLE_TO_FD: a descriptor for a buffer; it comes beside the answer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PrimeHandleToFd {
    /// The handle.
    pub handle: u32,
    /// `DRM_CLOEXEC`, `DRM_RDWR`.
    pub flags: u32,
    /// Out: the descriptor.
    pub fd: i32,
}

impl Ioctl for PrimeHandleToFd {
    const TABLE: Layout = Layout {
        number: 0x2d,
        name: "DRM_IOCTL_PRIME_HANDLE_TO_FD",
        size: 12,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 12 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: Some(8),
        bulk: None,
    };
}

/// PRIME_FD_TO_HANDLE: a handle for a buffer; the descriptor goes beside the call.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PrimeFdToHandle {
    /// Out: the handle.
    pub handle: u32,
    /// Ignored.
    pub flags: u32,
    /// The descriptor.
    pub fd: i32,
}

impl Ioctl for PrimeFdToHandle {
    const TABLE: Layout = Layout {
        number: 0x2e,
        name: "DRM_IOCTL_PRIME_FD_TO_HANDLE",
        size: 12,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 12 }],
        arrays: &[],
        indirect: None,
        fd_in: Some(8),
        fd_out: None,
        bulk: None,
    };
}
