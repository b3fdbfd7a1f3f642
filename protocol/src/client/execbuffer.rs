//! EXECBUFFER (`virtgpu_drm.h`): submits a command stream.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::layout::{Array, Direction, Field, Ioctl, Layout};

/// EXECBUFFER: a command stream, the buffers that it uses, and fences before and after it. Structures of
/// 32, 40 and 64 bytes are in use.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Execbuffer {
    /// [`ExecbufferFlags`].
    pub flags: u32,
    /// Bytes of command stream; 0 is legal.
    pub size: u32,
    /// How many buffers it names; a buffer may be named twice.
    pub num_bo_handles: u32,
    /// On the wire: which of the fences given in advance is to be signalled, with FENCE_FD_OUT.
    pub fence_fd: i32,
    /// Ring of the context, with RING_IDX.
    pub ring_idx: u32,
    /// Bytes per synchronisation object; always that of [`ExecbufferSyncobj`] on the wire.
    pub syncobj_stride: u32,
    /// How many to wait for.
    pub num_in_syncobjs: u32,
    /// How many to signal.
    pub num_out_syncobjs: u32,
}

impl Ioctl for Execbuffer {
    const TABLE: Layout = Layout {
        number: 0x42,
        name: "DRM_IOCTL_VIRTGPU_EXECBUFFER",
        size: 64,
        wire: size_of::<Self>(),
        fields: &[Field { from: 0, to: 0, size: 8 }, Field { from: 24, to: 8, size: 24 }],
        arrays: &[
            Array {
                pointer: 8,
                count: 4,
                wire_count: 4,
                count_size: 4,
                element: 1,
                direction: Direction::In,
            },
            Array {
                pointer: 16,
                count: 24,
                wire_count: 8,
                count_size: 4,
                element: 4,
                direction: Direction::In,
            },
            Array {
                pointer: 48,
                count: 40,
                wire_count: 24,
                count_size: 4,
                element: 16,
                direction: Direction::In,
            },
            Array {
                pointer: 56,
                count: 44,
                wire_count: 28,
                count_size: 4,
                element: 16,
                direction: Direction::In,
            },
        ],
        indirect: None,
        fd_in: None,
        fd_out: None,
        bulk: Some(0),
    };
}

bitflags::bitflags! {
    /// Flags of EXECBUFFER.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ExecbufferFlags: u32 {
        /// Wait for the fence that came as a descriptor.
        const FENCE_FD_IN = 1;
        /// Hand out a fence that signals when the stream has been executed.
        const FENCE_FD_OUT = 2;
        /// `ring_idx` is meant.
        const RING_IDX = 4;
    }
}

/// One synchronisation object of an EXECBUFFER (`struct drm_virtgpu_execbuffer_syncobj`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ExecbufferSyncobj {
    /// The object's handle.
    pub handle: u32,
    /// Bit 0 (`VIRTGPU_EXECBUF_SYNCOBJ_RESET`): reset it once waited for.
    pub flags: u32,
    /// Point on its timeline; 0 for a binary object.
    pub point: u64,
}
