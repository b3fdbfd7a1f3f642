//! UPDATE_CURSOR, MOVE_CURSOR (virtio 1.2, section 5.7.6.10).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// UPDATE_CURSOR, MOVE_CURSOR: another image or another place for the pointer; the code tells which.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpdateCursor {
    /// Which scanout.
    pub scanout_id: u32,
    /// Pixels.
    pub x: u32,
    /// Pixels.
    pub y: u32,
    /// Zero.
    pub position_padding: u32,
    /// Image, or 0 for none.
    pub resource_id: u32,
    /// The point of the image that points.
    pub hot_x: u32,
    /// The same.
    pub hot_y: u32,
    /// Zero.
    pub padding: u32,
}

impl Command for UpdateCursor {
    const CODE: Code = Code(0x300);
    type Response = OkNoData;
}
