//! Any messages to the resource actor.

use std::collections::{BTreeMap, BTreeSet};

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, ResourceId, Token, UserId};
use virgld_protocol::message::ctrlq::{CapsetInfo, Description, ResourceCommand, ResourceEvent, Surface};
use virgld_protocol::message::resource::{Notice, ReadBack, Request, Shape};
use virgld_protocol::message::transport::{RegionEvent, RegionRequest};
use virgld_resource::{Effect, State};
use virgld_runtime::link::RegionId;
use virgld_testkit::common::tight_limits;

use super::{outcome, region, resource};
use crate::Input;

struct Desk {
    state: State,
    effects: Vec<Effect>,
    /// Asked of the scheme's side and not answered.
    asked: BTreeMap<Token, FileId>,
    opening: Vec<(Token, usize)>,
    regions: BTreeSet<RegionId>,
    /// Asked to be forgotten by the device.
    leaving: Vec<ResourceId>,
    /// What files hold.
    held: BTreeMap<ResourceId, FileId>,
    next: u64,
}

/// Requests are answered once, a number is nobody else's while somebody holds it, and a region is closed once.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut desk = Desk {
        state: State::new(tight_limits()),
        effects: Vec::new(),
        asked: BTreeMap::new(),
        opening: Vec::new(),
        regions: BTreeSet::new(),
        leaving: Vec::new(),
        held: BTreeMap::new(),
        next: 0,
    };
    while !input.is_used_up() {
        desk.step(&mut input);
        desk.check();
    }
}

impl Desk {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(12) {
            0..=2 => self.ask(input, true),
            3 => self.ask(input, false),
            4 => {
                if let Some(resource) = self.one(input) {
                    self.held.remove(&resource);
                    self.state.request(Request::Release { resource }, &mut self.effects);
                }
            }
            5 => {
                let owner = FileId(u64::from(input.byte() % 4));
                let gone: Vec<_> = self.held.extract_if(.., |_, of| *of == owner).collect();
                for (resource, _) in gone {
                    self.state.request(Request::Release { resource }, &mut self.effects);
                }
                self.state.request(Request::Retire { owner }, &mut self.effects);
            }
            6..=7 if !self.opening.is_empty() => self.answer_region(input),
            8 if !self.leaving.is_empty() => {
                let resource = self.leaving.remove(input.below(self.leaving.len()));
                self.state.control(ResourceEvent::Unreferenced { resource }, &mut self.effects);
            }
            9 => {
                let (token, resource) = (Token(u64::from(input.byte())), resource(input));
                self.state.display(ReadBack { token, resource }, &mut self.effects);
            }
            _ => {
                let event = event(input);
                if matches!(event, ResourceEvent::Up { .. }) {
                    self.leaving.clear();
                }
                self.state.control(event, &mut self.effects);
            }
        }
    }

    fn ask(&mut self, input: &mut Input<'_>, create: bool) {
        self.next += 1;
        let token = Token(self.next);
        let number = input.byte();
        let owner = FileId(u64::from(number % 4));
        let request = if create {
            let user = UserId(u32::from(number % 2));
            let shape = shape(input);
            Request::Create {
                token,
                owner,
                user,
                shape,
                bytes: input.long().wrapping_mul(256),
                shareable: input.flag(),
            }
        } else {
            let Some(resource) = self.one(input) else { return };
            if number & 1 == 0 {
                Request::Isolate { token, resource }
            } else {
                Request::Move { token, resource }
            }
        };
        self.asked.insert(token, owner);
        self.state.request(request, &mut self.effects);
    }

    fn answer_region(&mut self, input: &mut Input<'_>) {
        let (token, bytes) = self.opening.remove(input.below(self.opening.len()));
        if input.chance(48) {
            return self.state.region(RegionEvent::Refused { token }, &mut self.effects);
        }
        self.next += 1;
        let id = RegionId(self.next);
        self.regions.insert(id);
        let region = region(input, id, bytes);
        self.state.region(RegionEvent::Opened { token, region }, &mut self.effects);
    }

    fn one(&self, input: &mut Input<'_>) -> Option<ResourceId> {
        let held: Vec<ResourceId> = self.held.keys().copied().collect();
        input.pick(&held).copied()
    }

    fn check(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Scheme(Notice::Created { token, resource, backing }) => {
                    let file = self.asked.remove(&token).expect("a token was answered twice");
                    assert!(self.held.insert(resource, file).is_none(), "{resource:?} has two owners");
                    assert!(backing.offset + backing.length <= backing.region.memory.size() as u64);
                }
                Effect::Scheme(Notice::Isolated { token, .. } | Notice::Refused { token, .. }) => {
                    assert!(self.asked.remove(&token).is_some(), "{token:?} was answered twice");
                }
                Effect::Control(ResourceCommand::Unreference { resource }) => self.leaving.push(resource),
                Effect::Region(RegionRequest::Open { token, bytes, .. }) => self.opening.push((token, bytes)),
                Effect::Region(RegionRequest::Close { id }) => {
                    assert!(self.regions.remove(&id), "{id:?} was closed twice");
                }
                _ => {}
            }
        }
    }
}

fn shape(input: &mut Input<'_>) -> Shape {
    let (width, height, format) = (input.number(), input.number(), input.number());
    if input.flag() {
        Shape::Flat(Surface { format, width, height })
    } else {
        Shape::Texture(Description {
            width,
            height,
            format,
            array_size: input.number(),
            ..Default::default()
        })
    }
}

fn event(input: &mut Input<'_>) -> ResourceEvent {
    let token = Token(u64::from(input.byte()));
    match input.below(6) {
        0 => ResourceEvent::Up { features: input.long(), capsets: u32::from(input.byte()) },
        1 => ResourceEvent::Down,
        2 => ResourceEvent::Failed { resource: resource(input), errno: Errno::EIO },
        3 => ResourceEvent::Fetched { token, result: outcome(input) },
        4 => {
            let info =
                CapsetInfo { id: input.number(), max_version: input.number(), max_size: input.number() };
            ResourceEvent::CapsetInfo { token, result: outcome(input).map(|()| info) }
        }
        _ => ResourceEvent::Capset { token, result: outcome(input).map(|()| input.bytes(16).to_vec()) },
    }
}
