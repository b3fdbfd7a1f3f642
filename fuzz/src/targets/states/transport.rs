//! Any messages to the transport, whose link is simulated and whose device lies.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virgld_protocol::ids::Token;
use virgld_protocol::message::transport::{Event, Publish, RegionEvent, RegionRequest};
use virgld_runtime::Time;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::io::Ready;
use virgld_runtime::link::{Link, RegionId};
use virgld_testkit::device::{FakeDevice, Temper};
use virgld_testkit::link::{FakeLink, LinkConfig};
use virgld_transport::{Effect, State};

use crate::Input;
use crate::targets::device::lie;

struct Desk {
    state: State,
    effects: Vec<Effect>,
    device: FakeDevice,
    commands: DmaPool,
    now: Time,
    /// Whether the link has something to tell.
    ready: Arc<Mutex<bool>>,
    /// Published, and neither returned nor lost.
    out: BTreeSet<u32>,
    /// Regions asked for and not answered.
    asked: BTreeSet<Token>,
    next: u32,
}

/// A command comes back or is lost, once; a region is answered once; whatever the device writes.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let ready = Arc::default();
    let (link, device, commands) = connect(&ready);
    let mut desk = Desk {
        state: State::default(),
        effects: Vec::new(),
        device,
        commands,
        now: Time(1),
        ready,
        out: BTreeSet::new(),
        asked: BTreeSet::new(),
        next: 0,
    };
    desk.state.attach(Box::new(link), &mut desk.effects);
    while !input.is_used_up() {
        desk.step(&mut input);
        desk.listen();
        desk.state.plan(desk.now);
        desk.check();
    }
}

const BLOCK: SizeClass = SizeClass { size: 256, count: 24 };

fn connect(ready: &Arc<Mutex<bool>>) -> (FakeLink, FakeDevice, DmaPool) {
    let config =
        LinkConfig { queue_size: 8, command_bytes: DmaPool::bytes(&[BLOCK]), ..LinkConfig::default() };
    let told = Arc::clone(ready);
    let link = FakeLink::new(
        config,
        Box::new(move |_| told.lock().is_ok_and(|mut it| std::mem::replace(&mut *it, true))),
    );
    let device = FakeDevice::new(&link, Temper::default(), 0);
    let area = link.commands();
    let pool = DmaPool::new(area.memory, area.address, area.offset, &[BLOCK]);
    (link, device, pool.expect("the link has as much memory"))
}

impl Desk {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(12) {
            0..=2 => self.publish(input),
            3 => self.region(input),
            4 => self.state.flush(&mut self.effects),
            5 => drop(self.device.take(input.below(4))),
            6 => drop(self.device.answer(input.below(4))),
            7 | 8 => lie(&mut self.device, input),
            9 => drop(self.device.open_regions()),
            10 if input.chance(40) => self.replace(input),
            _ => {
                self.now = self.now.after(Duration::from_millis(u64::from(input.byte())));
                self.state.wake(self.now, &mut self.effects);
            }
        }
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let Some(slice) = self.commands.take(BLOCK.size) else { return };
        self.next += 1;
        self.out.insert(self.next);
        let request = (64, u32::from(input.byte() % 96));
        let response = (160, u32::from(input.byte() % 96));
        let (queue, awaited) = (u16::from(input.flag()), input.flag());
        let publish = Publish { queue, cookie: self.next, slice, request, response, awaited };
        self.state.publish(publish, &mut self.effects);
    }

    fn region(&mut self, input: &mut Input<'_>) {
        let id = RegionId(u64::from(input.byte() % 8));
        let (offset, length) = (input.number() as usize, input.number() as usize);
        self.state.region(match input.below(4) {
            0 => RegionRequest::Close { id },
            1 => RegionRequest::Show { id, offset, length },
            2 => RegionRequest::Hide { id, offset, length },
            _ => {
                self.next += 1;
                let token = Token(u64::from(self.next));
                self.asked.insert(token);
                RegionRequest::Open { token, bytes: 4096, device_optional: input.flag() }
            }
        });
    }

    fn replace(&mut self, input: &mut Input<'_>) {
        if input.flag() {
            return self.state.condemn("fuzz", &mut self.effects);
        }
        let (link, device, commands) = connect(&self.ready);
        (self.device, self.commands) = (device, commands);
        self.state.attach(Box::new(link), &mut self.effects);
    }

    fn listen(&mut self) {
        let told = self.ready.lock().is_ok_and(|mut it| std::mem::take(&mut *it));
        if told {
            self.state.ready(Ready(0), &mut self.effects);
        }
    }

    fn check(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Queue(_, Event::Returned { cookie, .. } | Event::Lost { cookie }) => {
                    assert!(self.out.remove(&cookie), "command {cookie} ended twice");
                }
                Effect::Region(RegionEvent::Opened { token, .. } | RegionEvent::Refused { token }) => {
                    assert!(self.asked.remove(&token), "{token:?} was answered twice");
                }
                _ => {}
            }
        }
        let report = self.state.report();
        assert_eq!(report.in_flight + report.waiting, self.out.len());
    }
}
