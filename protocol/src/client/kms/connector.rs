//! Encoders and connectors.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout};
use super::ModeInfo;

/// GETENCODER.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetEncoder {
    /// The encoder.
    pub encoder_id: u32,
    /// Out: `DRM_MODE_ENCODER_*`; see [`GetEncoder::VIRTUAL`].
    pub encoder_type: u32,
    /// Out: the CRTC that feeds it, or 0.
    pub crtc_id: u32,
    /// Out: bit n: the n-th CRTC can feed it.
    pub possible_crtcs: u32,
    /// Out: bit n: it can show the same as the n-th encoder.
    pub possible_clones: u32,
}

impl GetEncoder {
    /// `DRM_MODE_ENCODER_VIRTUAL`.
    pub const VIRTUAL: u32 = 5;
}

impl Ioctl for GetEncoder {
    const TABLE: Layout = whole!(0xa6, "DRM_IOCTL_MODE_GETENCODER");
}

/// GETCONNECTOR: with room for no mode it looks at the display anew. An array that has not room for all is left
/// as it was, and only its count is answered.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetConnector {
    /// In: room for modes ([`ModeInfo`]); out: how many there are.
    pub count_modes: u32,
    /// In: room for properties and for as many values; out: how many there are.
    pub count_props: u32,
    /// In: room for encoders; out: how many there are.
    pub count_encoders: u32,
    /// Out: the encoder in use, or 0.
    pub encoder_id: u32,
    /// The connector.
    pub connector_id: u32,
    /// Out: `DRM_MODE_CONNECTOR_*`; see [`GetConnector::VIRTUAL`].
    pub connector_type: u32,
    /// Out: number among those of its type, from 1.
    pub connector_type_id: u32,
    /// Out: [`Connection`].
    pub connection: u32,
    /// Out: width of the display in millimetres.
    pub mm_width: u32,
    /// Out: height of the display in millimetres.
    pub mm_height: u32,
    /// Out: `enum subpixel_order`; see [`GetConnector::SUBPIXEL_UNKNOWN`].
    pub subpixel: u32,
    /// Ignored.
    pub pad: u32,
}

impl GetConnector {
    /// `DRM_MODE_CONNECTOR_VIRTUAL`.
    pub const VIRTUAL: u32 = 15;
    /// `SubPixelUnknown`.
    pub const SUBPIXEL_UNKNOWN: u32 = 0;
}

impl Ioctl for GetConnector {
    /// Encoders (u32), modes, properties (u32), values (u64).
    const TABLE: Layout = Layout {
        size: 80,
        fields: &[Field { from: 32, to: 0, size: 48 }],
        arrays: &[
            Array::out(0, 40, 8, 4),
            Array::out(8, 32, 0, size_of::<ModeInfo>()),
            Array::out(16, 36, 4, 4),
            Array::out(24, 36, 4, 8),
        ],
        ..whole!(0xa7, "DRM_IOCTL_MODE_GETCONNECTOR")
    };
}

/// Values of [`GetConnector::connection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection(pub u32);

impl Connection {
    /// A display is there.
    pub const CONNECTED: Self = Self(1);
    /// None is there.
    pub const DISCONNECTED: Self = Self(2);
    /// Nobody knows.
    pub const UNKNOWN: Self = Self(3);
}
