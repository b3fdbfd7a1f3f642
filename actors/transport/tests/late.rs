//! Interrupts that come late are not lost, and those that are lost are counted.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end there")]

use std::sync::Arc;

use virgld_protocol::message::transport::{Event, Publish};
use virgld_runtime::Time;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::io::Ready;
use virgld_runtime::link::{CommandArea, Link, LinkEvent, QueueArea, Region, RegionId};
use virgld_runtime::memory::{HeapMemory, Memory};
use virgld_transport::{Effect, State};

const SIZE: u16 = 8;
const AVAILABLE: usize = 128;
const USED: usize = 152;
/// VIRTIO_F_EVENT_IDX.
const EVENT_IDX: u64 = 1 << 29;

/// A connection to nothing: its queues are written by hand, and whoever says that it is ready makes an interrupt.
struct Wire {
    queues: [Arc<HeapMemory>; 2],
    features: u64,
}

impl Link for Wire {
    fn features(&self) -> u64 {
        self.features
    }

    fn configuration(&self) -> &[u8] {
        &[]
    }

    fn queue(&self, index: u16) -> Option<QueueArea> {
        let memory = self.queues.get(usize::from(index))?.clone();
        Some(QueueArea { memory, size: SIZE, descriptors: 0, available: AVAILABLE, used: USED })
    }

    fn commands(&self) -> CommandArea {
        CommandArea { memory: self.queues[0].clone(), address: 0, offset: 0, size: 0 }
    }

    fn kick(&mut self, _: u16) {}

    fn open_region(&mut self, _: RegionId, _: usize, _: bool) {}

    fn admit_region(&mut self, _: Region) {}

    fn close_region(&mut self, _: RegionId) {}

    fn ready(&mut self, queue: u64, events: &mut Vec<LinkEvent>) {
        events.push(LinkEvent::Interrupt { queue: u16::try_from(queue).unwrap() });
    }
}

/// A transport with one command under way, which the device answers.
struct Case {
    state: State,
    queue: Arc<HeapMemory>,
    pool: DmaPool,
    now: u64,
    answered: u16,
}

impl Case {
    fn new() -> Self {
        Self::with(0)
    }

    fn with(features: u64) -> Self {
        let queues = [HeapMemory::new(512), HeapMemory::new(512)];
        let queue = queues[0].clone();
        let mut state = State::default();
        state.attach(Box::new(Wire { queues, features }), &mut Vec::new());
        let classes = [SizeClass { size: 256, count: 4 }];
        let pool = DmaPool::new(HeapMemory::new(DmaPool::bytes(&classes)), 0x1000, 0, &classes).unwrap();
        Self { state, queue, pool, now: 1, answered: 0 }
    }

    /// Sends one command and has it answered, without an interrupt, after the thread has slept.
    fn answer(&mut self) {
        self.state.arm(&mut Vec::new());
        self.answer_awake();
    }

    /// The same while the thread is awake.
    fn answer_awake(&mut self) {
        let slice = self.pool.take(256).unwrap();
        let publish =
            Publish { queue: 0, cookie: 7, slice, request: (64, 32), response: (96, 32), awaited: false };
        self.state.publish(publish, &mut Vec::new());
        self.state.flush(&mut Vec::new());
        self.state.plan(Time(self.now));
        // The descriptor that heads the chain is named in the available ring (virtio 1.2, section 2.7.6).
        let slot = usize::from(self.answered % SIZE);
        let mut head = [0; 2];
        self.queue.read(AVAILABLE + 4 + 2 * slot, &mut head).unwrap();
        self.queue.write(USED + 4 + 8 * slot, &[head[0], head[1], 0, 0, 32, 0, 0, 0]).unwrap();
        self.answered += 1;
        self.queue.store_u16(USED + 2, self.answered).unwrap();
    }

    /// Waits until the transport looks by itself.
    fn look(&mut self) {
        let mut effects = Vec::new();
        self.now = self.state.deadline().unwrap().0;
        self.state.wake(Time(self.now), &mut effects);
        assert_eq!(effects.len(), 1, "what was answered is found: {effects:?}");
        self.state.plan(Time(self.now));
    }

    /// At which used element the device is to interrupt (virtio 1.2, section 2.7.10): the field behind the available ring.
    fn event(&self) -> u16 {
        self.queue.load_u16(AVAILABLE + 4 + 2 * usize::from(SIZE)).unwrap()
    }

    fn interrupt(&mut self) {
        self.state.ready(Ready(0), &mut Vec::new());
        self.state.plan(Time(self.now));
    }

    fn lost(&self) -> u64 {
        self.state.report().lost_interrupts
    }
}

#[test]
fn an_interrupt_that_comes_after_the_look_was_late() {
    let mut case = Case::new();
    for _ in 0..3 {
        case.answer();
        case.look();
        case.interrupt();
    }
    assert_eq!(case.lost(), 0);
}

#[test]
fn an_interrupt_that_never_comes_is_counted_at_the_next_look() {
    let mut case = Case::new();
    for lost in 0..3 {
        case.answer();
        case.look();
        assert_eq!(case.lost(), lost);
    }
    case.answer();
    case.interrupt();
    assert_eq!(case.lost(), 2, "an interrupt with something of its own explains nothing");
    case.answer();
    case.look();
    assert_eq!(case.lost(), 3);
}

#[test]
fn while_the_thread_is_awake_no_interrupt_is_asked_for_and_none_is_missing() {
    let mut case = Case::with(EVENT_IDX);
    assert!(!case.state.sees_used());
    for answered in 1..4 {
        case.answer_awake();
        assert!(case.state.sees_used());
        let mut effects = Vec::new();
        case.state.look(&mut effects);
        assert_eq!((effects.len(), case.event()), (1, 0), "the first interrupts, as nothing was used before");
        assert!(!case.state.sees_used(), "{answered} were taken");
    }
    case.answer_awake();
    case.look();
    case.answer_awake();
    case.look();
    assert_eq!(case.lost(), 0);
    case.state.arm(&mut Vec::new());
    assert_eq!(case.event(), 5, "the next is told of");
}

#[test]
fn what_was_used_before_the_thread_sleeps_is_taken_first() {
    let mut case = Case::with(EVENT_IDX);
    case.answer_awake();
    case.state.look(&mut Vec::new());
    case.answer_awake();
    let mut effects = Vec::new();
    case.state.arm(&mut effects);
    assert!(matches!(effects[..], [Effect::Queue(0, Event::Returned { .. })]), "{effects:?}");
    assert_eq!(case.event(), 2);
}

#[test]
fn commands_for_pointers_are_counted_apart() {
    let mut case = Case::new();
    case.answer();
    for cookie in 0..2 {
        let slice = case.pool.take(256).unwrap();
        let publish =
            Publish { queue: 1, cookie, slice, request: (64, 56), response: (0, 0), awaited: false };
        case.state.publish(publish, &mut Vec::new());
    }
    assert_eq!(case.state.report().cursor_commands, 2);
}

#[test]
fn what_a_device_was_through_with_is_taken_before_it_is_given_up() {
    let mut case = Case::new();
    case.answer();
    let mut effects = Vec::new();
    case.state.condemn("the test says so", &mut effects);
    let returned =
        effects.iter().position(|it| matches!(it, Effect::Queue(0, Event::Returned { cookie: 7, .. })));
    let down = effects.iter().position(|it| matches!(it, Effect::Queue(0, Event::Down { .. })));
    assert!(returned.is_some() && returned < down, "{effects:?}");
}
