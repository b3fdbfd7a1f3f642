//! The driver's side of a split virtqueue (virtio 1.2, section 2.7).
//!
//! A [`Ring`] turns buffer chains into descriptors and used elements back into the caller's cookies. It does no
//! I/O: [`Ring::flush`] says whether to kick and [`Ring::arm`] whether it is safe to sleep.
//!
//! What the device can write, it may write at any moment and with any value. So nothing that the ring decides by
//! is read back from shared memory: descriptor links, the free list and the driver's own indices live in private
//! copies, and the two things that have to be read, the used index and the used elements, are checked against
//! them before they count. Each chain that was published gives its cookie back exactly once, or not at all, and
//! then the ring is poisoned with a [`RingFault`] that says what the device did.
//!
//! # Assumptions
//!
//! - One `Ring` at a time writes the descriptor table and the available ring of an area, and no client can map
//!   them.
//! - The device is not running on the area while [`Ring::new`] or [`Ring::reset`] zeroes it.
//! - The memory of a chain, its table included, stays the device's until its cookie came back or the device was
//!   reset. The ring holds no [`DmaSlice`]: who owns the cookie owns the memory.
//! - Offsets are as well aligned as the addresses that the device sees, since only offsets can be checked here.
//! - [`Memory::store_u16`] and [`Memory::load_u16`] move both bytes at once. A counter torn in two would be
//!   blamed on the device.
//! - A device that drops a chain, or that gives one back twice *after* its descriptor was published anew, can't
//!   be told from an honest one here. Deadlines find the first. Descriptors are reused oldest first, so that the
//!   second is rare: a repeated id nearly always meets a free descriptor.
//!
//! [`DmaSlice`]: virgld_runtime::dma::DmaSlice
//! [`Memory::store_u16`]: virgld_runtime::memory::Memory::store_u16
//! [`Memory::load_u16`]: virgld_runtime::memory::Memory::load_u16

mod chain;
mod complete;
mod fault;
mod layout;
mod publish;
mod slots;

use std::fmt;

use bitflags::bitflags;
use virgld_runtime::link::QueueArea;

pub use chain::{Chain, Segment, Table};
pub use complete::Used;
pub use fault::{Refused, RingFault};
use layout::Layout;
use slots::Slots;

bitflags! {
    /// The negotiated features that change how a ring works, under their own bits:
    /// `RingFeatures::from_bits_truncate(link.features())` is all that is needed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RingFeatures: u64 {
        /// VIRTIO_F_INDIRECT_DESC: a chain may take one descriptor and a table of its own (section 2.7.5.3).
        const INDIRECT_DESC = 1 << 28;
        /// VIRTIO_F_EVENT_IDX: each side names the index at which it wants to be told (sections 2.7.7, 2.7.10).
        const EVENT_IDX = 1 << 29;
    }
}

/// One virtqueue as its driver sees it.
///
/// # Invariants
///
/// - `slots` holds a chain for each cookie that was taken and not yet given back, and for nothing else.
/// - `visible` is what the device was last told; chains from there to `available` are still private.
/// - From `used` to `used_seen` there are never more elements than visible chains.
/// - Once `fault` is set, neither the rings nor the indices change until a reset.
pub struct Ring {
    layout: Layout,
    features: RingFeatures,
    slots: Slots,
    /// Where the next chain goes in the available ring.
    available: u16,
    /// The available index as the device sees it.
    visible: u16,
    /// The next used element to take.
    used: u16,
    /// The device's used index as last read and found possible.
    used_seen: u16,
    fault: Option<RingFault>,
}

impl Ring {
    /// Checks the area, zeroes it and starts with nothing in flight. The ring is armed: the first used element
    /// interrupts.
    pub fn new(area: &QueueArea, features: RingFeatures) -> Result<Self, RingFault> {
        let layout = Layout::check(area)?;
        layout.zero()?;
        let slots = Slots::new(layout.size());
        Ok(Self { layout, features, slots, available: 0, visible: 0, used: 0, used_seen: 0, fault: None })
    }

    /// Starts again as if new, for a device that was reset. What was in flight is forgotten: ask
    /// [`Ring::outstanding`] first.
    pub fn reset(&mut self) -> Result<(), RingFault> {
        self.layout.zero()?;
        self.slots = Slots::new(self.layout.size());
        (self.available, self.visible, self.used, self.used_seen) = (0, 0, 0, 0);
        self.fault = None;
        Ok(())
    }

    /// How many descriptors there are. No chain may have more segments (section 2.7.5.3.1).
    pub fn capacity(&self) -> u16 {
        self.layout.size()
    }

    /// How many chains were published and have not come back.
    pub fn in_flight(&self) -> u16 {
        self.slots.in_flight()
    }

    /// How many descriptors are free.
    pub fn free(&self) -> u16 {
        self.slots.free()
    }

    /// Whether [`Ring::publish`] would find the descriptors for this chain now.
    pub fn has_room(&self, chain: &Chain<'_>) -> bool {
        chain.descriptors(self.features) <= usize::from(self.free())
    }

    /// The cookies in flight, in the order of their descriptors. They stay known while the ring is poisoned, so that their
    /// owner can fail the commands.
    pub fn outstanding(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.cookies()
    }

    /// What the ring was poisoned with, if it was.
    pub fn fault(&self) -> Option<RingFault> {
        self.fault
    }

    fn healthy(&self) -> Result<(), RingFault> {
        self.fault.map_or(Ok(()), Err)
    }

    /// Poisons the ring with a failure of the device, or of the ring's own memory.
    fn convict<T>(&mut self, result: Result<T, impl Into<RingFault>>) -> Result<T, RingFault> {
        result.map_err(|error| {
            let fault = error.into();
            self.fault = Some(fault);
            fault
        })
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ring")
            .field("capacity", &self.capacity())
            .field("in_flight", &self.in_flight())
            .field("free", &self.free())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
