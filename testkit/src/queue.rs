//! The device's side of a split virtqueue (virtio 1.2, section 2.7), for tests of the driver's.
//!
//! A [`DeviceQueue`] is honest and strict: it takes requests in the order they were made available, gives them
//! back in any order, keeps to the event indices, and reports each rule that the driver breaks as an
//! [`Offence`]. It also lies when asked to: see the `forge_` methods.
//!
//! It does nothing by itself. `pop`, `push` and the two questions about waking are steps that a test orders as it
//! likes, so every interleaving with the driver can be played.

mod lies;
mod request;
mod space;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use virgld_runtime::link::QueueArea;
use virgld_runtime::memory::{OutOfBounds, full_barrier};

pub use request::{Request, Span};
pub use space::{AddressSpace, Unmapped};

/// VIRTIO_F_INDIRECT_DESC.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// VIRTIO_F_EVENT_IDX.
pub const EVENT_IDX: u64 = 1 << 29;

/// VIRTQ_USED_F_NO_NOTIFY.
const NO_NOTIFY: u16 = 1;
/// VIRTQ_AVAIL_F_NO_INTERRUPT.
const NO_INTERRUPT: u16 = 1;
const RING_HEADER_SIZE: usize = 4;
const INDEX_OFFSET: usize = 2;
const AVAILABLE_ENTRY_SIZE: usize = 2;
const USED_ELEMENT_SIZE: usize = 8;

/// A rule that the driver broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Offence {
    /// The queue lies outside its memory.
    #[error("the queue lies outside its memory: {0}")]
    Area(#[from] OutOfBounds),
    /// An address that no memory is mapped at.
    #[error(transparent)]
    Unmapped(#[from] Unmapped),
    /// The available index runs further ahead than the ring is long (section 2.7.13.3).
    #[error("the available index is {to} when {from} was taken last")]
    IndexJump {
        /// The next entry to take.
        from: u16,
        /// The index that was read.
        to: u16,
    },
    /// A descriptor that the table does not have.
    #[error("descriptor {index} of a table of {size}")]
    NoSuchDescriptor {
        /// Its index.
        index: u16,
        /// The size of the table.
        size: u16,
    },
    /// A descriptor of a chain that the device still holds.
    #[error("descriptor {index} was reused while the device holds it")]
    Reused {
        /// Its index.
        index: u16,
    },
    /// A chain that is longer than the queue, which a loop is too (sections 2.7.5.2, 2.7.5.3.1).
    #[error("a chain with more descriptors than the queue")]
    Endless,
    /// A segment of no bytes.
    #[error("a segment of no bytes")]
    EmptySegment,
    /// A segment to read behind one to write (section 2.7.4.2).
    #[error("a readable segment behind a writable one")]
    OutOfOrder,
    /// A table without VIRTIO_F_INDIRECT_DESC, inside a table, with a next descriptor, or not a whole number of
    /// descriptors long (section 2.7.5.3.1).
    #[error("a misused indirect table")]
    Indirect,
    /// Flags that must stay zero with VIRTIO_F_EVENT_IDX (section 2.7.7.1).
    #[error("available flags of {flags:#x}")]
    Flags {
        /// What they are.
        flags: u16,
    },
}

/// A virtqueue as its device sees it.
pub struct DeviceQueue {
    area: QueueArea,
    features: u64,
    /// The next entry of the available ring to take.
    next: u16,
    /// Where the next used element goes.
    used: u16,
    /// The used index when the driver's wish for interrupts was last looked up.
    signalled: u16,
    /// The ring's descriptors in the chains that the device holds.
    held: BTreeSet<u16>,
}

impl DeviceQueue {
    /// A device that starts on an area that its driver has set up. `features` are the negotiated bits.
    pub fn new(area: QueueArea, features: u64) -> Self {
        Self { area, features, next: 0, used: 0, signalled: 0, held: BTreeSet::new() }
    }

    /// How many chains the driver has made available that were not taken.
    pub fn available(&self) -> Result<u16, Offence> {
        let to = self.area.memory.load_u16(self.area.available + INDEX_OFFSET)?;
        let count = to.wrapping_sub(self.next);
        if count > self.area.size { Err(Offence::IndexJump { from: self.next, to }) } else { Ok(count) }
    }

    /// Takes the next available chain.
    pub fn pop(&mut self, space: &AddressSpace) -> Result<Option<Request>, Offence> {
        if self.available()? == 0 {
            return Ok(None);
        }
        let slot = usize::from(self.next % self.area.size);
        let entry = self.area.available + RING_HEADER_SIZE + slot * AVAILABLE_ENTRY_SIZE;
        let head = self.area.memory.load_u16(entry)?;
        let request = Request::collect(&self.area, self.features & INDIRECT_DESC != 0, space, head)?;
        for index in &request.descriptors {
            if !self.held.insert(*index) {
                return Err(Offence::Reused { index: *index });
            }
        }
        self.next = self.next.wrapping_add(1);
        Ok(Some(request))
    }

    /// Gives a chain back, with `written` bytes written.
    pub fn push(&mut self, request: Request, written: u32) -> Result<(), Offence> {
        for index in &request.descriptors {
            self.held.remove(index);
        }
        self.append(u32::from(request.head), written)
    }

    /// Whether the driver wants an interrupt for what was pushed since this was last asked (section 2.7.7.2).
    pub fn wants_interrupt(&mut self) -> Result<bool, Offence> {
        let before = std::mem::replace(&mut self.signalled, self.used);
        full_barrier();
        let flags = self.area.memory.load_u16(self.area.available)?;
        if self.features & EVENT_IDX == 0 {
            return Ok(before != self.used && flags & NO_INTERRUPT == 0);
        }
        if flags != 0 {
            return Err(Offence::Flags { flags });
        }
        let ring = RING_HEADER_SIZE + usize::from(self.area.size) * AVAILABLE_ENTRY_SIZE;
        let event = self.area.memory.load_u16(self.area.available + ring)?;
        let behind = self.used.wrapping_sub(event).wrapping_sub(1);
        Ok(behind < self.used.wrapping_sub(before))
    }

    /// Asks the driver for a kick with the next chain (section 2.7.10.1). Ask [`DeviceQueue::available`] once
    /// more before going to sleep.
    pub fn ask_for_kick(&mut self) -> Result<(), Offence> {
        if self.features & EVENT_IDX == 0 {
            self.forge_flags(0)?
        } else {
            self.forge_available_event(self.next)?
        }
        full_barrier();
        Ok(())
    }

    /// Asks the driver for no kicks. With EVENT_IDX there is nothing to do: an event is passed only once.
    pub fn refuse_kicks(&mut self) -> Result<(), Offence> {
        if self.features & EVENT_IDX == 0 { self.forge_flags(NO_NOTIFY) } else { Ok(()) }
    }

    fn append(&mut self, id: u32, length: u32) -> Result<(), Offence> {
        self.forge_element(self.used, id, length)?;
        self.used = self.used.wrapping_add(1);
        self.forge_index(self.used)
    }
}
