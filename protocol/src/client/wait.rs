//! WAIT (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Field, Ioctl, Layout};

/// WAIT: until the device is done with a buffer. EBUSY says that it is not.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Wait {
    /// The handle.
    pub handle: u32,
    /// Bit 0 (`VIRTGPU_WAIT_NOWAIT`): only ask.
    pub flags: u32,
}

impl Ioctl for Wait {
    const TABLE: Layout = Layout {
        number: 0x48,
        name: "DRM_IOCTL_VIRTGPU_WAIT",
        size: 8,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}
