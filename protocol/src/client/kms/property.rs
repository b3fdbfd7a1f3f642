//! Properties, their values, and blobs.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout};

/// GETPROPERTY: what a property is. Arrays: values (u64), then [`PropertyEnum`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetProperty {
    /// The property.
    pub prop_id: u32,
    /// Out: [`PropertyFlags`].
    pub flags: u32,
    /// Out: its name, ended by a zero byte; see [`name_of`].
    pub name: [u8; 32],
    /// In: room for values; out: how many there are.
    pub count_values: u32,
    /// In: room for names of values; out: how many there are; 0 for a blob.
    pub count_enum_blobs: u32,
}

impl Ioctl for GetProperty {
    const TABLE: Layout = Layout {
        size: 64,
        fields: &[Field { from: 16, to: 0, size: 48 }],
        arrays: &[Array::out(0, 56, 40, 8), Array::out(8, 60, 44, size_of::<PropertyEnum>())],
        ..whole!(0xaa, "DRM_IOCTL_MODE_GETPROPERTY")
    };
}

/// The name of one value (`struct drm_mode_property_enum`), 40 bytes.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PropertyEnum {
    /// The value.
    pub value: u64,
    /// Its name, ended by a zero byte; see [`name_of`].
    pub name: [u8; 32],
}

/// `text` as a name of a property or a value has it: cut to 31 bytes and filled up with zeroes.
pub const fn name_of(text: &str) -> [u8; 32] {
    let bytes = text.as_bytes();
    let mut name = [0; 32];
    let mut index = 0;
    while index < bytes.len() && index < 31 {
        name[index] = bytes[index];
        index += 1;
    }
    name
}

bitflags::bitflags! {
    /// `DRM_MODE_PROP_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PropertyFlags: u32 {
        /// Two values: the least and the most.
        const RANGE = 1 << 1;
        /// Clients cannot set it.
        const IMMUTABLE = 1 << 2;
        /// Values with names.
        const ENUM = 1 << 3;
        /// The number of a blob.
        const BLOB = 1 << 4;
        /// Bits with names.
        const BITMASK = 1 << 5;
        /// The number of an object; its value list has the object's type.
        const OBJECT = 1 << 6;
        /// As `RANGE`, with signs.
        const SIGNED_RANGE = 2 << 6;
        /// Only clients that set the client capability for atomic see it.
        const ATOMIC = 1 << 31;
    }
}

/// SETPROPERTY: of a connector.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetProperty {
    /// The value.
    pub value: u64,
    /// The property.
    pub prop_id: u32,
    /// The connector.
    pub connector_id: u32,
}

impl Ioctl for SetProperty {
    const TABLE: Layout = whole!(0xab, "DRM_IOCTL_MODE_SETPROPERTY");
}

/// OBJ_GETPROPERTIES: arrays: properties (u32), then their values (u64).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ObjGetProperties {
    /// In: room; out: how many there are.
    pub count_props: u32,
    /// The object.
    pub obj_id: u32,
    /// [`super::ObjectType`].
    pub obj_type: u32,
}

impl Ioctl for ObjGetProperties {
    const TABLE: Layout = Layout {
        size: 32,
        fields: &[Field { from: 16, to: 0, size: 12 }],
        arrays: &[Array::out(0, 16, 0, 4), Array::out(8, 16, 0, 8)],
        ..whole!(0xb9, "DRM_IOCTL_MODE_OBJ_GETPROPERTIES")
    };
}

/// OBJ_SETPROPERTY.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ObjSetProperty {
    /// The value.
    pub value: u64,
    /// The property.
    pub prop_id: u32,
    /// The object.
    pub obj_id: u32,
    /// [`super::ObjectType`].
    pub obj_type: u32,
    /// Padding, as C has it.
    pub padding: u32,
}

impl Ioctl for ObjSetProperty {
    const TABLE: Layout = whole!(0xba, "DRM_IOCTL_MODE_OBJ_SETPROPERTY");
}

/// GETPROPBLOB: the array is its bytes, answered only if there is room for exactly all.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetPropBlob {
    /// The blob.
    pub blob_id: u32,
    /// In: room; out: how many bytes it has.
    pub length: u32,
}

impl Ioctl for GetPropBlob {
    const TABLE: Layout = Layout {
        size: 16,
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[Array::out(8, 4, 4, 1)],
        ..whole!(0xac, "DRM_IOCTL_MODE_GETPROPBLOB")
    };
}

/// CREATEPROPBLOB: the array is its bytes.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreatePropBlob {
    /// How many bytes.
    pub length: u32,
    /// Out: the blob.
    pub blob_id: u32,
}

impl Ioctl for CreatePropBlob {
    const TABLE: Layout = Layout {
        size: 16,
        fields: &[Field { from: 8, to: 0, size: 8 }],
        arrays: &[Array::input(0, 8, 0, 1)],
        ..whole!(0xbd, "DRM_IOCTL_MODE_CREATEPROPBLOB")
    };
}

/// DESTROYPROPBLOB: of a blob that this file made.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyPropBlob {
    /// The blob.
    pub blob_id: u32,
}

impl Ioctl for DestroyPropBlob {
    const TABLE: Layout = whole!(0xbe, "DRM_IOCTL_MODE_DESTROYPROPBLOB");
}

/// The number of the property `IN_FENCE_FD` of planes, wherever it exists. Its value in a program is a descriptor,
/// which means nothing to anybody else; so the client library must know it when it sees it ([`super::Atomic`]).
pub const IN_FENCE_FD: u32 = 0x7f00_0001;
/// The number of the property `OUT_FENCE_PTR` of CRTCs, wherever it exists: its value in a program is an address.
pub const OUT_FENCE_PTR: u32 = 0x7f00_0002;
/// Both. No other property or object may have one of these numbers.
pub const FENCE_PROPERTIES: [u32; 2] = [IN_FENCE_FD, OUT_FENCE_PTR];
