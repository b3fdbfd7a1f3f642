//! A device that writes whatever it likes, whenever it likes.
//!
//! What has to hold: no panic; a cookie comes back at most once, and only while it is in flight; either the ring
//! goes on or it says what the device did; and a reset makes it good again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use virgld_runtime::dma::DmaSlice;
use virgld_testkit::queue::Request;
use virgld_transport::ring::{RingFault, Used};

use crate::model;
use crate::setup::{Bench, SLICE_SIZE, Shape, area_bytes, combinations, publish};

const SIZE: u16 = 8;

#[derive(Debug, Clone)]
enum Step {
    Honest(model::Step),
    Used {
        id: u32,
        length: u32,
    },
    Element {
        position: u16,
        id: u32,
        length: u32,
    },
    /// Relative to the device's own index.
    Index(u16),
    Flags(u16),
    Event(u16),
    Scribble(usize, Vec<u8>),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![8 => 0..u32::from(SIZE), 1 => any::<u32>()];
    let near = prop_oneof![3 => 0..4_u16, 1 => any::<u16>()];
    let bytes = prop::collection::vec(any::<u8>(), 1..12);
    prop_oneof![
        24 => model::step().prop_map(Step::Honest),
        2 => (id(), any::<u32>()).prop_map(|(id, length)| Step::Used { id, length }),
        2 => (any::<u16>(), id(), any::<u32>())
            .prop_map(|(position, id, length)| Step::Element { position, id, length }),
        2 => near.prop_map(Step::Index),
        1 => any::<u16>().prop_map(Step::Flags),
        1 => any::<u16>().prop_map(Step::Event),
        2 => (0..area_bytes(SIZE), bytes).prop_map(|(offset, bytes)| Step::Scribble(offset, bytes)),
        2 => Just(Step::Reset),
    ]
}

struct Ordeal {
    bench: Bench,
    next_cookie: u32,
    in_flight: BTreeMap<u32, (Shape, DmaSlice)>,
    held: Vec<Request>,
    fault: Option<RingFault>,
    /// An arm said that there is an element.
    promised: bool,
}

impl Ordeal {
    fn play(&mut self, step: Step) {
        match step {
            Step::Honest(step) => self.play_honest(step),
            Step::Reset => self.reset(),
            lie => self.lie(lie),
        }
        let outstanding: BTreeSet<u32> = self.bench.ring.outstanding().collect();
        assert_eq!(outstanding, self.in_flight.keys().copied().collect());
        assert_eq!(usize::from(self.bench.ring.in_flight()), self.in_flight.len());
        assert_eq!(self.bench.ring.fault(), self.fault);
    }

    fn play_honest(&mut self, step: model::Step) {
        match step {
            model::Step::Publish(shape) => self.publish(shape),
            model::Step::Flush => {
                let flushed = self.bench.ring.flush();
                self.judge(flushed);
            }
            model::Step::Pop => self.pop(),
            model::Step::Arm => {
                let armed = self.bench.ring.arm();
                self.promised = self.judge(armed) == Some(false);
            }
            model::Step::Disarm => {
                let disarmed = self.bench.ring.disarm();
                self.judge(disarmed);
            }
            // By now the device may find anything in its own ring: what it makes of it is its own affair.
            model::Step::Take => {
                self.held.extend(self.bench.device.pop(&self.bench.memory.space).ok().flatten())
            }
            model::Step::Answer(which, claimed) if !self.held.is_empty() => {
                let request = self.held.swap_remove(which % self.held.len());
                self.bench.device.push(request, claimed).unwrap();
            }
            model::Step::Answer(..) => {}
            model::Step::AskForKick => self.bench.device.ask_for_kick().unwrap(),
            model::Step::AskForInterrupt => drop(self.bench.device.wants_interrupt()),
        }
    }

    fn lie(&mut self, lie: Step) {
        let device = &mut self.bench.device;
        match lie {
            Step::Used { id, length } => device.forge_used(id, length).unwrap(),
            Step::Element { position, id, length } => device.forge_element(position, id, length).unwrap(),
            Step::Index(distance) => device.forge_index(device.used_index().wrapping_add(distance)).unwrap(),
            Step::Flags(flags) => device.forge_flags(flags).unwrap(),
            Step::Event(index) => device.forge_available_event(index).unwrap(),
            // May reach past the end; then nothing is written.
            Step::Scribble(offset, bytes) => drop(device.scribble(offset, &bytes)),
            Step::Honest(_) | Step::Reset => unreachable!("not lies"),
        }
    }

    fn publish(&mut self, shape: Shape) {
        let Some(slice) = self.bench.memory.pool.take(SLICE_SIZE) else { return };
        let published = publish(&mut self.bench.ring, &slice, &shape, self.next_cookie);
        if published.is_ok() {
            assert_eq!(self.fault, None);
            self.in_flight.insert(self.next_cookie, (shape, slice));
            self.next_cookie += 1;
        }
    }

    fn pop(&mut self) {
        let popped = self.bench.ring.pop();
        let promised = std::mem::take(&mut self.promised);
        match self.judge(popped) {
            Some(Some(Used { cookie, written, claimed })) => {
                let (shape, _) = self.in_flight.remove(&cookie).expect("a cookie that was not in flight");
                assert_eq!(written, claimed.min(shape.room()));
            }
            Some(None) => assert!(!promised, "arm promised an element or a fault"),
            None => {}
        }
    }

    /// Notes the first fault; after that, there is no other answer.
    fn judge<T>(&mut self, answer: Result<T, RingFault>) -> Option<T> {
        match answer {
            Ok(value) => {
                assert_eq!(self.fault, None, "a poisoned ring went on");
                Some(value)
            }
            Err(fault) => {
                assert_eq!(*self.fault.get_or_insert(fault), fault);
                None
            }
        }
    }

    fn reset(&mut self) {
        self.held.clear();
        self.in_flight.clear();
        (self.fault, self.promised) = (None, false);
        self.bench.restart();
    }

    fn works_after_a_reset(&mut self) {
        self.reset();
        self.publish(Shape { readable: vec![4], writable: vec![4], table: true });
        assert!(self.bench.ring.flush().unwrap());
        let request = self.bench.device.pop(&self.bench.memory.space).unwrap().unwrap();
        self.bench.device.push(request, 4).unwrap();
        self.pop();
        assert!(self.in_flight.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_device_breaks_a_ring(
        features in prop::sample::select(combinations().to_vec()),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut ordeal = Ordeal {
            bench: Bench::new(SIZE, features),
            next_cookie: 0,
            in_flight: BTreeMap::new(),
            held: Vec::new(),
            fault: None,
            promised: false,
        };
        steps.into_iter().for_each(|step| ordeal.play(step));
        ordeal.works_after_a_reset();
    }
}
