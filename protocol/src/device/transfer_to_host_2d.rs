//! TRANSFER_TO_HOST_2D (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};
use crate::message::ctrlq::Rectangle;

/// TRANSFER_TO_HOST_2D: the memory behind a 2D resource into it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TransferToHost2d {
    /// Which pixels.
    pub rectangle: Rectangle,
    /// Where in the memory the first of them is.
    pub offset: u64,
    /// Which.
    pub resource_id: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for TransferToHost2d {
    const CODE: Code = Code(0x105);
    type Response = OkNoData;
}
