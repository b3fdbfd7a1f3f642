//! The connection to a PCI device that is set up and running.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use virgld_protocol::virtio_pci::{NO_VECTOR, Structures, Window};
use virgld_runtime::io::ReadySink;
use virgld_runtime::link::{CommandArea, Link, LinkEvent, QueueArea, Region, RegionId};
use virgld_runtime::memory::Memory;

use super::address::Address;
use super::addresses::Addresses;
use super::error::PciError;
use super::registers::{Fields, Registers};
use super::setup::{self, CONFIGURATION, QueueAddresses};
use super::sysfs::{Bus, PCI};
use super::vfio::Vfio;
use crate::host::memory::SharedMemory;
use crate::host::queues::Layout;
use crate::host::reactor::{Interest, Registrar, Registration, Trigger, signal};

/// How to set up a device.
#[derive(Debug, Clone)]
pub struct PciSetup {
    /// Which GPU features to use where the device offers them, besides VIRGL.
    pub gpu_features: u64,
    /// Memory for commands, in bytes. All of it stays in memory while the device is open.
    pub command_bytes: usize,
    /// How long the device may take to reset.
    pub reset_deadline: Duration,
}

impl Default for PciSetup {
    fn default() -> Self {
        Self { gpu_features: 0, command_bytes: 24 << 20, reset_deadline: Duration::from_secs(5) }
    }
}

/// A running virtio-gpu device behind VFIO. Dropping it resets the device, after which it reaches no memory.
pub struct PciLink {
    // Before what they watch, so that they are dropped first.
    watches: Vec<Registration>,
    regions: HashMap<RegionId, Open>,
    addresses: Addresses,
    /// Known already, to be told at the next `ready`, which the nudge brings about.
    known: Vec<LinkEvent>,
    nudge: Arc<OwnedFd>,
    configuration: [u8; CONFIGURATION],
    queues: Vec<Queue>,
    commands: CommandArea,
    features: u64,
    /// Whether the interrupt is a line: to be asked why, and unmasked.
    line: bool,
    /// Whether one vector tells of everything.
    shared: bool,
    down: bool,
    device: Device,
}

struct Device {
    structures: Structures,
    vfio: Vfio,
}

struct Queue {
    area: QueueArea,
    /// Where it is notified.
    bell: Window,
}

struct Open {
    memory: Arc<SharedMemory>,
    address: u64,
    /// What the device can reach: offsets and lengths.
    shown: HashMap<usize, usize>,
}

/// Binds the device, resets it and sets it up. It reports to the reactor of `registrar`, through sinks that `sink`
/// makes; whoever hears a [`virgld_runtime::io::Ready`] there passes the token to the link's `ready`.
pub fn connect(
    address: Address,
    setup: &PciSetup,
    registrar: &Registrar,
    sink: &mut dyn FnMut() -> ReadySink,
) -> Result<PciLink, PciError> {
    establish(address, setup, None, registrar, sink)
}

/// The same for a device that takes the place of one that is lost, be it that one after a reset, with that one's
/// memory for queues and commands: what was cut from it stays valid. The set-up must be the same.
pub fn replace(
    address: Address,
    setup: &PciSetup,
    commands: &CommandArea,
    registrar: &Registrar,
    sink: &mut dyn FnMut() -> ReadySink,
) -> Result<PciLink, PciError> {
    establish(address, setup, Some(commands), registrar, sink)
}

fn establish(
    address: Address,
    setup: &PciSetup,
    inherited: Option<&CommandArea>,
    registrar: &Registrar,
    sink: &mut dyn FnMut() -> ReadySink,
) -> Result<PciLink, PciError> {
    let folder = Bus(std::path::Path::new(PCI)).ready(address)?;
    let vfio = Vfio::open(address, &folder)?;
    let structures = vfio.structures()?;
    let device = Device { structures, vfio };
    setup::reset(device.common(), setup.reset_deadline)?;
    let features = setup::negotiate(device.common(), setup.gpu_features)?;
    let configuration = setup::configuration(device.common(), device.specific())?;

    let mut addresses = Addresses::default();
    let sizes = [setup::queue_size(device.common(), 0)?, setup::queue_size(device.common(), 1)?];
    let layout = Layout::new(sizes, setup.command_bytes);
    let (memory, base) = match inherited {
        Some(area) => inherit(area, &layout, &mut addresses).ok_or(PciError::Other(address))?,
        None => {
            let memory = SharedMemory::new("virgld-queues", layout.size())?;
            // PANIC: nothing was taken before, and memory of this size exists.
            let base = addresses.take(memory.size()).expect("an empty address space has room");
            (memory, base)
        }
    };
    device.vfio.map(&memory, 0..memory.size(), base)?;

    let vectors = device.vfio.vectors().min(3);
    let signals = device.vfio.interrupts(vectors)?;
    let plan = vector_plan(vectors);
    setup::configuration_vector(device.common(), plan[0])?;
    let mut queues = Vec::new();
    for (index, (place, vector)) in (0..).zip(layout.queues.iter().zip(&plan[1..])) {
        let at = |offset: usize| base + offset as u64;
        let parts = QueueAddresses {
            descriptors: at(place.descriptors),
            available: at(place.available),
            used: at(place.used),
        };
        let bell = setup::start_queue(device.common(), index, place.size, parts, *vector)?;
        let bell = device.bell(bell).ok_or(PciError::Outside(address))?;
        let area = QueueArea {
            memory: memory.clone(),
            size: place.size,
            descriptors: place.descriptors,
            available: place.available,
            used: place.used,
        };
        queues.push(Queue { area, bell });
    }
    let commands =
        CommandArea { memory, address: base, offset: layout.commands.start, size: layout.commands.len() };

    let refused = |error: rustix::io::Errno| PciError::Interrupts(error.to_string());
    let nudge = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(refused)?);
    let mut watches = Vec::new();
    let mut watch = |source: &Arc<OwnedFd>, token| {
        registrar.register(source.clone(), Interest::Read, Trigger::Edge, token, sink()).map_err(refused)
    };
    watches.push(watch(&nudge, NUDGE)?);
    for (vector, source) in (0_u16..).zip(&signals) {
        watches.push(watch(source, sources_of(vector, &plan))?);
    }
    if let Some(recall) = device.vfio.recall() {
        watches.push(watch(&recall, RECALL)?);
    }
    setup::finish(device.common());
    tracing::info!(device = %address, vectors, features, "driving a PCI device");
    Ok(PciLink {
        watches,
        regions: HashMap::new(),
        addresses,
        known: Vec::new(),
        nudge,
        configuration,
        queues,
        commands,
        features,
        line: vectors == 0,
        shared: vectors == 1,
        down: false,
        device,
    })
}

/// The memory of the device before, at the address at which that one had it.
fn inherit(
    area: &CommandArea,
    layout: &Layout,
    addresses: &mut Addresses,
) -> Option<(Arc<SharedMemory>, u64)> {
    let memory = area.memory.clone().as_any().downcast::<SharedMemory>().ok()?;
    let alike = memory.size() == layout.size() && area.offset == layout.commands.start;
    (alike && addresses.claim(area.address, memory.size())).then_some((memory, area.address))
}

/// The vectors of the configuration, the control queue and the cursor queue, where there are so many.
fn vector_plan(vectors: usize) -> [u16; 3] {
    match vectors {
        0 => [NO_VECTOR; 3],
        1 => [0; 3],
        // The queues need the vector to themselves more than they need one each.
        2 => [0, 1, 1],
        _ => [0, 1, 2],
    }
}

/// The token of a vector: one bit for each thing that it may tell of.
fn sources_of(vector: u16, plan: &[u16; 3]) -> u64 {
    let shared = |of: &u16| *of == vector || *of == NO_VECTOR;
    (0..).zip(plan).filter(|(_, of)| shared(of)).map(|(bit, _): (u32, _)| 1 << bit).sum()
}

impl Device {
    fn common(&self) -> Fields<'_> {
        Fields { registers: &self.vfio, window: self.structures.common }
    }

    fn specific(&self) -> Fields<'_> {
        Fields { registers: &self.vfio, window: self.structures.device }
    }

    /// Where a queue is notified (virtio 1.2, section 4.1.4.4), if that lies in the structure.
    fn bell(&self, place: u16) -> Option<Window> {
        let Structures { notify, notify_multiplier, .. } = self.structures;
        let offset = u64::from(place) * u64::from(notify_multiplier);
        (offset + 2 <= notify.length).then(|| Window { offset: notify.offset + offset, length: 2, ..notify })
    }
}

impl PciLink {
    fn tell(&mut self, event: LinkEvent) {
        self.known.push(event);
        signal(&self.nudge);
    }

    fn fail(&mut self, reason: &str, events: &mut Vec<LinkEvent>) {
        if !self.down {
            self.down = true;
            events.push(LinkEvent::Down { reason: reason.to_owned() });
        }
    }

    fn interrupted(&mut self, sources: u64, events: &mut Vec<LinkEvent>) {
        let mut sources = sources;
        if self.line {
            let mut why = [0];
            self.device.vfio.read(self.device.structures.interrupt, 0, &mut why);
            // Bit 0 is the queues, bit 1 the configuration (section 4.1.4.5). Reading has cleared it.
            let told = |bit: u8, sources| if why[0] & bit == 0 { 0 } else { sources };
            sources = told(1, QUEUES) | told(2, CONFIGURATION_CHANGED);
            self.device.vfio.unmask_line();
        }
        for queue in [0, 1] {
            if sources & 2 << queue != 0 {
                events.push(LinkEvent::Interrupt { queue });
            }
        }
        if sources & CONFIGURATION_CHANGED != 0 {
            self.look_at_configuration(events);
        }
    }

    fn look_at_configuration(&mut self, events: &mut Vec<LinkEvent>) {
        if let Some(trouble) = setup::trouble(self.device.common()) {
            return self.fail(trouble, events);
        }
        let told = setup::take_events(self.device.specific());
        match setup::configuration(self.device.common(), self.device.specific()) {
            Ok(configuration) if configuration != self.configuration => self.configuration = configuration,
            // One vector may serve all: then most of its interrupts are about something else.
            Ok(_) if self.shared && !told => return,
            Ok(_) => {}
            Err(error) => return tracing::warn!(%error, "a change of the configuration is not known"),
        }
        events.push(LinkEvent::ConfigurationChanged);
    }
}

impl Drop for PciLink {
    fn drop(&mut self) {
        // One that was pulled out has nothing to be reset.
        if setup::trouble(self.device.common()) == Some(setup::GONE) {
            return;
        }
        // The device must write nowhere any more before its memory is another's.
        if let Err(error) = setup::reset(self.device.common(), DROP_DEADLINE) {
            tracing::warn!(%error, "the device is left as it is; it loses its memory when it is closed");
        }
    }
}

impl Link for PciLink {
    fn features(&self) -> u64 {
        self.features
    }

    fn configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn queue(&self, index: u16) -> Option<QueueArea> {
        self.queues.get(usize::from(index)).map(|queue| queue.area.clone())
    }

    fn commands(&self) -> CommandArea {
        self.commands.clone()
    }

    fn kick(&mut self, queue: u16) {
        if let Some(it) = self.queues.get(usize::from(queue)) {
            self.device.vfio.write(it.bell, 0, &queue.to_le_bytes());
        }
    }

    fn open_region(&mut self, id: RegionId, bytes: usize, _device_optional: bool) {
        match SharedMemory::new(&format!("virgld-region-{}", id.0), bytes) {
            Ok(memory) => {
                let address = self.addresses.take(memory.size());
                if let Some(address) = address {
                    let open = Open { memory: memory.clone(), address, shown: HashMap::new() };
                    self.regions.insert(id, open);
                }
                self.tell(LinkEvent::RegionOpened(Region { id, memory, address }));
            }
            Err(error) => self.tell(LinkEvent::RegionRefused { id, reason: error.to_string() }),
        }
    }

    fn admit_region(&mut self, region: Region) {
        let memory = region.memory.clone().as_any().downcast::<SharedMemory>().ok();
        let address = region.address.filter(|address| self.addresses.claim(*address, region.memory.size()));
        let address = memory.zip(address).map(|(memory, address)| {
            // What it is to reach of it is shown to it anew.
            self.regions.insert(region.id, Open { memory, address, shown: HashMap::new() });
            address
        });
        self.tell(LinkEvent::RegionOpened(Region { address, ..region }));
    }

    fn close_region(&mut self, id: RegionId) {
        let Some(open) = self.regions.remove(&id) else { return };
        let mut all = true;
        for (offset, length) in open.shown {
            all &= self.device.vfio.unmap(open.address + offset as u64, length).is_ok();
        }
        // An address that could not be freed is not used again.
        if all {
            self.addresses.give_back(open.address);
        }
    }

    fn show(&mut self, id: RegionId, offset: usize, length: usize) {
        let Some(open) = self.regions.get_mut(&id) else { return };
        if open.shown.contains_key(&offset) {
            return;
        }
        let range = offset..offset + length;
        // VFIO is about to take every page of it as it lies. In large pieces it is read faster: fewer entries in the IOMMU's
        // tables, and a host that finds one piece draws from it without a copy. If it lies outside, mapping it fails too.
        let _ = open.memory.gather(offset, length);
        match self.device.vfio.map(&open.memory, range, open.address + offset as u64) {
            Ok(()) => {
                open.shown.insert(offset, length);
            }
            // The device answers the command that names this memory with an error, and its owner hears of that.
            Err(error) => {
                tracing::warn!(region = id.0, offset, length, %error, "the device cannot reach memory")
            }
        }
    }

    fn hide(&mut self, id: RegionId, offset: usize, _length: usize) {
        let Some(open) = self.regions.get_mut(&id) else { return };
        let Some(length) = open.shown.get(&offset).copied() else { return };
        match self.device.vfio.unmap(open.address + offset as u64, length) {
            Ok(()) => {
                open.shown.remove(&offset);
            }
            // It stays in the list, so that closing the region tries again and keeps the address if that fails.
            Err(error) => {
                tracing::warn!(region = id.0, offset, length, %error, "the device can still reach memory")
            }
        }
    }

    fn attached(&mut self) {
        for watch in &self.watches {
            watch.rearm();
        }
    }

    fn ready(&mut self, token: u64, events: &mut Vec<LinkEvent>) {
        match token {
            NUDGE => {}
            _ if self.down => {}
            RECALL => self.fail("the system wants the device back: it is being unplugged or unbound", events),
            sources => self.interrupted(sources, events),
        }
        events.append(&mut self.known);
    }
}

const NUDGE: u64 = 1 << 16;
const RECALL: u64 = 2 << 16;
const CONFIGURATION_CHANGED: u64 = 1;
const QUEUES: u64 = 0b110;
/// How long a device may take to reset before it is closed all the same.
const DROP_DEADLINE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_has_a_vector_however_few_there_are() {
        for vectors in 0..=3 {
            let plan = vector_plan(vectors);
            let count = u16::try_from(vectors.max(1)).unwrap();
            let tokens: Vec<u64> = (0..count).map(|vector| sources_of(vector, &plan)).collect();
            assert_eq!(
                tokens.iter().sum::<u64>(),
                CONFIGURATION_CHANGED | QUEUES,
                "{vectors}: each source once"
            );
            assert!(tokens.iter().all(|token| *token != 0 && *token < NUDGE));
        }
    }
}
