//! What can go wrong at a ring, by blame.
//!
//! A [`RingFault`] is the device's offence, or the wiring's: the ring is of no more use until it is reset. A
//! [`Refused`] is the caller's: nothing happened, and nothing but that one chain is lost.

use virgld_runtime::memory::OutOfBounds;

/// Why a ring can no longer be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingFault {
    /// The area has a size that no split virtqueue can have.
    #[error("a queue of {size} entries was set up; it must be a power of two up to 32768 (virtio 1.2, 2.7)")]
    ImpossibleSize {
        /// The size asked for.
        size: u16,
    },
    /// A part of the area is not aligned.
    #[error("the {part} was set up at offset {offset}, not a multiple of {alignment} (virtio 1.2, 2.7)")]
    Misaligned {
        /// Which part.
        part: &'static str,
        /// Where it begins.
        offset: usize,
        /// What it must be a multiple of.
        alignment: usize,
    },
    /// Two parts of the area share bytes.
    #[error("the {first} was set up over the {second} (virtio 1.2, 2.7)")]
    Overlapping {
        /// The part that begins first.
        first: &'static str,
        /// The part that it reaches into.
        second: &'static str,
    },
    /// The rings reach outside the memory of their area.
    #[error("the queue was set up outside its memory: {0}")]
    Outside(#[from] OutOfBounds),
    /// The device put an id into a used element that no descriptor has.
    #[error("the device used descriptor {id}, but the queue has {size} (virtio 1.2, 2.7.8)")]
    UnknownId {
        /// The id it gave.
        id: u32,
        /// The size of the queue.
        size: u16,
    },
    /// The device gave back a descriptor that is free, or that is not the head of a chain: an id twice, or one
    /// made up.
    #[error("the device used descriptor {id}, which heads no chain that it holds (virtio 1.2, 2.7.8)")]
    NotInFlight {
        /// The id it gave.
        id: u16,
    },
    /// The device gave back a chain before the available index showed it.
    #[error("the device used descriptor {id} before it was made available (virtio 1.2, 2.7.6, 2.7.8)")]
    NotYetAvailable {
        /// The id it gave.
        id: u16,
    },
    /// The device moved the used index back, or further than it holds chains.
    #[error(
        "the device moved the used index from {from} to {to} while it held {held} chains (virtio 1.2, 2.7.8)"
    )]
    IndexJump {
        /// The index up to which elements had been taken.
        from: u16,
        /// The index that was read.
        to: u16,
        /// How many chains the device could have used.
        held: u16,
    },
}

/// Why a chain was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There are not enough free descriptors now; there will be when chains come back.
    #[error("the ring is full: {needed} descriptors wanted, {free} free")]
    Full {
        /// How many the chain takes.
        needed: u16,
        /// How many there are.
        free: u16,
    },
    /// The chain has no segments.
    #[error("the chain is empty")]
    NoSegments,
    /// The chain has more segments than the queue has entries, which not even a table may (section 2.7.5.3.1).
    #[error("the chain has {segments} segments; the device takes {limit} (virtio 1.2, 2.7.5.3.1)")]
    TooManySegments {
        /// How many it has.
        segments: usize,
        /// How many it may have.
        limit: u16,
    },
    /// A segment has no bytes. The specification is silent on these, and QEMU stops the queue over one.
    #[error("segment {index} of the chain has no bytes")]
    EmptySegment {
        /// Which, counting from the first that the device reads.
        index: usize,
    },
    /// The segments add up to more than a chain may hold (section 2.7.5.2).
    #[error("the chain is 2^32 bytes or longer (virtio 1.2, 2.7.5.2)")]
    TooLong,
    /// The chain's table does not fit the slice it is to lie in.
    #[error("the chain's table does not fit its slice: {0}")]
    Table(OutOfBounds),
    /// The ring is poisoned.
    #[error("{0}")]
    Fault(#[from] RingFault),
}
