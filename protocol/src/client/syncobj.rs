//! Synchronisation objects, binary and timeline (`drm.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Array, Direction, Field, Ioctl, Layout};

/// SYNCOBJ_CREATE.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjCreate {
    /// Out: the handle.
    pub handle: u32,
    /// Bit 0: created signalled.
    pub flags: u32,
}

impl Ioctl for SyncobjCreate {
    const TABLE: Layout = Layout {
        number: 0xbf,
        name: "DRM_IOCTL_SYNCOBJ_CREATE",
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

/// SYNCOBJ_DESTROY.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjDestroy {
    /// The handle.
    pub handle: u32,
    /// Must be 0.
    pub pad: u32,
}

impl Ioctl for SyncobjDestroy {
    const TABLE: Layout = Layout {
        number: 0xc0,
        name: "DRM_IOCTL_SYNCOBJ_DESTROY",
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

/// SYNCOBJ_HANDLE_TO_FD: the object, or with bit 0 of the flags its fence as a sync file.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjHandleToFd {
    /// The handle.
    pub handle: u32,
    /// Bit 0: export a sync file.
    pub flags: u32,
    /// Out: the descriptor.
    pub fd: i32,
    /// Must be 0.
    pub pad: u32,
    /// Point of a timeline, with bit 1 of the flags.
    pub point: u64,
}

impl Ioctl for SyncobjHandleToFd {
    const TABLE: Layout = Layout {
        number: 0xc1,
        name: "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD",
        size: 24,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 24 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: Some(8),
        bulk: None,
    };
}

/// SYNCOBJ_FD_TO_HANDLE: the object, or with bit 0 of the flags a sync file into an existing one.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjFdToHandle {
    /// Out, or with bit 0 of the flags in: the handle.
    pub handle: u32,
    /// Bit 0: import a sync file.
    pub flags: u32,
    /// The descriptor.
    pub fd: i32,
    /// Must be 0.
    pub pad: u32,
    /// Point of a timeline, with bit 1 of the flags.
    pub point: u64,
}

impl Ioctl for SyncobjFdToHandle {
    const TABLE: Layout = Layout {
        number: 0xc2,
        name: "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE",
        size: 24,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 24 }],
        arrays: &[],
        indirect: None,
        fd_in: Some(8),
        fd_out: None,
        bulk: None,
    };
}

/// SYNCOBJ_WAIT.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjWait {
    /// Absolute, CLOCK_MONOTONIC.
    pub timeout_nsec: i64,
    /// How many.
    pub count_handles: u32,
    /// [`SyncobjFlags`].
    pub flags: u32,
    /// Out: index of the first signalled one.
    pub first_signaled: u32,
    /// Ignored.
    pub pad: u32,
}

impl Ioctl for SyncobjWait {
    const TABLE: Layout = Layout {
        number: 0xc3,
        name: "DRM_IOCTL_SYNCOBJ_WAIT",
        size: 32,
        wire: size_of::<Self>(),
        fields: &[Field { from: 8, to: 0, size: 24 }],
        arrays: &[Array {
            pointer: 0,
            count: 16,
            wire_count: 8,
            count_size: 4,
            element: 4,
            direction: Direction::In,
        }],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SYNCOBJ_RESET.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjReset {
    /// How many.
    pub count_handles: u32,
    /// Must be 0.
    pub pad: u32,
}

impl Ioctl for SyncobjReset {
    const TABLE: Layout = Layout {
        number: 0xc4,
        name: "DRM_IOCTL_SYNCOBJ_RESET",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 8, to: 0, size: 8 }],
        arrays: &[Array {
            pointer: 0,
            count: 8,
            wire_count: 0,
            count_size: 4,
            element: 4,
            direction: Direction::In,
        }],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SYNCOBJ_SIGNAL.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjSignal {
    /// How many.
    pub count_handles: u32,
    /// Must be 0.
    pub pad: u32,
}

impl Ioctl for SyncobjSignal {
    const TABLE: Layout = Layout {
        number: 0xc5,
        name: "DRM_IOCTL_SYNCOBJ_SIGNAL",
        size: 16,
        wire: size_of::<Self>(),
        fields: &[Field { from: 8, to: 0, size: 8 }],
        arrays: &[Array {
            pointer: 0,
            count: 8,
            wire_count: 0,
            count_size: 4,
            element: 4,
            direction: Direction::In,
        }],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SYNCOBJ_TIMELINE_WAIT.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjTimelineWait {
    /// Absolute, CLOCK_MONOTONIC.
    pub timeout_nsec: i64,
    /// How many.
    pub count_handles: u32,
    /// [`SyncobjFlags`].
    pub flags: u32,
    /// Out: index of the first signalled one.
    pub first_signaled: u32,
    /// Ignored.
    pub pad: u32,
}

impl Ioctl for SyncobjTimelineWait {
    const TABLE: Layout = Layout {
        number: 0xca,
        name: "DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT",
        size: 40,
        wire: size_of::<Self>(),
        fields: &[Field { from: 16, to: 0, size: 24 }],
        arrays: &[
            Array {
                pointer: 0,
                count: 24,
                wire_count: 8,
                count_size: 4,
                element: 4,
                direction: Direction::In,
            },
            Array {
                pointer: 8,
                count: 24,
                wire_count: 8,
                count_size: 4,
                element: 8,
                direction: Direction::In,
            },
        ],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SYNCOBJ_QUERY: the last signalled point of each.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjQuery {
    /// How many.
    pub count_handles: u32,
    /// Bit 0: the last submitted point.
    pub flags: u32,
}

impl Ioctl for SyncobjQuery {
    const TABLE: Layout = Layout {
        number: 0xcb,
        name: "DRM_IOCTL_SYNCOBJ_QUERY",
        size: 24,
        wire: size_of::<Self>(),
        fields: &[Field { from: 16, to: 0, size: 8 }],
        arrays: &[
            Array {
                pointer: 0,
                count: 16,
                wire_count: 0,
                count_size: 4,
                element: 4,
                direction: Direction::In,
            },
            Array {
                pointer: 8,
                count: 16,
                wire_count: 0,
                count_size: 4,
                element: 8,
                direction: Direction::Out,
            },
        ],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SYNCOBJ_TRANSFER: the fence at a point of one into a point of another.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjTransfer {
    /// From.
    pub src_handle: u32,
    /// To.
    pub dst_handle: u32,
    /// Point; 0 for binary.
    pub src_point: u64,
    /// Point; 0 for binary.
    pub dst_point: u64,
    /// [`SyncobjFlags`].
    pub flags: u32,
    /// Must be 0.
    pub pad: u32,
}

impl Ioctl for SyncobjTransfer {
    const TABLE: Layout = Layout {
        number: 0xcc,
        name: "DRM_IOCTL_SYNCOBJ_TRANSFER",
        size: 32,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 32 }],
        arrays: &[],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

/// SYNCOBJ_TIMELINE_SIGNAL.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncobjTimelineSignal {
    /// How many.
    pub count_handles: u32,
    /// Must be 0.
    pub flags: u32,
}

impl Ioctl for SyncobjTimelineSignal {
    const TABLE: Layout = Layout {
        number: 0xcd,
        name: "DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL",
        size: 24,
        wire: size_of::<Self>(),
        fields: &[Field { from: 16, to: 0, size: 8 }],
        arrays: &[
            Array {
                pointer: 0,
                count: 16,
                wire_count: 0,
                count_size: 4,
                element: 4,
                direction: Direction::In,
            },
            Array {
                pointer: 8,
                count: 16,
                wire_count: 0,
                count_size: 4,
                element: 8,
                direction: Direction::In,
            },
        ],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: None,
    };
}

bitflags::bitflags! {
    /// Flags of the waits.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SyncobjFlags: u32 {
        /// All, not any.
        const WAIT_ALL = 1;
        /// Wait even for a fence that is not there yet.
        const WAIT_FOR_SUBMIT = 2;
        /// Timeline: only until the point has been submitted.
        const WAIT_AVAILABLE = 4;
    }
}
