//! RESOURCE_INFO (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Field, Ioctl, Layout};

/// RESOURCE_INFO: what a handle names; asked after every import.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceInfo {
    /// The handle.
    pub bo_handle: u32,
    /// Out: the device's number.
    pub res_handle: u32,
    /// Out: bytes of memory behind it.
    pub size: u32,
    /// Out: kind of blob memory; 0 for a classic resource.
    pub blob_mem: u32,
}

impl Ioctl for ResourceInfo {
    const TABLE: Layout = Layout {
        number: 0x45,
        name: "DRM_IOCTL_VIRTGPU_RESOURCE_INFO",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}
