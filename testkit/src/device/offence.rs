//! The rules of the device that a driver can break.

use virgld_protocol::device::Code;
use virgld_protocol::message::ctrlq::Rectangle;

use super::host::Range;
use crate::queue;

/// A rule that the driver broke (virtio 1.2, section 5.7.6, and what its devices need).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Offence {
    /// A rule of the queues.
    #[error("queue {queue}: {offence}")]
    Queue {
        /// Which.
        queue: u16,
        /// What.
        offence: queue::Offence,
    },
    /// A command that the device does not have.
    #[error("unknown command {0:?}")]
    UnknownCommand(Code),
    /// A command of the wrong length.
    #[error("command {code:?} has {length} bytes")]
    Length {
        /// Which.
        code: Code,
        /// Bytes that came.
        length: usize,
    },
    /// Less room for the answer than the answer takes.
    #[error("command {0:?} has no room for its answer")]
    NoRoom(Code),
    /// A command for a context that does not exist.
    #[error("command {code:?} for the unknown context {context}")]
    UnknownContext {
        /// Which command.
        code: Code,
        /// Which context.
        context: u32,
    },
    /// A context was made twice, or is number 0.
    #[error("context {0} cannot be made")]
    ContextExists(u32),
    /// A command stream that ends in the middle of a command.
    #[error("a stream of context {context} is cut short")]
    Malformed {
        /// Whose.
        context: u32,
    },
    /// A command stream that names an object which the context does not have.
    #[error("a stream of context {context} names the unknown object {object}")]
    UnknownObject {
        /// Whose.
        context: u32,
        /// Which object.
        object: u32,
    },
    /// A command that names a resource that does not exist.
    #[error("command {code:?} for the unknown resource {resource}")]
    UnknownResource {
        /// Which command.
        code: Code,
        /// Which resource.
        resource: u32,
    },
    /// A resource was made twice, or is number 0.
    #[error("resource {0} cannot be made")]
    ResourceExists(u32),
    /// Memory that is in no region.
    #[error("the backing of resource {resource} is outside every region: {range:?}")]
    BackingOutside {
        /// Of which resource.
        resource: u32,
        /// Where.
        range: Range,
    },
    /// Memory for a resource that has some.
    #[error("resource {0} has backing already")]
    BackedTwice(u32),
    /// Memory is taken from a resource that has none, or bytes are moved without.
    #[error("command {code:?} for resource {resource}, which has no backing")]
    NotBacked {
        /// Which command.
        code: Code,
        /// Of which resource.
        resource: u32,
    },
    /// Two resources share memory.
    #[error("the backings of resources {0} and {1} overlap")]
    SharedBacking(u32, u32),
    /// A region was closed in which a resource has its memory.
    #[error("the memory of resource {0} was taken away")]
    RegionClosed(u32),
    /// A resource was attached twice to a context.
    #[error("resource {resource} is attached to context {context} already")]
    AttachedTwice {
        /// Which resource.
        resource: u32,
        /// To which context.
        context: u32,
    },
    /// A command of a context names a resource that is not attached to it.
    #[error("command {code:?} of context {context} names resource {resource}, which is not attached")]
    NotAttached {
        /// Which command.
        code: Code,
        /// Which resource.
        resource: u32,
        /// Which context.
        context: u32,
    },
    /// A resource went while it was attached.
    #[error("resource {resource} went while attached to context {context}")]
    GoneWhileAttached {
        /// Which resource.
        resource: u32,
        /// To which context.
        context: u32,
    },
    /// A fence number that does not ascend, while fences are under way, or that devices never complete.
    #[error("fence {fence} after {last}")]
    Fence {
        /// The number.
        fence: u64,
        /// The one before.
        last: u64,
    },
    /// Pixels outside a 2D resource or its memory.
    #[error("a transfer of pixels that are not there: {0:?}")]
    Picture(Rectangle),
    /// A ring that no context of this device has.
    #[error("ring {0} without CONTEXT_INIT")]
    Ring(u8),
}

impl Offence {
    /// Whether the driver has told the device of something that it has not told it of before, or not any more. What is such is
    /// refused, and nothing comes of it.
    pub fn is_ignorance(&self) -> bool {
        matches!(
            self,
            Self::UnknownContext { .. }
                | Self::UnknownResource { .. }
                | Self::NotBacked { .. }
                | Self::NotAttached { .. }
                | Self::GoneWhileAttached { .. }
        )
    }
}
