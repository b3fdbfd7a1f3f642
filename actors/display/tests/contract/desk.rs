//! The display's state, two files of which the first is master, a device that answers when it is told to, and a clock.

use virgld_display::{Effect, Presentation, State};
use virgld_protocol::device::Feature;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::ctrlq::DisplayCommand;
use virgld_protocol::message::cursorq;
use virgld_protocol::message::display::{
    Answer, Call, ControlEvent, Event, Image, NewFramebuffer, Notice, Pixels, Request, SetCrtc,
};
use virgld_protocol::message::resource::Backing;
use virgld_runtime::Time;
use virgld_runtime::link::{Region, RegionId};
use virgld_runtime::memory::HeapMemory;
pub(crate) use virgld_testkit::common::mode;

pub(crate) const CRTC: u32 = 40;
pub(crate) const PLANE: u32 = 41;
pub(crate) const CONNECTOR: u32 = 44;
pub(crate) const FIRST: FileId = FileId(1);
pub(crate) const SECOND: FileId = FileId(2);
/// Nanoseconds of a refresh of the mode below.
pub(crate) const REFRESH: u64 = 10_000_000;

/// The state, two files of which the first is master, and a clock.
pub(crate) struct Desk {
    pub(crate) state: State,
    pub(crate) now: u64,
    pub(crate) calls: u64,
    /// Whether the device answers all at once.
    pub(crate) quick: bool,
    /// What it has not answered.
    asked: Vec<ControlEvent>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(1)
    }

    /// The same with so many screens.
    pub(crate) fn with(scanouts: u32) -> Self {
        let state = State::new(Presentation::Scanout);
        let mut desk = Self { state, now: 1000, calls: 0, quick: true, asked: Vec::new() };
        desk.tell(ControlEvent::Up { features: Feature::EDID, scanouts });
        desk.tell(ControlEvent::Displays(Ok(vec![Some((800, 600)); scanouts as usize])));
        for file in [FIRST, SECOND] {
            desk.ask(Request::Opened { file, privileged: false });
        }
        desk
    }

    pub(crate) fn tell(&mut self, event: ControlEvent) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.control(Time(self.now), event, &mut effects);
        self.device(&mut effects);
        effects
    }

    /// The device hears of it, and answers if it is quick.
    fn device(&mut self, effects: &mut Vec<Effect>) {
        self.asked.extend(effects.iter().filter_map(|it| match it {
            Effect::Control(DisplayCommand::Flush { token: Some(token), .. }) => {
                Some(ControlEvent::Flushed { token: *token, result: Ok(()) })
            }
            Effect::Control(DisplayCommand::Transfer { token: Some(token), .. }) => {
                Some(ControlEvent::Transferred { token: *token, result: Ok(()) })
            }
            _ => None,
        }));
        if self.quick {
            effects.extend(self.answer());
        }
    }

    /// The device answers all that it was asked so far.
    pub(crate) fn answer(&mut self) -> Vec<Effect> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().flat_map(|event| self.tell(event)).collect()
    }

    /// The device fails at all that it was asked so far.
    pub(crate) fn fail(&mut self) -> Vec<Effect> {
        for event in &mut self.asked {
            if let ControlEvent::Flushed { result, .. } | ControlEvent::Transferred { result, .. } = event {
                *result = Err(Errno::EIO);
            }
        }
        self.answer()
    }

    pub(crate) fn ask(&mut self, request: Request) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.request(Time(self.now), request, &mut effects);
        self.device(&mut effects);
        effects
    }

    /// Makes a call: what comes of it, and its answer if there is one yet.
    pub(crate) fn call(&mut self, file: FileId, call: Call) -> (Vec<Effect>, Option<Result<Answer, Errno>>) {
        self.calls += 1;
        let token = Token(self.calls);
        let mut effects = self.ask(Request::Call { file, token, call });
        let answered =
            |it: &Effect| matches!(it, Effect::Scheme(Notice::Answered { token: of, .. }) if *of == token);
        let answers: Vec<Effect> = effects.extract_if(.., |it| answered(it)).collect();
        assert!(answers.len() <= 1, "answered twice: {answers:?}");
        let answer = answers.into_iter().find_map(|it| match it {
            Effect::Scheme(Notice::Answered { result, .. }) => Some(result.map_err(|refusal| refusal.errno)),
            _ => None,
        });
        (effects, answer)
    }

    /// A framebuffer of what a GL context draws.
    pub(crate) fn framebuffer(&mut self, file: FileId, resource: u32) -> u32 {
        self.framebuffer_of(file, drawn(resource), (64, 64), *b"XR24")
    }

    /// A framebuffer of a dumb buffer.
    pub(crate) fn dumb(&mut self, file: FileId, resource: u32) -> u32 {
        self.framebuffer_of(file, written(resource), (64, 64), *b"XR24")
    }

    pub(crate) fn framebuffer_of(
        &mut self,
        file: FileId,
        image: Image,
        (width, height): (u32, u32),
        format: [u8; 4],
    ) -> u32 {
        let new = NewFramebuffer {
            width,
            height,
            format: u32::from_le_bytes(format),
            flags: 0,
            pitch: width * 4,
            offset: 0,
            modifiers: [0; 4],
            image: Some(image),
        };
        match self.call(file, Call::AddFramebuffer(new)).1 {
            Some(Ok(Answer::Made(id))) => id,
            other => panic!("no framebuffer: {other:?}"),
        }
    }

    /// The first file understands atomic.
    pub(crate) fn understand(&mut self) {
        self.call(FIRST, Call::Understand { capability: 3, value: 1 });
    }

    /// A blob of the first file's.
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> u32 {
        match self.call(FIRST, Call::CreateBlob(bytes.to_vec())).1 {
            Some(Ok(Answer::Made(id))) => id,
            other => panic!("no blob: {other:?}"),
        }
    }

    /// Waits until the next refresh that anybody waits for.
    pub(crate) fn refresh(&mut self) -> Vec<Effect> {
        self.now = self.state.deadline().unwrap().0;
        self.wake()
    }

    /// Wakes the display, whatever it waits for.
    pub(crate) fn wake(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.wake(Time(self.now), &mut effects);
        self.device(&mut effects);
        effects
    }

    /// Has all work on buffers be complete that is asked about.
    pub(crate) fn ready(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let gates = effects.iter().filter_map(|it| match it {
            Effect::Scheme(Notice::Await { gate, .. } | Notice::AwaitFence { gate, .. }) => Some(*gate),
            _ => None,
        });
        gates.collect::<Vec<_>>().into_iter().flat_map(|gate| self.ask(Request::Ready { gate })).collect()
    }

    /// Shows a framebuffer of the first file's.
    pub(crate) fn light(&mut self, framebuffer: u32) {
        let (effects, answer) = self.call(FIRST, set_crtc(framebuffer));
        assert!(answer.is_none(), "answered before it is shown: {answer:?}");
        self.ready(&effects);
        self.refresh_if_due();
    }

    pub(crate) fn refresh_if_due(&mut self) {
        if self.state.deadline().is_some() {
            self.refresh();
        }
    }
}

pub(crate) fn drawn(resource: u32) -> Image {
    Image { resource: ResourceId(resource), bytes: 64 * 256, pixels: Pixels::Host }
}

/// A dumb buffer of 128 by 64 pixels.
pub(crate) fn written(resource: u32) -> Image {
    let bytes = 128 * 64 * 4;
    let region = Region { id: RegionId(1), memory: HeapMemory::new(bytes), address: Some(0x1000) };
    let bytes = u64::try_from(bytes).unwrap();
    let backing = Backing { region, offset: 0, length: bytes, isolated: true, device: None };
    Image { resource: ResourceId(resource), bytes, pixels: Pixels::Memory(backing) }
}

pub(crate) fn set_crtc(framebuffer: u32) -> Call {
    set_crtc_of(0, framebuffer)
}

/// The same on another screen.
pub(crate) fn set_crtc_of(output: u32, framebuffer: u32) -> Call {
    Call::SetCrtc(SetCrtc {
        crtc: CRTC + 5 * output,
        framebuffer,
        position: (0, 0),
        connectors: vec![CONNECTOR + 5 * output],
        mode: Some(mode()),
    })
}

/// A commit that does not wait.
pub(crate) fn atomic(sets: &[(u32, u32, u64)]) -> Call {
    const NONBLOCK: u32 = 0x200;
    Call::Atomic { flags: NONBLOCK, sets: sets.to_vec(), user_data: 0, fence_in: None, fence_out: None }
}

/// Rectangles as FB_DAMAGE_CLIPS has them.
pub(crate) fn clips(clips: &[[i32; 4]]) -> Vec<u8> {
    clips.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

pub(crate) fn flip(framebuffer: u32) -> Call {
    Call::PageFlip { crtc: CRTC, framebuffer, flags: 1, user_data: 7 }
}

pub(crate) fn events(effects: &[Effect]) -> usize {
    effects
        .iter()
        .filter(|it| matches!(it, Effect::Scheme(Notice::Event { event: Event::Flip(_), .. })))
        .count()
}

/// Which resource the device is told to show.
pub(crate) fn scanned_out(effects: &[Effect]) -> Option<u32> {
    effects.iter().find_map(|it| match it {
        Effect::Control(DisplayCommand::SetScanout { resource, .. }) => Some(resource.0),
        _ => None,
    })
}

/// Which parts the device is told to fetch of a resource.
pub(crate) fn transferred(effects: &[Effect], of: u32) -> Vec<(u32, u32, u32, u32)> {
    let found = effects.iter().filter_map(|it| match it {
        Effect::Control(DisplayCommand::Transfer { resource, rectangle: it, .. }) if resource.0 == of => {
            Some((it.x, it.y, it.width, it.height))
        }
        _ => None,
    });
    found.collect()
}

/// Calls that are answered.
pub(crate) fn answered(effects: &[Effect]) -> Vec<(u64, Result<(), Errno>)> {
    let found = effects.iter().filter_map(|it| match it {
        Effect::Scheme(Notice::Answered { token, result }) => {
            Some((token.0, result.as_ref().map(drop).map_err(|refusal| refusal.errno)))
        }
        _ => None,
    });
    found.collect()
}

/// The images of pointers that the device is told.
pub(crate) fn pointers(effects: &[Effect]) -> Vec<u32> {
    let found = effects.iter().filter_map(|it| match it {
        Effect::Cursor(cursorq::Request::Update { image, .. }) => Some(image.0),
        _ => None,
    });
    found.collect()
}
