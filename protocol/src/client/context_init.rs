//! CONTEXT_INIT (`virtgpu_drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Array, Direction, Field, Ioctl, Layout};

/// CONTEXT_INIT: chooses what the context of this file speaks, before its first use.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ContextInit {
    /// How many parameters.
    pub num_params: u32,
    /// Ignored.
    pub pad: u32,
}

impl Ioctl for ContextInit {
    const TABLE: Layout = Layout {
        number: 0x4b,
        name: "DRM_IOCTL_VIRTGPU_CONTEXT_INIT",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[Array {
            pointer: 8,
            count: 0,
            wire_count: 0,
            count_size: 4,
            element: 16,
            direction: Direction::In,
        }],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// One parameter of CONTEXT_INIT (`struct drm_virtgpu_context_set_param`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ContextParameter {
    /// Which; see the constants.
    pub param: u64,
    /// Its value.
    pub value: u64,
}

impl ContextParameter {
    /// Capability set.
    pub const CAPSET_ID: u64 = 1;
    /// Number of rings.
    pub const NUM_RINGS: u64 = 2;
    /// Rings whose fences are to be read as events.
    pub const POLL_RINGS_MASK: u64 = 3;
    /// Address of a name in the client's memory, which does not travel: accepted and ignored.
    pub const DEBUG_NAME: u64 = 4;
}
