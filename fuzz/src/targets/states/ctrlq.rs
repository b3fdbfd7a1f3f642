//! Any messages to the control queue.

use std::collections::BTreeMap;
use std::time::Duration;

use virgld_ctrlq::{Effect, State};
use virgld_protocol::device::{Code, ControlHeader};
use virgld_protocol::ids::{ContextId, RingIndex, Serial, Token};
use virgld_protocol::message::ctrlq::{
    ContextCommand, ContextEvent, DebugName, Description, DisplayCommand, ResourceCommand, STREAM_OFFSET,
    Surface,
};
use virgld_protocol::message::resource::Shape;
use virgld_protocol::message::transport::{CONTROL_QUEUE, Event, Publish};
use virgld_runtime::Time;
use virgld_runtime::dma::{DmaPool, SizeClass};
use zerocopy::IntoBytes;

use super::{outcome, pool, rectangle, resource, transfer};
use crate::Input;

struct Desk {
    state: State,
    effects: Vec<Effect>,
    now: Time,
    streams: DmaPool,
    /// What the device has.
    held: Vec<Publish>,
    /// Work given, by serial, and how often it ended.
    work: BTreeMap<Serial, u32>,
    next: u64,
    up: bool,
    wild: bool,
}

/// Whatever answers say: a command is published once under a cookie that is free, within its slice, and work ends at most
/// once.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let small = [SizeClass { size: 256, count: 6 }, SizeClass { size: 2048, count: 2 }];
    let mut desk = Desk {
        wild: input.flag(),
        state: State::new(pool(&small), Duration::from_secs(5)),
        effects: Vec::new(),
        now: Time(1),
        streams: pool(&[SizeClass { size: 256, count: 4 }]),
        held: Vec::new(),
        work: BTreeMap::new(),
        next: 0,
        up: false,
    };
    while !input.is_used_up() {
        desk.step(&mut input);
        desk.check();
    }
}

impl Desk {
    fn step(&mut self, input: &mut Input<'_>) {
        let (now, effects) = (self.now, &mut self.effects);
        match input.below(16) {
            0..=3 => {
                let context = ContextId(u32::from(input.byte() % 5));
                let command = self.command(input);
                self.state.context(now, context, command, &mut self.effects);
            }
            4..=5 => self.state.resource(now, about_resources(input), effects),
            6 => self.state.display(now, about_displays(input), effects),
            7 => self.state.furnished(now, effects),
            8 if self.wild || !self.up => {
                self.up = true;
                let up = Event::Up { features: input.long(), configuration: input.bytes(24).to_vec() };
                self.state.transport(now, up, effects);
            }
            9 if self.wild || self.up => self.down(),
            10..=12 if !self.held.is_empty() => self.give_back(input),
            13 if self.wild => {
                let lost = Event::Lost { cookie: input.number() };
                self.state.transport(now, lost, effects);
            }
            14 => self.state.transport(now, Event::ConfigurationChanged, effects),
            _ => {
                self.now = now.after(Duration::from_millis(100 * u64::from(input.byte())));
                self.state.expire(self.now, effects);
            }
        }
    }

    fn down(&mut self) {
        self.up = false;
        self.state.transport(self.now, Event::Down { reason: "fuzz".into() }, &mut self.effects);
        for lost in std::mem::take(&mut self.held) {
            self.state.transport(self.now, Event::Lost { cookie: lost.cookie }, &mut self.effects);
        }
    }

    /// Any bytes for an answer, of which a header that is right is one.
    fn give_back(&mut self, input: &mut Input<'_>) {
        let Publish { cookie, slice, response, .. } = self.held.remove(input.below(self.held.len()));
        let code = match input.below(3) {
            0 => Code(0x1100 + u32::from(input.byte() & 7)),
            1 => Code(0x1200 + u32::from(input.byte() & 7)),
            _ => Code(input.number()),
        };
        let flags = input.number();
        let header = ControlHeader { code, flags, ..ControlHeader::default() };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(input.bytes(32));
        bytes.truncate(response.1 as usize);
        slice.write(response.0 as usize, &bytes).expect("the answer lies in the slice");
        let most = u64::from(response.1) + 1;
        let written = u32::try_from(input.long() % most).expect("no more than there is room for");
        let event = Event::Returned { cookie, slice, written };
        self.state.transport(self.now, event, &mut self.effects);
    }

    fn command(&mut self, input: &mut Input<'_>) -> ContextCommand {
        self.next += 1;
        let serial = Serial(self.next);
        match input.below(8) {
            0 => ContextCommand::Create { name: DebugName::new("fuzz"), capset: input.number() },
            1 => ContextCommand::Destroy,
            2 => ContextCommand::Attach { resource: resource(input) },
            3 => ContextCommand::Detach { resource: resource(input) },
            4 => ContextCommand::Fence { serial: Serial(u64::from(input.byte())) },
            5 => {
                self.work.insert(serial, 0);
                ContextCommand::Transfer(transfer(input, serial))
            }
            _ => {
                self.work.insert(serial, 0);
                let length = u32::from(input.byte()) % 80;
                let stream = self.streams.take(STREAM_OFFSET + length as usize);
                let length = if self.wild { input.number() } else { length };
                let length = if stream.is_some() { length } else { 0 };
                let ring = input.chance(32).then(|| RingIndex(input.byte()));
                ContextCommand::Submit { stream, length, ring, fenced: input.flag(), serial }
            }
        }
    }

    fn check(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Publish(publish) => {
                    assert_eq!(publish.queue, CONTROL_QUEUE);
                    for (offset, length) in [publish.request, publish.response] {
                        let end = offset as usize + length as usize;
                        assert!(end <= publish.slice.size(), "{publish:?} is not within its slice");
                    }
                    let taken = self.held.iter().any(|held| held.cookie == publish.cookie);
                    assert!(self.wild || !taken, "cookie {} is in use", publish.cookie);
                    self.held.push(publish);
                }
                Effect::Context(
                    _,
                    ContextEvent::Completed { serial, .. } | ContextEvent::Executed { serial, .. },
                ) => {
                    let times = self.work.get_mut(&serial).expect("nobody gave this work");
                    *times += 1;
                    assert!(self.wild || *times == 1, "{serial:?} ended twice");
                }
                _ => {}
            }
        }
        let pending = self.state.report().in_flight;
        assert!(self.wild || pending == self.held.len(), "{pending} pending, {} held", self.held.len());
    }
}

fn about_resources(input: &mut Input<'_>) -> ResourceCommand {
    let (resource, token) = (resource(input), Token(u64::from(input.byte())));
    let surface = Surface { format: input.number(), width: input.number(), height: input.number() };
    match input.below(10) {
        0 => {
            let description =
                Description { width: surface.width, bind: input.number(), ..Default::default() };
            ResourceCommand::Create3d { resource, description }
        }
        1 => ResourceCommand::Create2d { resource, surface },
        2 => ResourceCommand::Fetch { token, resource, width: surface.width, height: surface.height },
        3 => ResourceCommand::AttachBacking { resource, address: input.long(), length: input.number() },
        4 => ResourceCommand::DetachBacking { resource },
        5 => ResourceCommand::Unreference { resource },
        6 => ResourceCommand::Restore { resource, shape: Shape::Flat(surface) },
        7 => {
            let description =
                Description { width: surface.width, height: input.number(), ..Default::default() };
            ResourceCommand::Restore { resource, shape: Shape::Texture(description) }
        }
        8 => ResourceCommand::CapsetInfo { token, index: input.number() },
        _ => {
            let (id, version, size) = (input.number(), input.number(), input.number());
            ResourceCommand::Capset { token, id, version, size }
        }
    }
}

fn about_displays(input: &mut Input<'_>) -> DisplayCommand {
    let (scanout, resource, rectangle) = (input.number(), resource(input), rectangle(input));
    match input.below(5) {
        0 => DisplayCommand::Displays,
        1 => DisplayCommand::Edid { scanout },
        2 => DisplayCommand::SetScanout { scanout, resource, rectangle },
        3 => {
            let token = outcome(input).ok().map(|()| Token(u64::from(input.byte())));
            DisplayCommand::Flush { token, resource, rectangle }
        }
        _ => {
            let token = outcome(input).ok().map(|()| Token(u64::from(input.byte())));
            DisplayCommand::Transfer { token, resource, rectangle, offset: input.long() }
        }
    }
}
