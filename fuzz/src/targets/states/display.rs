//! Any messages to the display.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use virgld_display::{Effect, Presentation, State};
use virgld_protocol::client::kms::ModeInfo;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, ResourceId, Token};
use virgld_protocol::message::ctrlq::DisplayCommand;
use virgld_protocol::message::display::{
    Answer, Call, ControlEvent, CursorCall, Event, Image, LeaseCall, NewFramebuffer, Notice, Pixels,
    ReadBack, Request, SetCrtc, SetPlane,
};
use virgld_protocol::message::resource::Backing;
use virgld_runtime::Time;
use virgld_runtime::link::RegionId;
use virgld_runtime::memory::HeapMemory;
use zerocopy::FromBytes;

use super::outcome;
use crate::Input;

const PAGE: u64 = 4096;
/// `DRM_FORMAT_XRGB8888`.
const XRGB: u32 = 0x3432_5258;

struct Desk {
    state: State,
    effects: Vec<Effect>,
    now: Time,
    files: BTreeSet<FileId>,
    asked: BTreeSet<Token>,
    /// How often each resource is held.
    held: BTreeMap<ResourceId, u32>,
    gates: Vec<Token>,
    transfers: Vec<Token>,
    flushes: Vec<Token>,
    reads: Vec<Token>,
    /// Numbers of objects that answers told of.
    objects: Vec<u32>,
    next: u64,
}

/// A call is answered at most once, only to files that are open are events told, a resource is let go no more often than
/// it was held, and when all files are closed nothing of theirs is left.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let presentation = if input.flag() { Presentation::Scanout } else { Presentation::ReadBack };
    let mut desk = Desk {
        state: State::new(presentation),
        effects: Vec::new(),
        now: Time(1),
        files: BTreeSet::new(),
        asked: BTreeSet::new(),
        held: BTreeMap::new(),
        gates: Vec::new(),
        transfers: Vec::new(),
        flushes: Vec::new(),
        reads: Vec::new(),
        objects: Vec::new(),
        next: 0,
    };
    while !input.is_used_up() {
        desk.step(&mut input);
        desk.check();
    }
    desk.leave();
}

impl Desk {
    fn step(&mut self, input: &mut Input<'_>) {
        let now = self.now;
        match input.below(16) {
            0..=7 => {
                let file = FileId(u64::from(input.byte() % 3));
                if !self.files.contains(&file) {
                    self.files.insert(file);
                    let request = Request::Opened { file, privileged: input.flag() };
                    return self.state.request(now, request, &mut self.effects);
                }
                let call = self.call(input);
                self.next += 1;
                let token = Token(self.next);
                self.asked.insert(token);
                self.state.request(now, Request::Call { file, token, call }, &mut self.effects);
            }
            8 if input.chance(64) => {
                let file = FileId(u64::from(input.byte() % 3));
                if self.files.remove(&file) {
                    self.state.request(now, Request::Closed { file }, &mut self.effects);
                }
            }
            9 => {
                let gate = taken(input, &mut self.gates);
                self.state.request(now, Request::Ready { gate }, &mut self.effects);
            }
            10 => {
                let transferred = input.flag();
                let tokens = if transferred { &mut self.transfers } else { &mut self.flushes };
                let token = taken(input, tokens);
                let result = outcome(input);
                let event = match transferred {
                    true => ControlEvent::Transferred { token, result },
                    false => ControlEvent::Flushed { token, result },
                };
                self.state.control(now, event, &mut self.effects);
            }
            11 => {
                let token = taken(input, &mut self.reads);
                let result = outcome(input).map(|()| (input.number(), input.bytes(64).to_vec()));
                self.state.read_back(ReadBack { token, result }, &mut self.effects);
            }
            12..=13 => self.state.control(now, event(input), &mut self.effects),
            14 => self.state.look(
                Token(u64::from(input.byte())),
                u32::from(input.byte() % 4),
                &mut self.effects,
            ),
            _ => {
                self.now = now.after(Duration::from_millis(u64::from(input.byte())));
                self.state.wake(self.now, &mut self.effects);
            }
        }
    }

    fn check(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Scheme(Notice::Answered { token, result }) => {
                    assert!(self.asked.remove(&token), "{token:?} was answered twice");
                    if let Ok(answer) = result {
                        learn(&mut self.objects, &answer);
                    }
                }
                Effect::Scheme(Notice::Event { file, event }) => {
                    let (Event::Vblank(_) | Event::Flip(_) | Event::Sequence(_)) = event;
                    assert!(self.files.contains(&file), "{event:?} for {file:?}, which is closed");
                }
                Effect::Scheme(Notice::Await { gate, .. }) => self.gates.push(gate),
                Effect::Scheme(Notice::Held { resource }) => *self.held.entry(resource).or_default() += 1,
                Effect::Scheme(Notice::Let { resource }) => {
                    let held = self.held.entry(resource).or_default();
                    *held = held.checked_sub(1).unwrap_or_else(|| panic!("{resource:?} was not held"));
                }
                Effect::Control(DisplayCommand::Transfer { token: Some(token), .. }) => {
                    self.transfers.push(token);
                }
                Effect::Control(DisplayCommand::Flush { token: Some(token), .. }) => self.flushes.push(token),
                Effect::ReadBack { token, .. } => self.reads.push(token),
                _ => {}
            }
        }
    }

    /// Everybody leaves, and all that is waited for happens.
    fn leave(&mut self) {
        for file in std::mem::take(&mut self.files) {
            self.state.request(self.now, Request::Closed { file }, &mut self.effects);
            // What is on its way to the file when it closes goes nowhere.
            self.check();
        }
        self.state.control(self.now, ControlEvent::Down, &mut self.effects);
        for _ in 0..64 {
            let Desk { state, effects, now, gates, transfers, flushes, reads, .. } = self;
            let (gates, transfers, flushes, reads) =
                [gates, transfers, flushes, reads].map(std::mem::take).into();
            gates.into_iter().for_each(|gate| state.request(*now, Request::Ready { gate }, effects));
            for token in transfers {
                state.control(*now, ControlEvent::Transferred { token, result: Err(Errno::EIO) }, effects);
            }
            for token in flushes {
                state.control(*now, ControlEvent::Flushed { token, result: Err(Errno::EIO) }, effects);
            }
            for token in reads {
                state.read_back(ReadBack { token, result: Err(Errno::EIO) }, effects);
            }
            *now = now.after(Duration::from_millis(100));
            state.wake(*now, effects);
            self.check();
        }
        let report = self.state.report();
        assert_eq!((report.framebuffers, report.blobs, report.master), (0, 0, None), "left behind");
        let held: Vec<_> = self.held.iter().filter(|(_, count)| **count > 0).collect();
        assert!(held.is_empty(), "still held: {held:?}");
    }

    fn object(&self, input: &mut Input<'_>) -> u32 {
        if input.chance(200) { input.pick(&self.objects).copied().unwrap_or(0) } else { input.number() }
    }

    fn call(&self, input: &mut Input<'_>) -> Call {
        let (object, other) = (self.object(input), self.object(input));
        match input.below(36) {
            0 => Call::Understand { capability: input.long() % 8, value: input.long() },
            1 => Call::SetMaster,
            2 => Call::DropMaster,
            3 => Call::NeedMaster(Ok(())),
            4 => Call::Resources,
            5 => Call::Connector(object),
            6 => Call::Encoder(object),
            7 => Call::Crtc(object),
            8 => Call::Planes,
            9 => Call::Plane(object),
            10 => Call::Properties { object, kind: input.number() },
            11 => Call::Property(object),
            12 => Call::Blob(object),
            13 => Call::CreateBlob(blob(input)),
            14 => Call::DestroyBlob(object),
            15..=17 => Call::AddFramebuffer(framebuffer(input)),
            18 => Call::RemoveFramebuffer(object),
            19 => Call::CloseFramebuffer(object),
            20 => Call::Framebuffer(object),
            21..=22 => Call::SetCrtc(self.set_crtc(input, object, other)),
            23..=24 => {
                let (flags, user_data) = (u32::from(input.byte() & 15), input.long());
                Call::PageFlip { crtc: object, framebuffer: other, flags, user_data }
            }
            25 => Call::Dirty { framebuffer: object, flags: input.number(), clips: clips(input) },
            26 => {
                let framebuffer = self.object(input);
                Call::SetPlane(set_plane(input, object, other, framebuffer))
            }
            27 => Call::Cursor(cursor(input, object)),
            28 => Call::Gamma { crtc: object, size: input.number() },
            29 => Call::SetGamma { crtc: object, size: input.number() },
            30 => {
                let (kind, value) = (input.number(), u64::from(self.object(input)));
                Call::SetProperty { object, kind, property: other, value }
            }
            31..=32 => {
                let set = |_| (self.object(input), self.object(input), u64::from(self.object(input)));
                let sets = (0..12).map(set).collect::<Vec<_>>();
                let most = input.below(13);
                let (flags, sets) = (input.number(), sets[..most].to_vec());
                let fence_out = input.flag().then_some(FenceKey(7));
                Call::Atomic { flags, sets, user_data: 0, fence_in: None, fence_out }
            }
            33 => Call::WaitVblank { kind: input.number(), sequence: input.number(), user_data: 0 },
            34 => {
                let (flags, sequence) = (u32::from(input.byte() & 7), input.long());
                Call::QueueSequence { crtc: object, flags, sequence, user_data: 0 }
            }
            _ if input.flag() => Call::Sequence(object),
            _ => Call::Lease(LeaseCall::List),
        }
    }

    fn set_crtc(&self, input: &mut Input<'_>, crtc: u32, framebuffer: u32) -> SetCrtc {
        SetCrtc {
            crtc,
            framebuffer,
            position: (input.number(), input.number()),
            connectors: (0..input.below(3)).map(|_| self.object(input)).collect(),
            mode: input.flag().then(|| mode(input)),
        }
    }
}

/// One of those that are waited for, or any.
fn taken(input: &mut Input<'_>, tokens: &mut Vec<Token>) -> Token {
    if tokens.is_empty() { Token(u64::from(input.byte())) } else { tokens.remove(input.below(tokens.len())) }
}

fn learn(objects: &mut Vec<u32>, answer: &Answer) {
    match answer {
        Answer::Made(object) => objects.push(*object),
        Answer::Resources(it) => {
            objects.extend(it.crtcs.iter().chain(&it.connectors).chain(&it.encoders).chain(&it.framebuffers));
        }
        Answer::Planes(planes) => objects.extend(planes),
        Answer::Connector(it) => objects.extend(it.properties.iter().map(|(property, _)| *property)),
        Answer::Properties(properties) => objects.extend(properties.iter().map(|(property, _)| *property)),
        _ => {}
    }
    objects.sort_unstable();
    objects.dedup();
    objects.truncate(100);
}

fn blob(input: &mut Input<'_>) -> Vec<u8> {
    if input.flag() {
        return zerocopy::IntoBytes::as_bytes(&mode(input)).to_vec();
    }
    let length = input.below(80);
    input.bytes(length).to_vec()
}

/// A mode of a screen that this display knows, or any.
fn mode(input: &mut Input<'_>) -> ModeInfo {
    let mut bytes = vec![0; size_of::<ModeInfo>()];
    let given = input.bytes(20);
    bytes[..given.len()].copy_from_slice(given);
    ModeInfo::read_from_bytes(&bytes).unwrap_or_default()
}

fn framebuffer(input: &mut Input<'_>) -> NewFramebuffer {
    let format = if input.chance(32) { input.number() } else { XRGB };
    NewFramebuffer {
        width: input.number(),
        height: input.number(),
        format,
        flags: u32::from(input.byte() & 3),
        pitch: input.number().wrapping_mul(4),
        offset: input.number(),
        modifiers: [0, 0, 0, u64::from(input.chance(16))],
        image: (!input.chance(24)).then(|| image(input)),
    }
}

fn image(input: &mut Input<'_>) -> Image {
    let resource = ResourceId(u32::from(input.byte() % 8) + 1);
    let bytes = PAGE * (1 + u64::from(input.byte()));
    let pixels = if input.flag() { Pixels::Host } else { Pixels::Memory(backing(bytes)) };
    Image { resource, bytes, pixels }
}

fn backing(bytes: u64) -> Backing {
    let memory = HeapMemory::new(usize::try_from(bytes).unwrap_or(0));
    let region = virgld_runtime::link::Region { id: RegionId(1), memory, address: Some(0x1000) };
    Backing { region, offset: 0, length: bytes, isolated: true, device: None }
}

fn clips(input: &mut Input<'_>) -> Vec<[u16; 4]> {
    (0..input.below(4)).map(|_| [input.short(), input.short(), input.short(), input.short()]).collect()
}

fn set_plane(input: &mut Input<'_>, plane: u32, crtc: u32, framebuffer: u32) -> SetPlane {
    let position = (input.number().cast_signed(), input.number().cast_signed());
    let source = [input.number(), input.number(), input.number(), input.number()];
    SetPlane { plane, crtc, framebuffer, position, size: (input.number(), input.number()), source }
}

fn cursor(input: &mut Input<'_>, crtc: u32) -> CursorCall {
    let image = match input.below(4) {
        0 => Err(Errno::ENOENT),
        1 => Ok(None),
        _ => Ok(Some(image(input))),
    };
    CursorCall {
        crtc,
        flags: u32::from(input.byte() & 3),
        position: (input.number().cast_signed(), input.number().cast_signed()),
        size: if input.chance(64) { (input.number(), input.number()) } else { (64, 64) },
        image,
        hotspot: (input.number().cast_signed(), input.number().cast_signed()),
    }
}

fn event(input: &mut Input<'_>) -> ControlEvent {
    match input.below(6) {
        0..=1 => ControlEvent::Up { features: input.long(), scanouts: u32::from(input.byte() % 20) },
        2 => ControlEvent::Down,
        3 => ControlEvent::Changed,
        4 => {
            let extents = (0..input.below(4))
                .map(|_| input.flag().then(|| (u32::from(input.byte()) * 8, u32::from(input.byte()) * 8)));
            ControlEvent::Displays(Ok(extents.collect()))
        }
        _ => {
            let scanout = u32::from(input.byte() % 3);
            ControlEvent::Edid { scanout, result: Ok(input.bytes(128).to_vec()) }
        }
    }
}
