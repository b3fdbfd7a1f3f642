//! No wake-up is lost: neither a kick nor an interrupt, wherever one side interrupts the other.
//!
//! The ring's memory calls the device before each access of the driver, so the device can take any number of its
//! own small steps between any two of the driver's. What is checked is that both sides never sleep while there
//! is work. This plays sequentially consistent orders; `threads` adds those of a real machine.

use std::any::Any;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use virgld_runtime::dma::DmaSlice;
use virgld_runtime::memory::{HeapMemory, Memory, OutOfBounds};
use virgld_testkit::queue::{AddressSpace, DeviceQueue, Request};
use virgld_transport::ring::{Refused, Ring, RingFeatures};

use crate::setup::{Memories, SLICE_SIZE, Shape, area, area_bytes, combinations, publish};

const SIZE: u16 = 4;

/// What the device does next.
enum Phase {
    Take,
    Push(Request),
    Signal,
    Ask,
    Recheck,
    Asleep,
}

struct Device {
    queue: DeviceQueue,
    space: AddressSpace,
    phase: Phase,
    /// Elements were pushed and the driver's wish not looked up since.
    unsignalled: bool,
    kicked: bool,
    interrupted: bool,
    /// How many steps to take before each access of the driver, and what is left of that.
    schedule: Vec<u8>,
    at: usize,
}

impl Device {
    fn step(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Asleep) {
            Phase::Take => match self.queue.pop(&self.space).expect("the driver keeps the rules") {
                Some(request) => Phase::Push(request),
                None if self.unsignalled => Phase::Signal,
                None => Phase::Ask,
            },
            Phase::Push(request) => {
                self.queue.push(request, 0).unwrap();
                self.unsignalled = true;
                // Every other time it tells of several at once.
                if self.queue.used_index().is_multiple_of(2) { Phase::Take } else { Phase::Signal }
            }
            Phase::Signal => {
                self.interrupted |= self.queue.wants_interrupt().unwrap();
                self.unsignalled = false;
                Phase::Take
            }
            Phase::Ask => {
                self.queue.ask_for_kick().unwrap();
                Phase::Recheck
            }
            Phase::Recheck if self.queue.available().unwrap() > 0 => self.wake(),
            Phase::Recheck | Phase::Asleep if std::mem::take(&mut self.kicked) => self.wake(),
            Phase::Recheck | Phase::Asleep => Phase::Asleep,
        };
    }

    fn wake(&mut self) -> Phase {
        self.queue.refuse_kicks().unwrap();
        Phase::Take
    }

    /// The driver is about to touch memory.
    fn interfere(&mut self) {
        let steps = self.schedule.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        (0..steps).for_each(|_| self.step());
    }

    fn is_asleep(&self) -> bool {
        matches!(self.phase, Phase::Asleep) && !self.kicked
    }
}

/// Memory that lets the device run before each access.
struct Watched {
    memory: Arc<HeapMemory>,
    device: Arc<Mutex<Option<Device>>>,
}

impl Watched {
    fn memory(&self) -> &HeapMemory {
        if let Some(device) = self.device.lock().unwrap().as_mut() {
            device.interfere();
        }
        &self.memory
    }
}

impl Memory for Watched {
    fn size(&self) -> usize {
        self.memory.size()
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.memory().read(offset, into)
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.memory().write(offset, from)
    }

    fn load_u16(&self, offset: usize) -> Result<u16, OutOfBounds> {
        self.memory().load_u16(offset)
    }

    fn store_u16(&self, offset: usize, value: u16) -> Result<(), OutOfBounds> {
        self.memory().store_u16(offset, value)
    }

    fn discard(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        self.memory().discard(offset, length)
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A driver that sleeps whenever it may.
struct Driver {
    ring: Ring,
    memory: Memories,
    device: Arc<Mutex<Option<Device>>>,
    slices: Vec<(u32, DmaSlice)>,
}

impl Driver {
    fn new(features: RingFeatures, schedule: Vec<u8>) -> Self {
        let memory = Memories::new(usize::from(SIZE));
        let rings = HeapMemory::new(area_bytes(SIZE));
        let device = Arc::new(Mutex::new(None));
        let watched = Arc::new(Watched { memory: rings.clone(), device: device.clone() });
        let ring = Ring::new(&area(watched, SIZE), features).unwrap();
        let queue = DeviceQueue::new(area(rings, SIZE), features.bits());
        let space = memory.space.clone();
        let (phase, at) = (Phase::Take, 0);
        let (unsignalled, kicked, interrupted) = (false, false, false);
        let started = Device { queue, space, phase, unsignalled, kicked, interrupted, schedule, at };
        *device.lock().unwrap() = Some(started);
        Self { ring, memory, device, slices: Vec::new() }
    }

    /// Sends that many commands in bursts, and sleeps between them.
    fn run(&mut self, commands: u32, burst: u32, polls: bool) {
        let mut sent = 0;
        let mut returned = 0;
        // A new ring is armed, which would hide that an arm comes too late.
        self.ring.disarm().unwrap();
        while returned < commands {
            let limit = commands.min(sent + burst);
            while sent < limit && self.send(sent) {
                sent += 1;
            }
            if self.ring.flush().unwrap() {
                self.with_device(|device| device.kicked = true);
            }
            returned += self.collect();
            if self.ring.in_flight() > 0 && self.ring.arm().unwrap() {
                self.sleep();
                if polls {
                    self.ring.disarm().unwrap();
                }
            }
        }
    }

    fn send(&mut self, cookie: u32) -> bool {
        let Some(slice) = self.memory.pool.take(SLICE_SIZE) else { return false };
        let shape = Shape { readable: vec![1], writable: vec![], table: false };
        match publish(&mut self.ring, &slice, &shape, cookie) {
            Ok(_) => self.slices.push((cookie, slice)),
            Err(refused) => assert!(matches!(refused, Refused::Full { .. })),
        }
        self.slices.last().is_some_and(|(last, _)| *last == cookie)
    }

    fn collect(&mut self) -> u32 {
        let mut count = 0;
        while let Some(used) = self.ring.pop().unwrap() {
            self.slices.retain(|(cookie, _)| *cookie != used.cookie);
            count += 1;
        }
        count
    }

    fn sleep(&mut self) {
        self.with_device(|device| {
            while !std::mem::take(&mut device.interrupted) {
                assert!(!device.is_asleep(), "both sides sleep and commands are in flight");
                device.step();
            }
        });
    }

    fn with_device(&mut self, act: impl FnOnce(&mut Device)) {
        act(self.device.lock().unwrap().as_mut().unwrap());
    }
}

/// Every schedule that interrupts the driver's first 16 accesses at most twice, with up to six steps each.
#[test]
fn no_wake_up_is_lost_by_one_or_two_interruptions() {
    const ACCESSES: usize = 16;
    for features in combinations() {
        for (first, second) in (0..ACCESSES).flat_map(|first| (first..ACCESSES).map(move |at| (first, at))) {
            for (some, more) in (0..=6).flat_map(|some| (0..=6).map(move |more| (some, more))) {
                let mut schedule = vec![0; ACCESSES];
                schedule[first] += some;
                schedule[second] += more;
                Driver::new(features, schedule).run(4, 2, some % 2 == 0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_wake_up_is_lost_by_any_schedule(
        features in prop::sample::select(combinations().to_vec()),
        schedule in prop::collection::vec(prop_oneof![2 => Just(0_u8), 3 => 0..6_u8], 0..300),
        burst in 1..6_u32,
        polls in any::<bool>(),
    ) {
        Driver::new(features, schedule).run(30, burst, polls);
    }
}
