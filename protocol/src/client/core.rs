//! The ioctls of the DRM core that every driver answers (`drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Array, Direction, Field, Ioctl, Layout};

/// VERSION: who drives this node. Called twice: with lengths 0, then with buffers.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Version {
    /// Driver major version.
    pub major: i32,
    /// Driver minor version.
    pub minor: i32,
    /// Driver patch level.
    pub patch: i32,
    /// Padding, as C has it.
    pub padding: [u8; 4],
    /// In: room for the name; out: its length in bytes.
    pub name_len: u64,
    /// The same for the date.
    pub date_len: u64,
    /// The same for the description.
    pub desc_len: u64,
}

impl Ioctl for Version {
    const TABLE: Layout = Layout {
        number: 0x00,
        name: "DRM_IOCTL_VERSION",
        size: 64,
        wire: size_of::<Self>(),
        fields: &[
            Field { from: 0, to: 0, size: 12 },
            Field { from: 16, to: 16, size: 8 },
            Field { from: 32, to: 24, size: 8 },
            Field { from: 48, to: 32, size: 8 },
        ],
        arrays: &[
            Array {
                pointer: 24,
                count: 16,
                wire_count: 16,
                count_size: 8,
                element: 1,
                direction: Direction::Out,
            },
            Array {
                pointer: 40,
                count: 32,
                wire_count: 24,
                count_size: 8,
                element: 1,
                direction: Direction::Out,
            },
            Array {
                pointer: 56,
                count: 48,
                wire_count: 32,
                count_size: 8,
                element: 1,
                direction: Direction::Out,
            },
        ],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// GET_UNIQUE: the bus name, empty before SET_VERSION.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetUnique {
    /// In: room for the name; out: its length in bytes.
    pub unique_len: u64,
}

impl Ioctl for GetUnique {
    const TABLE: Layout = Layout {
        number: 0x01,
        name: "DRM_IOCTL_GET_UNIQUE",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[Array {
            pointer: 8,
            count: 0,
            wire_count: 0,
            count_size: 8,
            element: 1,
            direction: Direction::Out,
        }],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// GET_MAGIC: a number by which a master could authenticate this file.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetMagic {
    /// The number.
    pub magic: u32,
}

impl Ioctl for GetMagic {
    const TABLE: Layout = Layout {
        number: 0x02,
        name: "DRM_IOCTL_GET_MAGIC",
        size: 4,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 4 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SET_VERSION: the interface version that a client speaks; -1 asks.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetVersion {
    /// DRM interface major version.
    pub di_major: i32,
    /// DRM interface minor version.
    pub di_minor: i32,
    /// Driver major version.
    pub dd_major: i32,
    /// Driver minor version.
    pub dd_minor: i32,
}

impl Ioctl for SetVersion {
    const TABLE: Layout = Layout {
        number: 0x07,
        name: "DRM_IOCTL_SET_VERSION",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// GEM_CLOSE: gives up a handle.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GemClose {
    /// The handle.
    pub handle: u32,
    /// Ignored.
    pub pad: u32,
}

impl Ioctl for GemClose {
    const TABLE: Layout = Layout {
        number: 0x09,
        name: "DRM_IOCTL_GEM_CLOSE",
        size: 8,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// GEM_FLINK: asks for a global name. Refused: names can be guessed.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GemFlink {
    /// The handle.
    pub handle: u32,
    /// Never given.
    pub name: u32,
}

impl Ioctl for GemFlink {
    const TABLE: Layout = Layout {
        number: 0x0a,
        name: "DRM_IOCTL_GEM_FLINK",
        size: 8,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// GEM_OPEN: opens by global name. Refused: there are no names.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GemOpen {
    /// The name.
    pub name: u32,
    /// Never given.
    pub handle: u32,
    /// Never given.
    pub size: u64,
}

impl Ioctl for GemOpen {
    const TABLE: Layout = Layout {
        number: 0x0b,
        name: "DRM_IOCTL_GEM_OPEN",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// GET_CAP: what this node can do.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetCap {
    /// Which; see [`cap`].
    pub capability: u64,
    /// The answer.
    pub value: u64,
}

impl Ioctl for GetCap {
    const TABLE: Layout = Layout {
        number: 0x0c,
        name: "DRM_IOCTL_GET_CAP",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SET_CLIENT_CAP: what the client understands.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetClientCap {
    /// Which.
    pub capability: u64,
    /// The value.
    pub value: u64,
}

impl Ioctl for SetClientCap {
    const TABLE: Layout = Layout {
        number: 0x0d,
        name: "DRM_IOCTL_SET_CLIENT_CAP",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 16 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// Values of [`GetCap::capability`] (`DRM_CAP_*`).
pub mod cap {
    /// Dumb buffers.
    pub const DUMB_BUFFER: u64 = 0x1;
    /// WAIT_VBLANK takes the number of a CRTC.
    pub const VBLANK_HIGH_CRTC: u64 = 0x2;
    /// Bits of colour that dumb buffers should have.
    pub const DUMB_PREFERRED_DEPTH: u64 = 0x3;
    /// Reading from dumb buffers is slow.
    pub const DUMB_PREFER_SHADOW: u64 = 0x4;
    /// PRIME: bit 0 import, bit 1 export.
    pub const PRIME: u64 = 0x5;
    /// Event times are of CLOCK_MONOTONIC.
    pub const TIMESTAMP_MONOTONIC: u64 = 0x6;
    /// Flips that do not wait for a refresh.
    pub const ASYNC_PAGE_FLIP: u64 = 0x7;
    /// Largest cursor width.
    pub const CURSOR_WIDTH: u64 = 0x8;
    /// Largest cursor height.
    pub const CURSOR_HEIGHT: u64 = 0x9;
    /// Framebuffers with modifiers.
    pub const ADDFB2_MODIFIERS: u64 = 0x10;
    /// Flips at a chosen refresh.
    pub const PAGE_FLIP_TARGET: u64 = 0x11;
    /// Events say which CRTC.
    pub const CRTC_IN_VBLANK_EVENT: u64 = 0x12;
    /// Synchronisation objects.
    pub const SYNCOBJ: u64 = 0x13;
    /// Timeline synchronisation objects.
    pub const SYNCOBJ_TIMELINE: u64 = 0x14;
    /// As `ASYNC_PAGE_FLIP`, by ATOMIC.
    pub const ATOMIC_ASYNC_PAGE_FLIP: u64 = 0x15;
}

/// Values of [`SetClientCap::capability`] (`DRM_CLIENT_CAP_*`).
pub mod client_cap {
    /// Shows stereo modes.
    pub const STEREO_3D: u64 = 1;
    /// Shows primary and cursor planes.
    pub const UNIVERSAL_PLANES: u64 = 2;
    /// Allows ATOMIC and shows its properties; sets UNIVERSAL_PLANES and ASPECT_RATIO too.
    pub const ATOMIC: u64 = 3;
    /// Shows the aspect ratio in modes.
    pub const ASPECT_RATIO: u64 = 4;
    /// Shows writeback connectors.
    pub const WRITEBACK_CONNECTORS: u64 = 5;
    /// The client sets the hotspot of the cursor plane.
    pub const CURSOR_PLANE_HOTSPOT: u64 = 6;
}
