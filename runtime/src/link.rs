//! What a transport asks of the connection to a virtio device, whichever ground that is on: a vhost-user
//! socket, VFIO, or Redox's pcid.
//!
//! A link is handed to the transport actor when it is ready: features negotiated and read back, queues set up
//! and enabled. From then on nothing here blocks; what takes the device's answer comes back as a [`LinkEvent`].

use std::fmt;
use std::sync::Arc;

use crate::memory::Memory;

/// Where one virtqueue lies.
#[derive(Clone)]
pub struct QueueArea {
    /// The memory that holds the three parts.
    pub memory: Arc<dyn Memory>,
    /// Entries; a power of two.
    pub size: u16,
    /// Offset of the descriptor table.
    pub descriptors: usize,
    /// Offset of the available ring.
    pub available: usize,
    /// Offset of the used ring.
    pub used: usize,
}

/// Memory in which commands to the device are built, and that no client can map.
#[derive(Clone)]
pub struct CommandArea {
    /// The memory.
    pub memory: Arc<dyn Memory>,
    /// Where the device sees offset 0 of the memory.
    pub address: u64,
    /// The first byte to use.
    pub offset: usize,
    /// How many bytes there are from there.
    pub size: usize,
}

/// One range of memory that the device can reach and that may be mapped by one client.
#[derive(Clone)]
pub struct Region {
    /// Names the region to the link.
    pub id: RegionId,
    /// The memory.
    pub memory: Arc<dyn Memory>,
    /// Where the device sees offset 0; none if the device has no room for another region, so that bytes have to
    /// be copied for it.
    pub address: Option<u64>,
}

impl fmt::Debug for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Region({}, {} bytes, at {:x?})", self.id.0, self.memory.size(), self.address)
    }
}

/// A region's name; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u64);

/// What a link tells its transport.
#[derive(Debug)]
pub enum LinkEvent {
    /// The device may have used buffers of this queue.
    Interrupt {
        /// Which queue.
        queue: u16,
    },
    /// A region is there for use. Its `address` is empty where the device could not take it.
    RegionOpened(Region),
    /// The system could not provide the memory for a region.
    RegionRefused {
        /// Which region.
        id: RegionId,
        /// Why.
        reason: String,
    },
    /// The device's configuration changed (virtio 1.2, section 5.7.6: a display event).
    ConfigurationChanged,
    /// The device, or the connection to it, is gone or no longer to be trusted.
    Down {
        /// What happened and what to do.
        reason: String,
    },
}

/// The connection to a running device.
pub trait Link: Send {
    /// The negotiated feature bits.
    fn features(&self) -> u64;

    /// The device configuration space as read at set-up.
    fn configuration(&self) -> &[u8];

    /// The queue of this index, if the device has it.
    fn queue(&self, index: u16) -> Option<QueueArea>;

    /// Memory for commands.
    fn commands(&self) -> CommandArea;

    /// Tells the device that a queue has new buffers.
    fn kick(&mut self, queue: u16);

    /// Begins to provide a region of `bytes`, zeroed; ends in [`LinkEvent::RegionOpened`] or
    /// [`LinkEvent::RegionRefused`]. A region that is `device_optional` is better refused an address than made
    /// at the cost of the last places that the device has.
    fn open_region(&mut self, id: RegionId, bytes: usize, device_optional: bool);

    /// Begins to give the device a region that outlived another device, at the address at which that one had it.
    /// Ends in [`LinkEvent::RegionOpened`], whose address is empty where this device could not take it.
    fn admit_region(&mut self, region: Region);

    /// Takes a region from the device. No resource may have backing in it any more.
    fn close_region(&mut self, id: RegionId);

    /// Lets the device reach `length` bytes of an open region from `offset` on, both whole pages. Until then it
    /// may be unable to; a device that has regions whole needs nothing.
    fn show(&mut self, id: RegionId, offset: usize, length: usize) {
        let _ = (id, offset, length);
    }

    /// Ends what [`Link::show`] began. Nothing on the device refers to those bytes any more.
    fn hide(&mut self, id: RegionId, offset: usize, length: usize) {
        let _ = (id, offset, length);
    }

    /// The transport has the link from now on. What became ready before that was told to nobody: it is to be told
    /// again.
    fn attached(&mut self) {}

    /// Something that the link waits for became ready; `token` says what. Adds what it learned to `events`.
    fn ready(&mut self, token: u64, events: &mut Vec<LinkEvent>);
}
