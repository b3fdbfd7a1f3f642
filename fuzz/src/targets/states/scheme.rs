//! Any messages to the scheme.

use std::collections::BTreeSet;
use std::time::Duration;

use virgld_protocol::client::{Call, layout_of};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, ResourceId, Serial, Token};
use virgld_protocol::message::ctrlq::CapsetInfo;
use virgld_protocol::message::display;
use virgld_protocol::message::door::Command;
use virgld_protocol::message::resource::{self, Backing, Capset, Notice};
use virgld_protocol::message::scheme::{
    Attached, CallEvent, ContextNotice, Credentials, DoorEvent, ExportKey, Node, Reached, SyncobjKey,
};
use virgld_runtime::Time;
use virgld_runtime::link::RegionId;
use virgld_scheme::{Effect, Limits, State};

use super::{outcome, region};
use crate::Input;

struct Desk {
    state: State,
    effects: Vec<Effect>,
    now: Time,
    /// Calls not answered.
    open: BTreeSet<Token>,
    /// Asked of the resource actor and not answered.
    asked: Vec<resource::Request>,
    shown: Vec<Token>,
    next: u64,
}

/// Its peers say what they like, whether asked or not; a door that keeps its word gets each call answered at most once.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut desk = Desk {
        state: State::new(Limits::default()),
        effects: Vec::new(),
        now: Time(1),
        open: BTreeSet::new(),
        asked: Vec::new(),
        shown: Vec::new(),
        next: 0,
    };
    while !input.is_used_up() {
        desk.step(&mut input);
        desk.check();
    }
}

fn file(input: &mut Input<'_>) -> FileId {
    FileId(u64::from(input.byte() % 4))
}

fn number(input: &mut Input<'_>) -> ResourceId {
    ResourceId(u32::from(input.byte() % 16))
}

impl Desk {
    fn step(&mut self, input: &mut Input<'_>) {
        let now = self.now;
        match input.below(20) {
            0..=7 => {
                let event = self.call(input);
                self.state.door(now, event, &mut self.effects);
            }
            8..=10 => {
                let event = self.door(input);
                self.state.door(now, event, &mut self.effects);
            }
            11..=13 => self.answer(input),
            14 => self.state.resource(about_resources(input), &mut self.effects),
            15..=16 => {
                let (file, notice) = (file(input), about_context(input));
                self.state.context(file, notice, &mut self.effects);
            }
            17 => {
                let notice = self.about_display(input);
                self.state.display(now, notice, &mut self.effects);
            }
            18 if input.chance(64) => self.state.context_died(file(input), &mut self.effects),
            _ => {
                self.now = now.after(Duration::from_millis(50 * u64::from(input.byte())));
                self.state.expire(self.now, &mut self.effects);
            }
        }
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        self.open.insert(Token(self.next));
        Token(self.next)
    }

    fn call(&mut self, input: &mut Input<'_>) -> DoorEvent {
        let known: Vec<u8> = (0..=u8::MAX).filter(|number| layout_of(*number).is_some()).collect();
        let number = input.pick(&known).copied().unwrap_or(0);
        let wire = layout_of(number).map_or(0, |layout| layout.wire);
        let mut bytes = Vec::new();
        while bytes.len() < wire {
            bytes.extend_from_slice(&input.number().to_le_bytes());
        }
        bytes.truncate(wire);
        bytes.extend_from_slice(input.bytes(4 * (wire & 3)));
        let file = file(input);
        let (attached, token) = (input.flag().then(|| attached(input)), Some(self.token()));
        let (serial, fence_out) = (Serial(self.next), input.chance(64).then(|| FenceKey(1000 + self.next)));
        let call = Call { number, bytes: bytes.into() };
        DoorEvent::Call(CallEvent { file, call, bulk: None, token, serial, attached, fence_out })
    }

    fn door(&mut self, input: &mut Input<'_>) -> DoorEvent {
        let file = file(input);
        match input.below(9) {
            0..=1 => {
                let node = if input.flag() { Node::Card } else { Node::Render };
                let uid = u32::from(input.flag());
                DoorEvent::Opened { file, node, credentials: Credentials { uid, ..Credentials::default() } }
            }
            2 if input.chance(64) => DoorEvent::Closed { file },
            3 => {
                let (offset, length) = (input.long(), input.long());
                DoorEvent::Map { file, token: self.token(), offset, length }
            }
            4 => {
                let (handle, rights) = (input.number(), input.number());
                DoorEvent::Restrict { file, token: self.token(), handle, rights }
            }
            5 => DoorEvent::Revoke { file, token: self.token(), handle: input.number() },
            6 => DoorEvent::Merge { file, token: self.token(), fences: [attached(input), attached(input)] },
            7 => DoorEvent::ExportUnused { export: ExportKey(u64::from(input.byte() % 32)) },
            8 => DoorEvent::SyncobjUnused { syncobj: SyncobjKey(u64::from(input.byte() % 32)) },
            _ => DoorEvent::FenceSignalled { fence: FenceKey(input.long()), result: outcome(input) },
        }
    }

    /// An answer that somebody waits for.
    fn answer(&mut self, input: &mut Input<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.remove(input.below(self.asked.len()));
        let refused = input.chance(32);
        let notice = match asked {
            resource::Request::Create { token, .. }
            | resource::Request::Isolate { token, .. }
            | resource::Request::Move { token, .. }
                if refused =>
            {
                Notice::Refused { token, errno: Errno::ENOMEM }
            }
            resource::Request::Create { token, .. } => {
                let resource = number(input);
                Notice::Created { token, resource, backing: backing(input) }
            }
            resource::Request::Isolate { token, resource } | resource::Request::Move { token, resource } => {
                Notice::Isolated { token, resource, backing: backing(input) }
            }
            resource::Request::Release { .. }
            | resource::Request::Retire { .. }
            | resource::Request::Withdraw { .. } => return,
        };
        self.state.resource(notice, &mut self.effects);
    }

    fn about_display(&mut self, input: &mut Input<'_>) -> display::Notice {
        let (token, resource) = (input.pick(&self.shown).copied().unwrap_or(Token(0)), number(input));
        match input.below(5) {
            0 => display::Notice::Answered { token, result: Ok(display::Answer::Done) },
            1 => display::Notice::Answered { token, result: Ok(display::Answer::Made(input.number())) },
            2 => display::Notice::Await { gate: Token(u64::from(input.byte())), resource },
            3 => display::Notice::Held { resource },
            _ => display::Notice::Let { resource },
        }
    }

    fn check(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Door(Command::Answer { token, .. }) => {
                    assert!(self.open.remove(&token), "{token:?} was answered twice");
                }
                Effect::Resource(request) => self.asked.push(request),
                Effect::Display(display::Request::Call { token, .. }) => self.shown.push(token),
                _ => {}
            }
        }
    }
}

fn backing(input: &mut Input<'_>) -> Backing {
    let id = RegionId(u64::from(input.byte()));
    let region = region(input, id, 4 * 4096);
    let (offset, isolated) = (4096 * u64::from(input.byte() % 4), input.flag());
    Backing { region, offset, length: 4096, isolated, device: None }
}

fn attached(input: &mut Input<'_>) -> Attached {
    let key = u64::from(input.byte() % 32);
    match input.below(5) {
        0 => Attached::Buffer(ExportKey(key)),
        1 => Attached::Fence(FenceKey(key)),
        2 => Attached::ForeignFence(FenceKey(key)),
        3 => Attached::Syncobj(SyncobjKey(key)),
        _ => Attached::Unknown,
    }
}

fn about_resources(input: &mut Input<'_>) -> Notice {
    let (token, resource) = (Token(u64::from(input.byte())), number(input));
    match input.below(6) {
        0 => {
            let info = CapsetInfo { id: 1, max_version: 1, max_size: 16 };
            let capsets = vec![Capset { info, bytes: input.bytes(16).into() }];
            Notice::DeviceUp { features: input.long(), capsets }
        }
        1 => Notice::DeviceDown,
        2 => Notice::Created { token, resource, backing: backing(input) },
        3 => Notice::Isolated { token, resource, backing: backing(input) },
        4 => Notice::Refused { token, errno: Errno::ENOMEM },
        _ => Notice::Failed { resource, errno: Errno::EIO },
    }
}

fn about_context(input: &mut Input<'_>) -> ContextNotice {
    let serial = Serial(u64::from(input.byte()));
    let reached = Reached { executed: serial, complete: Serial(u64::from(input.byte()).min(serial.0)) };
    match input.below(7) {
        0..=1 => ContextNotice::Completed { serial, result: outcome(input), reached },
        2 => ContextNotice::Reached(reached),
        3 => ContextNotice::Detached { resource: number(input) },
        4 => ContextNotice::Lost,
        5 => ContextNotice::Expelled,
        _ => ContextNotice::Ended,
    }
}
