//! SET_SCANOUT (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};
use crate::message::ctrlq::Rectangle;

/// SET_SCANOUT: what a scanout shows.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetScanout {
    /// Which part of the resource.
    pub rectangle: Rectangle,
    /// Which scanout.
    pub scanout_id: u32,
    /// What it shows; 0 for nothing.
    pub resource_id: u32,
}

impl Command for SetScanout {
    const CODE: Code = Code(0x103);
    type Response = OkNoData;
}
