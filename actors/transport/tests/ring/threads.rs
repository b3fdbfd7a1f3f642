//! Driver and device on two threads, with no more order between their accesses than the barriers make.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use virgld_runtime::link::QueueArea;
use virgld_runtime::memory::{Memory, OutOfBounds, check};
use virgld_testkit::queue::{AddressSpace, DeviceQueue};
use virgld_transport::ring::{Ring, RingFeatures};

use crate::setup::{Memories, SLICE_SIZE, Shape, publish};

const SIZE: u16 = 8;
const COMMANDS: u32 = 5_000;
/// Often enough for accesses to change places.
const ROUNDS: u32 = 100_000;
/// A wake-up that takes this long is lost.
const LOST: Duration = Duration::from_secs(20);

/// Memory whose counters move whole, and whose other bytes are ordered by them alone.
struct Words(Box<[AtomicU16]>);

impl Words {
    fn range(&self, offset: usize, length: usize) -> Result<&[AtomicU16], OutOfBounds> {
        check(offset, length, self.size())?;
        assert!(offset.is_multiple_of(2) && length.is_multiple_of(2), "a ring has 16-bit fields and larger");
        Ok(&self.0[offset / 2..(offset + length) / 2])
    }
}

impl Memory for Words {
    fn size(&self) -> usize {
        self.0.len() * 2
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        for (word, bytes) in self.range(offset, into.len())?.iter().zip(into.chunks_exact_mut(2)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        for (word, bytes) in self.range(offset, from.len())?.iter().zip(from.chunks_exact(2)) {
            word.store(u16::from_le_bytes([bytes[0], bytes[1]]), Ordering::Relaxed);
        }
        Ok(())
    }

    fn load_u16(&self, offset: usize) -> Result<u16, OutOfBounds> {
        Ok(self.range(offset, 2)?[0].load(Ordering::Acquire))
    }

    fn store_u16(&self, offset: usize, value: u16) -> Result<(), OutOfBounds> {
        self.range(offset, 2)?[0].store(value, Ordering::Release);
        Ok(())
    }

    fn discard(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        self.range(offset, length)?.iter().for_each(|word| word.store(0, Ordering::Release));
        Ok(())
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A ring and its device on memory that two threads may share. Each part has cache lines of its own, as in a real
/// queue: in one line, accesses rarely change places.
fn pair(features: RingFeatures) -> (Ring, DeviceQueue) {
    let memory = Arc::new(Words((0..1024).map(|_| AtomicU16::new(0)).collect()));
    let area = QueueArea { memory, size: SIZE, descriptors: 0, available: 512, used: 1024 };
    (Ring::new(&area, features).unwrap(), DeviceQueue::new(area, features.bits()))
}

/// An eventfd: any number of wake-ups before a wait are one.
fn bell() -> (SyncSender<()>, Receiver<()>) {
    sync_channel(1)
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    for features in [RingFeatures::EVENT_IDX, RingFeatures::empty()] {
        let (ring, queue) = pair(features);
        let memory = Memories::new(usize::from(SIZE));
        let space = memory.space.clone();
        let (kick, kicked) = bell();
        let (interrupt, interrupted) = bell();
        let device = thread::spawn(move || serve(queue, &space, &kicked, &interrupt));
        drive(ring, memory, &kick, &interrupted);
        drop(kick);
        device.join().unwrap();
    }
}

fn drive(mut ring: Ring, mut memory: Memories, kick: &SyncSender<()>, interrupted: &Receiver<()>) {
    let shape = Shape { readable: vec![4], writable: vec![], table: false };
    let mut held = Vec::new();
    held.resize_with(usize::from(SIZE), || None);
    let (mut sent, mut returned) = (0, 0);
    while returned < COMMANDS {
        // Bursts of one to three: both sides go to sleep again and again.
        for _ in 0..=sent % 3 {
            if sent == COMMANDS || ring.free() == 0 {
                break;
            }
            let slice = memory.pool.take(SLICE_SIZE).unwrap();
            let head = publish(&mut ring, &slice, &shape, sent).unwrap();
            held[usize::from(head)] = Some((sent, slice));
            sent += 1;
        }
        if ring.flush().unwrap() {
            // Full: it rings already.
            let _ = kick.try_send(());
        }
        while let Some(used) = ring.pop().unwrap() {
            let place =
                held.iter_mut().find(|place| matches!(place, Some((cookie, _)) if *cookie == used.cookie));
            *place.expect("a cookie in flight") = None;
            returned += 1;
        }
        if ring.in_flight() > 0 && ring.arm().unwrap() {
            interrupted.recv_timeout(LOST).expect("a kick or an interrupt was lost");
        }
    }
}

fn serve(mut queue: DeviceQueue, space: &AddressSpace, kicked: &Receiver<()>, interrupt: &SyncSender<()>) {
    loop {
        queue.refuse_kicks().unwrap();
        while let Some(request) = queue.pop(space).unwrap() {
            assert_eq!(request.read(space).unwrap().len(), 4);
            queue.push(request, 0).unwrap();
            if queue.wants_interrupt().unwrap() {
                let _ = interrupt.try_send(());
            }
        }
        queue.ask_for_kick().unwrap();
        if queue.available().unwrap() > 0 {
            continue;
        }
        match kicked.recv_timeout(LOST) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => panic!("a kick or an interrupt was lost"),
        }
    }
}

/// Where both threads meet, without a system call between, so that what follows happens at once.
#[derive(Default)]
struct Meeting {
    arrived: AtomicU32,
    device_sleeps: AtomicBool,
    interrupt: AtomicBool,
}

impl Meeting {
    /// Then waits a little, not always equally long, to try every distance between the two.
    fn meet(&self, turn: &mut u32, skew: u32) {
        *turn += 2;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::Acquire) < *turn {
            spins += 1;
            // The other thread may want this very processor.
            if spins.is_multiple_of(256) { thread::yield_now() } else { std::hint::spin_loop() }
        }
        (0..skew).for_each(|_| std::hint::spin_loop());
    }
}

/// In each round the driver flushes while the device goes to sleep, and arms while the device answers. Without the
/// barriers an optimised build fails this in nearly every run; in an unoptimised one the accesses are too far apart to change
/// places, so the workspace has the crates that matter here optimised in tests too.
#[test]
fn one_side_always_sees_the_other() {
    for features in [RingFeatures::EVENT_IDX, RingFeatures::empty()] {
        let (ring, queue) = pair(features);
        let memory = Memories::new(usize::from(SIZE));
        let space = memory.space.clone();
        let meeting = Arc::new(Meeting::default());
        let device = thread::spawn({
            let meeting = meeting.clone();
            move || meet_as_device(queue, &space, &meeting)
        });
        meet_as_driver(ring, memory, &meeting);
        device.join().unwrap();
    }
}

fn meet_as_driver(mut ring: Ring, mut memory: Memories, meeting: &Meeting) {
    let shape = Shape { readable: vec![4], writable: vec![], table: false };
    let (mut turn, mut lost_kicks, mut lost_interrupts) = (0, 0, 0);
    for cookie in 0..ROUNDS {
        let skew = cookie % 13;
        let slice = memory.pool.take(SLICE_SIZE).unwrap();
        publish(&mut ring, &slice, &shape, cookie).unwrap();
        ring.disarm().unwrap();
        meeting.meet(&mut turn, skew);
        let kick = ring.flush().unwrap();
        meeting.meet(&mut turn, skew);
        lost_kicks += u32::from(!kick && meeting.device_sleeps.load(Ordering::Relaxed));
        meeting.meet(&mut turn, skew);
        let armed = ring.arm().unwrap();
        meeting.meet(&mut turn, skew);
        lost_interrupts += u32::from(armed && !meeting.interrupt.load(Ordering::Relaxed));
        assert_eq!(ring.pop().unwrap().map(|used| used.cookie), Some(cookie));
    }
    assert_eq!((lost_kicks, lost_interrupts), (0, 0));
}

fn meet_as_device(mut queue: DeviceQueue, space: &AddressSpace, meeting: &Meeting) {
    let mut turn = 0;
    for round in 0..ROUNDS {
        let skew = round % 11;
        queue.refuse_kicks().unwrap();
        meeting.meet(&mut turn, skew);
        queue.ask_for_kick().unwrap();
        meeting.device_sleeps.store(queue.available().unwrap() == 0, Ordering::Relaxed);
        meeting.meet(&mut turn, skew);
        let request = queue.pop(space).unwrap().unwrap();
        meeting.meet(&mut turn, skew);
        queue.push(request, 0).unwrap();
        meeting.interrupt.store(queue.wants_interrupt().unwrap(), Ordering::Relaxed);
        meeting.meet(&mut turn, skew);
    }
}
