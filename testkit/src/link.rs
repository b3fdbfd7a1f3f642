//! The connection to a simulated device, on memory of this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virgld_protocol::device::{Configuration, Feature};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::link::{CommandArea, Link, LinkEvent, QueueArea, Region, RegionId};
use virgld_runtime::memory::HeapMemory;
use zerocopy::IntoBytes;

use crate::queue::{AddressSpace, EVENT_IDX, INDIRECT_DESC};

/// Where the device sees the memory for commands.
const COMMANDS: u64 = 0x1_0000_0000;
/// Where it sees the first region; each begins so far behind the one before.
const REGIONS: u64 = 0x10_0000_0000;
const REGION_STEP: u64 = 0x1_0000_0000;
const QUEUES: usize = 2;

/// What a simulated connection offers.
#[derive(Debug, Clone, Copy)]
pub struct LinkConfig {
    /// Negotiated features.
    pub features: u64,
    /// Capability sets that the device says it has.
    pub capsets: u32,
    /// Entries of each queue.
    pub queue_size: u16,
    /// Bytes of memory for commands.
    pub command_bytes: usize,
    /// How many regions the device can have at a time; further ones get no address.
    pub places: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            features: Feature::VIRGL | INDIRECT_DESC | EVENT_IDX,
            capsets: 2,
            queue_size: 64,
            command_bytes: 64 << 10,
            places: 8,
        }
    }
}

/// The driver's end of the connection.
pub struct FakeLink {
    config: LinkConfig,
    configuration: Vec<u8>,
    queues: [QueueArea; QUEUES],
    commands: Arc<HeapMemory>,
    wire: Arc<Mutex<Wire>>,
}

impl FakeLink {
    /// A connection that tells `sink` when something is ready.
    pub fn new(config: LinkConfig, sink: ReadySink) -> Self {
        Self::replacing(config, HeapMemory::new(config.command_bytes), sink)
    }

    /// The same with the memory for commands of a connection before.
    pub(crate) fn replacing(config: LinkConfig, commands: Arc<HeapMemory>, sink: ReadySink) -> Self {
        let mut space = AddressSpace::default();
        space.map(COMMANDS, commands.clone());
        let wire = Wire {
            space,
            kicked: [false; QUEUES],
            opening: Vec::new(),
            open: Vec::new(),
            closed: Vec::new(),
            events: Vec::new(),
            places: config.places,
            next_address: REGIONS,
            cut: false,
            sink,
        };
        let configuration = Configuration { num_capsets: config.capsets, ..Configuration::default() };
        Self {
            config,
            configuration: configuration.as_bytes().to_vec(),
            queues: [queue_area(config.queue_size), queue_area(config.queue_size)],
            commands,
            wire: Arc::new(Mutex::new(wire)),
        }
    }

    /// What a connection that replaces this one inherits.
    pub(crate) fn heirloom(&self) -> Arc<HeapMemory> {
        Arc::clone(&self.commands)
    }

    /// The other end.
    pub(crate) fn wire(&self) -> Arc<Mutex<Wire>> {
        Arc::clone(&self.wire)
    }
}

impl Link for FakeLink {
    fn features(&self) -> u64 {
        self.config.features
    }

    fn configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn queue(&self, index: u16) -> Option<QueueArea> {
        self.queues.get(usize::from(index)).cloned()
    }

    fn commands(&self) -> CommandArea {
        let memory = self.commands.clone();
        CommandArea { memory, address: COMMANDS, offset: 0, size: self.config.command_bytes }
    }

    fn kick(&mut self, queue: u16) {
        if let Some(kicked) = locked(&self.wire).kicked.get_mut(usize::from(queue)) {
            *kicked = true;
        }
    }

    fn open_region(&mut self, id: RegionId, bytes: usize, device_optional: bool) {
        let inherited = None;
        locked(&self.wire).opening.push(Opening { id, bytes, device_optional, inherited });
    }

    fn admit_region(&mut self, region: Region) {
        let (id, bytes) = (region.id, region.memory.size());
        let inherited = Some(region);
        locked(&self.wire).opening.push(Opening { id, bytes, device_optional: false, inherited });
    }

    fn close_region(&mut self, id: RegionId) {
        locked(&self.wire).close(id);
    }

    fn ready(&mut self, _: u64, events: &mut Vec<LinkEvent>) {
        events.append(&mut locked(&self.wire).events);
    }
}

impl Drop for FakeLink {
    fn drop(&mut self) {
        locked(&self.wire).cut = true;
    }
}

/// A region that was asked for.
pub(crate) struct Opening {
    id: RegionId,
    bytes: usize,
    device_optional: bool,
    /// It was there with a device before.
    inherited: Option<Region>,
}

/// A range of addresses that the device can no longer reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

/// What both ends share.
pub(crate) struct Wire {
    pub(crate) space: AddressSpace,
    pub(crate) kicked: [bool; QUEUES],
    pub(crate) opening: Vec<Opening>,
    /// Regions that were opened and not closed, with their ranges if the device can reach them.
    open: Vec<(RegionId, Option<Closed>)>,
    /// Ranges taken away since the device last looked.
    pub(crate) closed: Vec<Closed>,
    events: Vec<LinkEvent>,
    places: usize,
    next_address: u64,
    /// The driver has let go of the connection.
    pub(crate) cut: bool,
    sink: ReadySink,
}

impl Wire {
    /// Tells the driver.
    pub(crate) fn tell(&mut self, event: LinkEvent) {
        self.events.push(event);
        // At the end of a test nobody may be left to hear it.
        (self.sink)(Ready(0));
    }

    /// Answers for a region: refused, without an address, or with one while there are places.
    pub(crate) fn answer(&mut self, opening: Opening, refuse: bool) {
        let Opening { id, bytes, device_optional, inherited } = opening;
        if let Some(region) = inherited {
            return self.admit(region);
        }
        if refuse {
            return self.tell(LinkEvent::RegionRefused { id, reason: "the test refuses it".into() });
        }
        let memory = HeapMemory::new(bytes);
        // The last place is not for those that can do without.
        let wanted = if device_optional { 2 } else { 1 };
        let address = (self.places >= wanted).then_some(self.next_address);
        if let Some(address) = address {
            self.places -= 1;
            self.next_address += REGION_STEP;
            self.space.map(address, memory.clone());
        }
        self.open.push((id, address.map(|address| Closed { address, bytes: bytes as u64 })));
        self.tell(LinkEvent::RegionOpened(Region { id, memory, address }));
    }

    /// Answers for a region that was there with a device before.
    fn admit(&mut self, region: Region) {
        let memory = region.memory.clone().as_any().downcast::<HeapMemory>().ok();
        let address = region.address.filter(|_| self.places > 0);
        if let (Some(address), Some(memory)) = (address, memory) {
            self.places -= 1;
            self.next_address = self.next_address.max(address + REGION_STEP);
            self.space.map(address, memory);
        }
        let bytes = region.memory.size() as u64;
        self.open.push((region.id, address.map(|address| Closed { address, bytes })));
        self.tell(LinkEvent::RegionOpened(Region { address, ..region }));
    }

    /// Regions that are open.
    pub(crate) fn regions(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self, id: RegionId) {
        let Some(index) = self.open.iter().position(|(open, _)| *open == id) else { return };
        if let (_, Some(range)) = self.open.swap_remove(index) {
            self.places += 1;
            self.space.unmap(range.address);
            self.closed.push(range);
        }
    }
}

/// A queue in memory of its own, each part aligned as virtio 1.2, section 2.7 wants it.
fn queue_area(size: u16) -> QueueArea {
    let entries = usize::from(size);
    let available = 16 * entries;
    let used = (available + 6 + 2 * entries).next_multiple_of(4);
    let memory = HeapMemory::new(used + 6 + 8 * entries);
    QueueArea { memory, size, descriptors: 0, available, used }
}

/// A lock that a panic elsewhere does not spoil: the panic is reported where it happened.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
