//! CTX_DESTROY (virtio 1.2, section 5.7.6.9).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, Command, OkNoData};

/// CTX_DESTROY: the end of a context.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ContextDestroy {}

impl Command for ContextDestroy {
    const CODE: Code = Code(0x201);
    type Response = OkNoData;
}
