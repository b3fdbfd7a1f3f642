//! The DRM and VIRTGPU ioctls, one file each, and the one encoding in which they travel on every ground.
//!
//! An ioctl's argument is a C structure that may hold pointers. On the wire it is its non-pointer fields in
//! order, laid out as a C structure of their own, followed by the arrays that the pointers named, in order.
//! This is what relibc sends on Redox (`redox-ioctl/src/ioctl_data.rs`); on Linux the client library sends the
//! same bytes. The answer has the same layout.
//!
//! Ioctls are told apart by type and number only. The size in the request differs between versions of Mesa
//! and of the kernel headers: the smaller of the two sizes is copied in, the rest is zero; the smaller is
//! copied out.

mod context_init;
mod core;
mod execbuffer;
mod get_caps;
mod getparam;
pub mod kms;
mod layout;
mod map;
mod prime;
mod resource_create;
mod resource_create_blob;
mod resource_info;
mod syncobj;
mod transfer;
mod wait;

pub use context_init::{ContextInit, ContextParameter};
pub use core::{
    GemClose, GemFlink, GemOpen, GetCap, GetMagic, GetUnique, SetClientCap, SetVersion, Version, cap,
    client_cap,
};
pub use execbuffer::{Execbuffer, ExecbufferFlags, ExecbufferSyncobj};
pub use get_caps::GetCaps;
pub use getparam::{Getparam, Parameter};
pub use layout::{
    Array, Call, Direction, Field, Ioctl, Layout, MAX_ARRAYS, MAX_FIXED, Reply, Wire, is_asynchronous,
    layout_of,
};
pub use map::Map;
pub use prime::{PrimeFdToHandle, PrimeHandleToFd};
pub use resource_create::ResourceCreate;
pub use resource_create_blob::ResourceCreateBlob;
pub use resource_info::ResourceInfo;
pub use syncobj::{
    SyncobjCreate, SyncobjDestroy, SyncobjFdToHandle, SyncobjFlags, SyncobjHandleToFd, SyncobjQuery,
    SyncobjReset, SyncobjSignal, SyncobjTimelineSignal, SyncobjTimelineWait, SyncobjTransfer, SyncobjWait,
};
pub use transfer::{Box3d, TransferFromHost, TransferToHost};
pub use wait::Wait;

/// The ioctl type of DRM (`DRM_IOCTL_BASE`).
pub const DRM_TYPE: u8 = b'd';
