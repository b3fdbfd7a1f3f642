//! RESOURCE_CREATE_BLOB (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Array, Direction, Field, Ioctl, Layout};

/// RESOURCE_CREATE_BLOB: an untyped resource, where the device offers them.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceCreateBlob {
    /// `VIRTGPU_BLOB_MEM_*`.
    pub blob_mem: u32,
    /// `VIRTGPU_BLOB_FLAG_*`.
    pub blob_flags: u32,
    /// Out: the handle.
    pub bo_handle: u32,
    /// Out: the device's number.
    pub res_handle: u32,
    /// Bytes.
    pub size: u64,
    /// Ignored.
    pub pad: u32,
    /// Bytes of the command that creates it.
    pub cmd_size: u32,
    /// The context's name for host memory.
    pub blob_id: u64,
}

impl Ioctl for ResourceCreateBlob {
    const TABLE: Layout = Layout {
        number: 0x4a,
        name: "DRM_IOCTL_VIRTGPU_RESOURCE_CREATE_BLOB",
        size: 48,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 32 }, Field { from: 40, to: 32, size: 8 }],
        arrays: &[Array {
            pointer: 32,
            count: 28,
            wire_count: 28,
            count_size: 4,
            element: 1,
            direction: Direction::In,
        }],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}
