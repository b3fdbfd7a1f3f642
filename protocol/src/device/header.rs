//! The header that every command and every answer begins with, feature bits and configuration.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Response;

/// What a command or an answer is. Any value may come from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Code(pub u32);

impl Code {
    /// MOVE_CURSOR; its structure is that of UPDATE_CURSOR.
    pub const MOVE_CURSOR: Self = Self(0x301);
    /// Success, nothing more.
    pub const OK_NO_DATA: Self = Self(0x1100);
    /// Success, with the displays.
    pub const OK_DISPLAY_INFO: Self = Self(0x1101);
    /// Success, with an EDID.
    pub const OK_EDID: Self = Self(0x1104);
    /// Success, with a capability set's description.
    pub const OK_CAPSET_INFO: Self = Self(0x1102);
    /// Success, with a capability set.
    pub const OK_CAPSET: Self = Self(0x1103);
    /// Failure without a reason.
    pub const ERR_UNSPEC: Self = Self(0x1200);
    /// The host is out of memory.
    pub const ERR_OUT_OF_MEMORY: Self = Self(0x1201);
    /// No such scanout.
    pub const ERR_INVALID_SCANOUT: Self = Self(0x1202);
    /// No such resource.
    pub const ERR_INVALID_RESOURCE: Self = Self(0x1203);
    /// No such context.
    pub const ERR_INVALID_CONTEXT: Self = Self(0x1204);
    /// A parameter makes no sense.
    pub const ERR_INVALID_PARAMETER: Self = Self(0x1205);
}

/// `VIRTIO_GPU_FLAG_FENCE`: answer when the command's effects are complete.
pub const CONTROL_FLAG_FENCE: u32 = 1;
/// `VIRTIO_GPU_FLAG_INFO_RING_IDX`: `ring_idx` is meant.
pub const CONTROL_FLAG_RING: u32 = 2;

/// `struct virtio_gpu_ctrl_hdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ControlHeader {
    /// What it is.
    pub code: Code,
    /// `CONTROL_FLAG_*`.
    pub flags: u32,
    /// The fence, with the flag.
    pub fence_id: u64,
    /// The context, for 3D commands.
    pub ctx_id: u32,
    /// The ring, with the flag.
    pub ring_idx: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// A command to the device.
pub trait Command: IntoBytes + Immutable {
    /// What it is.
    const CODE: Code;
    /// What answers it.
    type Response: Response;
}

/// Feature bits of the device (virtio 1.2, section 5.7.3).
pub struct Feature;

impl Feature {
    /// 3D.
    pub const VIRGL: u64 = 1 << 0;
    /// EDID.
    pub const EDID: u64 = 1 << 1;
    /// Resources have UUIDs for other devices.
    pub const RESOURCE_UUID: u64 = 1 << 2;
    /// Blob resources.
    pub const RESOURCE_BLOB: u64 = 1 << 3;
    /// Contexts of several kinds and with rings.
    pub const CONTEXT_INIT: u64 = 1 << 4;
}

/// `struct virtio_gpu_config` (virtio 1.2, section 5.7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Configuration {
    /// Pending events; bit 0 display.
    pub events_read: u32,
    /// To clear events.
    pub events_clear: u32,
    /// Scanouts.
    pub num_scanouts: u32,
    /// Capability sets.
    pub num_capsets: u32,
}

/// `VIRTIO_GPU_MAX_SCANOUTS`.
pub const MAX_SCANOUTS: usize = 16;
