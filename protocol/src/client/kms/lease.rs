//! Leases: a master passes a part of its rights on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout};

/// CREATE_LEASE: the array is the numbers of the objects.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateLease {
    /// How many objects.
    pub object_count: u32,
    /// `O_CLOEXEC`, `O_NONBLOCK`.
    pub flags: u32,
    /// Out: who has it.
    pub lessee_id: u32,
    /// Out: the descriptor.
    pub fd: i32,
}

impl Ioctl for CreateLease {
    const TABLE: Layout = Layout {
        size: 24,
        fields: &[Field { from: 8, to: 0, size: 16 }],
        arrays: &[Array::input(0, 8, 0, 4)],
        fd_out: Some(20),
        ..whole!(0xc6, "DRM_IOCTL_MODE_CREATE_LEASE")
    };
}

/// LIST_LESSEES: the array is their numbers.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ListLessees {
    /// In: room; out: how many there are.
    pub count_lessees: u32,
    /// Must be 0.
    pub pad: u32,
}

impl Ioctl for ListLessees {
    const TABLE: Layout = Layout {
        size: 16,
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[Array::out(8, 0, 0, 4)],
        ..whole!(0xc7, "DRM_IOCTL_MODE_LIST_LESSEES")
    };
}

/// GET_LEASE: the array is the objects of this file's lease.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetLease {
    /// In: room; out: how many there are.
    pub count_objects: u32,
    /// Must be 0.
    pub pad: u32,
}

impl Ioctl for GetLease {
    const TABLE: Layout = Layout {
        size: 16,
        fields: &[Field { from: 0, to: 0, size: 8 }],
        arrays: &[Array::out(8, 0, 0, 4)],
        ..whole!(0xc8, "DRM_IOCTL_MODE_GET_LEASE")
    };
}

/// REVOKE_LEASE.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RevokeLease {
    /// Whose.
    pub lessee_id: u32,
}

impl Ioctl for RevokeLease {
    const TABLE: Layout = whole!(0xc9, "DRM_IOCTL_MODE_REVOKE_LEASE");
}
