//! TRANSFER_TO_HOST and TRANSFER_FROM_HOST (`virtgpu_drm.h`): between a resource and the memory behind it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Field, Ioctl, Layout};

/// TRANSFER_FROM_HOST: the resource into its memory. Structures of 36 and 44 bytes are in use.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TransferFromHost {
    /// The handle.
    pub bo_handle: u32,
    /// Box: left.
    pub x: u32,
    /// Box: top.
    pub y: u32,
    /// Box: front.
    pub z: u32,
    /// Box: width.
    pub w: u32,
    /// Box: height.
    pub h: u32,
    /// Box: depth.
    pub d: u32,
    /// Mipmap level.
    pub level: u32,
    /// Where the box begins in the resource's memory, in bytes.
    pub offset: u32,
    /// Bytes per row; only for blobs, else 0.
    pub stride: u32,
    /// Bytes per layer; only for blobs, else 0.
    pub layer_stride: u32,
}

impl Ioctl for TransferFromHost {
    const TABLE: Layout = Layout {
        number: 0x46,
        name: "DRM_IOCTL_VIRTGPU_TRANSFER_FROM_HOST",
        size: 44,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 44 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// TRANSFER_TO_HOST: its memory into the resource. Structures of 36 and 44 bytes are in use.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TransferToHost {
    /// The handle.
    pub bo_handle: u32,
    /// Box: left.
    pub x: u32,
    /// Box: top.
    pub y: u32,
    /// Box: front.
    pub z: u32,
    /// Box: width.
    pub w: u32,
    /// Box: height.
    pub h: u32,
    /// Box: depth.
    pub d: u32,
    /// Mipmap level.
    pub level: u32,
    /// Where the box begins in the resource's memory, in bytes.
    pub offset: u32,
    /// Bytes per row; only for blobs, else 0.
    pub stride: u32,
    /// Bytes per layer; only for blobs, else 0.
    pub layer_stride: u32,
}

impl Ioctl for TransferToHost {
    const TABLE: Layout = Layout {
        number: 0x47,
        name: "DRM_IOCTL_VIRTGPU_TRANSFER_TO_HOST",
        size: 44,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 44 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// A box of texels (`struct drm_virtgpu_3d_box`, `struct virtio_gpu_box`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Box3d {
    /// Left.
    pub x: u32,
    /// Top.
    pub y: u32,
    /// Front.
    pub z: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// Depth.
    pub d: u32,
}
