//! GET_DISPLAY_INFO (virtio 1.2, section 5.7.6.8).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkDisplayInfo};

/// GET_DISPLAY_INFO: how large the displays are.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetDisplayInfo {}

impl Command for GetDisplayInfo {
    const CODE: Code = Code(0x100);
    type Response = OkDisplayInfo;
}
