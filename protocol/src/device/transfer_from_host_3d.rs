//! TRANSFER_FROM_HOST_3D (virtio 1.2, section 5.7.6.9).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};
use crate::client::Box3d;

/// TRANSFER_FROM_HOST_3D: a resource into the memory behind it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TransferFromHost3d {
    /// Which texels.
    pub region: Box3d,
    /// Where in the memory, in bytes.
    pub offset: u64,
    /// Which resource.
    pub resource_id: u32,
    /// Mipmap level.
    pub level: u32,
    /// Bytes per row; 0 for the natural.
    pub stride: u32,
    /// Bytes per layer; 0 for the natural.
    pub layer_stride: u32,
}

impl Command for TransferFromHost3d {
    const CODE: Code = Code(0x206);
    type Response = OkNoData;
}
