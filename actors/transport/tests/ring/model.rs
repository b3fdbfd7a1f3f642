//! Random lives of a ring with an honest device that completes in any order, against a model of both.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use virgld_runtime::dma::DmaSlice;
use virgld_testkit::queue::Request;
use virgld_transport::ring::{Refused, RingFeatures, Used};

use crate::setup::{Bench, SLICE_SIZE, Shape, combinations, publish};

const SIZE: u16 = 8;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Publish(Shape),
    Flush,
    Take,
    /// Which of the held requests, how many bytes to claim.
    Answer(usize, u32),
    Pop,
    Arm,
    Disarm,
    AskForKick,
    AskForInterrupt,
}

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let lengths = |least: usize| prop::collection::vec(1..32_u32, least..4);
    (lengths(1), lengths(0), any::<bool>()).prop_map(|(readable, writable, table)| Shape {
        readable,
        writable,
        table,
    })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => shape().prop_map(Step::Publish),
        3 => Just(Step::Flush),
        4 => Just(Step::Take),
        4 => (any::<usize>(), 0..160_u32).prop_map(|(which, claimed)| Step::Answer(which, claimed)),
        4 => Just(Step::Pop),
        2 => Just(Step::Arm),
        1 => Just(Step::Disarm),
        2 => Just(Step::AskForKick),
        2 => Just(Step::AskForInterrupt),
    ]
}

/// A ring and what it should be.
struct Life {
    bench: Bench,
    next_cookie: u32,
    /// What each cookie in flight stands for. The slice lives as long.
    commands: BTreeMap<u32, (Shape, DmaSlice)>,
    hidden: VecDeque<u32>,
    visible: VecDeque<u32>,
    held: Vec<(u32, Request)>,
    used: VecDeque<Used>,
    /// Chains shown, elements pushed and taken: ever, so free of any wrap.
    shown: u64,
    pushed: u64,
    popped: u64,
    /// How many chains had been taken when the device last asked for a kick.
    kick_at: u64,
    taken: u64,
    /// How many elements had been taken when the driver last armed.
    interrupt_at: Option<u64>,
    /// No interrupts were asked for since the last disarm.
    disarmed: bool,
    signalled: u64,
}

impl Life {
    fn new(features: RingFeatures) -> Self {
        Self {
            bench: Bench::new(SIZE, features),
            next_cookie: 0,
            commands: BTreeMap::new(),
            hidden: VecDeque::new(),
            visible: VecDeque::new(),
            held: Vec::new(),
            used: VecDeque::new(),
            shown: 0,
            pushed: 0,
            popped: 0,
            kick_at: 0,
            taken: 0,
            interrupt_at: Some(0),
            disarmed: false,
            signalled: 0,
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Publish(shape) => self.publish(shape),
            Step::Flush => self.flush(),
            Step::Take => self.take(),
            Step::Answer(which, claimed) => self.answer(which, claimed),
            Step::Pop => self.pop(),
            Step::Arm => self.arm(),
            Step::Disarm => self.disarm(),
            Step::AskForKick => self.ask_for_kick(),
            Step::AskForInterrupt => self.ask_for_interrupt(),
        }
        let ring = &self.bench.ring;
        assert_eq!(usize::from(ring.in_flight()), self.commands.len());
        assert_eq!(ring.free(), self.free());
        assert_eq!(ring.fault(), None);
    }

    fn free(&self) -> u16 {
        let taken: u16 =
            self.commands.values().map(|(shape, _)| shape.descriptors(self.bench.features)).sum();
        SIZE - taken
    }

    fn publish(&mut self, shape: Shape) {
        let (needed, free) = (shape.descriptors(self.bench.features), self.free());
        let Some(slice) = self.bench.memory.pool.take(SLICE_SIZE) else { return };
        let cookie = self.next_cookie;
        let published = publish(&mut self.bench.ring, &slice, &shape, cookie);
        if needed > free {
            assert_eq!(published, Err(Refused::Full { needed, free }));
            return;
        }
        assert!(published.is_ok());
        self.next_cookie += 1;
        self.commands.insert(cookie, (shape, slice));
        self.hidden.push_back(cookie);
    }

    fn flush(&mut self) {
        let before = self.shown;
        self.shown += self.hidden.len() as u64;
        self.visible.append(&mut self.hidden);
        let kick = self.bench.ring.flush().unwrap();
        if self.has_events() {
            assert_eq!(kick, (before..self.shown).contains(&self.kick_at));
        } else {
            assert_eq!(kick, before < self.shown, "the device never refuses kicks here");
        }
    }

    fn take(&mut self) {
        let request = self.bench.device.pop(&self.bench.memory.space).expect("the driver keeps the rules");
        assert_eq!(request.is_some(), !self.visible.is_empty());
        let (Some(request), Some(cookie)) = (request, self.visible.pop_front()) else { return };
        let shape = &self.commands[&cookie].0;
        assert_eq!(request.read(&self.bench.memory.space).unwrap(), shape.request(cookie));
        assert_eq!(request.room(), u64::from(shape.room()));
        self.taken += 1;
        self.held.push((cookie, request));
    }

    fn answer(&mut self, which: usize, claimed: u32) {
        if self.held.is_empty() {
            return;
        }
        let (cookie, request) = self.held.swap_remove(which % self.held.len());
        self.bench.device.push(request, claimed).unwrap();
        self.pushed += 1;
        self.used.push_back(Used { cookie, written: claimed.min(self.commands[&cookie].0.room()), claimed });
    }

    fn pop(&mut self) {
        let expected = self.used.pop_front();
        assert_eq!(self.bench.ring.pop(), Ok(expected));
        if let Some(used) = expected {
            self.popped += 1;
            self.commands.remove(&used.cookie);
        }
    }

    fn arm(&mut self) {
        let armed = self.bench.ring.arm().unwrap();
        assert_eq!(armed, self.used.is_empty());
        self.disarmed = false;
        if armed {
            self.interrupt_at = Some(self.popped);
        }
    }

    fn disarm(&mut self) {
        self.bench.ring.disarm().unwrap();
        self.interrupt_at = None;
        self.disarmed = true;
    }

    fn ask_for_kick(&mut self) {
        self.bench.device.ask_for_kick().unwrap();
        self.kick_at = self.taken;
    }

    /// An armed driver is interrupted, once it is due. With event indices a disarmed one may be, too: its wish
    /// reached a device that had elements to tell of already.
    fn ask_for_interrupt(&mut self) {
        let (before, wanted) = (self.signalled, self.bench.device.wants_interrupt().unwrap());
        self.signalled = self.pushed;
        if self.interrupt_at.is_some_and(|event| (before..self.pushed).contains(&event)) {
            assert!(wanted, "a lost interrupt");
        }
        if before == self.pushed || self.disarmed && !self.has_events() {
            assert!(!wanted, "an interrupt nobody asked for");
        }
    }

    fn has_events(&self) -> bool {
        self.bench.features.contains(RingFeatures::EVENT_IDX)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_life_follows_the_model(
        features in prop::sample::select(combinations().to_vec()),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut life = Life::new(features);
        steps.into_iter().for_each(|step| life.play(step));
    }
}

/// All indices wrap, with chains in flight across each wrap.
#[test]
fn a_long_life_follows_the_model() {
    for features in [RingFeatures::empty(), RingFeatures::all()] {
        let mut life = Life::new(features);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        while life.popped < 66_000 {
            // Knuth's generator: enough to mix steps, and the same on each run.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (choice, detail) = ((random >> 33) % 16, usize::try_from(random >> 40).unwrap());
            let small = u32::try_from(detail % 3).unwrap();
            life.play(match choice {
                0..4 => Step::Publish(Shape { readable: vec![1 + small], writable: vec![4], table: true }),
                4..6 => Step::Flush,
                6..9 => Step::Take,
                9..12 => Step::Answer(detail, small),
                12..14 => Step::Pop,
                14 => Step::AskForKick,
                _ => Step::Arm,
            });
        }
    }
}
