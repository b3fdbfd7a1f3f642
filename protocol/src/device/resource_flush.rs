//! RESOURCE_FLUSH (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};
use crate::message::ctrlq::Rectangle;

/// RESOURCE_FLUSH: scanouts that show the resource are to show what is in it now.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResourceFlush {
    /// What changed.
    pub rectangle: Rectangle,
    /// Which.
    pub resource_id: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for ResourceFlush {
    const CODE: Code = Code(0x104);
    type Response = OkNoData;
}
