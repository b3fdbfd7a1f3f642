//! What the display does for what it hears, without anybody around it.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use virgld_display::{Effect, Presentation, State};
use virgld_protocol::client::kms::{IN_FENCE_FD, ModeInfo, OUT_FENCE_PTR};
use virgld_protocol::device::Feature;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, ResourceId, Token};
use virgld_protocol::message::ctrlq::DisplayCommand;
use virgld_protocol::message::cursorq;
use virgld_protocol::message::display::{
    Answer, Call, ControlEvent, CursorCall, Event, Image, NewFramebuffer, Notice, Pixels, Request, SetCrtc,
};
use virgld_runtime::Time;

const CRTC: u32 = 40;
const PLANE: u32 = 41;
const CONNECTOR: u32 = 44;
const FIRST: FileId = FileId(1);
const SECOND: FileId = FileId(2);
/// Nanoseconds of a refresh of the mode below.
const REFRESH: u64 = 10_000_000;

/// The state, two files of which the first is master, and a clock.
struct Desk {
    state: State,
    now: u64,
    calls: u64,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self { state: State::new(Presentation::Scanout), now: 1000, calls: 0 };
        desk.tell(ControlEvent::Up { features: Feature::EDID, scanouts: 1 });
        desk.tell(ControlEvent::Displays(Ok(vec![Some((800, 600))])));
        for file in [FIRST, SECOND] {
            desk.ask(Request::Opened { file, privileged: false });
        }
        desk
    }

    fn tell(&mut self, event: ControlEvent) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.control(Time(self.now), event, &mut effects);
        effects
    }

    fn ask(&mut self, request: Request) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.request(Time(self.now), request, &mut effects);
        effects
    }

    /// Makes a call: what comes of it, and its answer if there is one yet.
    fn call(&mut self, file: FileId, call: Call) -> (Vec<Effect>, Option<Result<Answer, Errno>>) {
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
    fn framebuffer(&mut self, file: FileId, resource: u32) -> u32 {
        let new = NewFramebuffer {
            width: 64,
            height: 64,
            format: u32::from_le_bytes(*b"XR24"),
            flags: 0,
            pitch: 256,
            offset: 0,
            modifier: 0,
            image: Some(drawn(resource)),
            more_planes: false,
        };
        match self.call(file, Call::AddFramebuffer(new)).1 {
            Some(Ok(Answer::Made(id))) => id,
            other => panic!("no framebuffer: {other:?}"),
        }
    }

    /// Waits until the next refresh that anybody waits for.
    fn refresh(&mut self) -> Vec<Effect> {
        self.now = self.state.deadline().unwrap().0;
        let mut effects = Vec::new();
        self.state.wake(Time(self.now), &mut effects);
        effects
    }

    /// Has all work on buffers be complete that is asked about.
    fn ready(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let gates = effects.iter().filter_map(|it| match it {
            Effect::Scheme(Notice::Await { gate, .. } | Notice::AwaitFence { gate, .. }) => Some(*gate),
            _ => None,
        });
        gates.collect::<Vec<_>>().into_iter().flat_map(|gate| self.ask(Request::Ready { gate })).collect()
    }

    /// Shows a framebuffer of the first file's.
    fn light(&mut self, framebuffer: u32) {
        let (effects, answer) = self.call(FIRST, set_crtc(framebuffer));
        assert!(answer.is_none(), "answered before it is shown: {answer:?}");
        self.ready(&effects);
        self.refresh_if_due();
    }

    fn refresh_if_due(&mut self) {
        if self.state.deadline().is_some() {
            self.refresh();
        }
    }
}

fn drawn(resource: u32) -> Image {
    Image { resource: ResourceId(resource), bytes: 64 * 256, pixels: Pixels::Host }
}

fn set_crtc(framebuffer: u32) -> Call {
    let mode = ModeInfo {
        clock: 1000,
        hdisplay: 64,
        hsync_start: 70,
        hsync_end: 80,
        htotal: 100,
        vdisplay: 64,
        vsync_start: 70,
        vsync_end: 80,
        vtotal: 100,
        ..ModeInfo::default()
    };
    Call::SetCrtc(SetCrtc {
        crtc: CRTC,
        framebuffer,
        position: (0, 0),
        connectors: vec![CONNECTOR],
        mode: Some(mode),
    })
}

fn flip(framebuffer: u32) -> Call {
    Call::PageFlip { crtc: CRTC, framebuffer, flags: 1, user_data: 7 }
}

fn events(effects: &[Effect]) -> usize {
    effects
        .iter()
        .filter(|it| matches!(it, Effect::Scheme(Notice::Event { event: Event::Flip(_), .. })))
        .count()
}

/// Which resource the device is told to show.
fn scanned_out(effects: &[Effect]) -> Option<u32> {
    effects.iter().find_map(|it| match it {
        Effect::Control(DisplayCommand::SetScanout { resource, .. }) => Some(resource.0),
        _ => None,
    })
}

#[test]
fn a_flip_waits_for_the_work_on_its_buffer_and_for_the_refresh_and_has_one_event() {
    let mut desk = Desk::new();
    let (one, two) = (desk.framebuffer(FIRST, 11), desk.framebuffer(FIRST, 12));
    desk.light(one);
    let (effects, answer) = desk.call(FIRST, flip(two));
    assert!(matches!(answer, Some(Ok(Answer::Done))), "{answer:?}");
    assert_eq!((events(&effects), desk.state.deadline()), (0, None), "work is under way");
    assert_eq!(desk.call(FIRST, flip(one)).1.unwrap().unwrap_err(), Errno::EBUSY);
    let opened = desk.ready(&effects);
    assert_eq!((events(&opened), scanned_out(&opened)), (0, None), "shown before the refresh");
    let before = desk.now;
    let shown = desk.refresh();
    assert!(desk.now > before && desk.now - before <= REFRESH);
    assert_eq!((events(&shown), scanned_out(&shown)), (1, Some(12)));
    assert_eq!(desk.state.deadline(), None, "nobody waits for another refresh");
}

#[test]
fn a_commit_signals_its_fence_once_it_is_shown_or_says_why_not() {
    let mut desk = Desk::new();
    let (one, two) = (desk.framebuffer(FIRST, 11), desk.framebuffer(FIRST, 12));
    desk.light(one);
    let signals = |effects: &[Effect]| {
        let found = effects.iter().filter_map(|it| match it {
            Effect::Scheme(Notice::Signal { fence, result }) => Some((fence.0, *result)),
            _ => None,
        });
        found.collect::<Vec<_>>()
    };
    let commit = |fence: u64| Call::Atomic {
        flags: 0x200,
        sets: vec![(PLANE, 2, two.into()), (PLANE, IN_FENCE_FD, 0), (CRTC, OUT_FENCE_PTR, 1)],
        user_data: 0,
        fence_in: Some(FenceKey(1)),
        fence_out: Some(FenceKey(fence)),
    };
    let (refused, answer) = desk.call(FIRST, commit(5));
    assert!(answer.unwrap().is_err(), "it does not understand atomic");
    assert_eq!(signals(&refused), [(5, Err(Errno::EINVAL))]);
    desk.call(FIRST, Call::Understand { capability: 3, value: 1 });
    let (effects, answer) = desk.call(FIRST, commit(6));
    assert!(matches!(answer, Some(Ok(Answer::Done))), "{answer:?}");
    assert_eq!((signals(&effects), desk.state.deadline()), (vec![], None), "its own fence has not signalled");
    let (busy, _) = desk.call(FIRST, commit(7));
    assert_eq!(signals(&busy), [(7, Err(Errno::EBUSY))]);
    let opened = desk.ready(&effects);
    assert_eq!(signals(&opened), []);
    assert_eq!(signals(&desk.refresh()), [(6, Ok(()))]);
}

#[test]
fn fences_are_properties_that_only_clients_of_atomic_see() {
    let mut desk = Desk::new();
    let ask = |desk: &mut Desk, object: u32| match desk.call(FIRST, Call::Properties { object, kind: 0 }).1 {
        Some(Ok(Answer::Properties(values))) => values,
        other => panic!("no properties: {other:?}"),
    };
    let pairs =
        [(PLANE, (IN_FENCE_FD, u64::MAX)), (PLANE + 1, (IN_FENCE_FD, u64::MAX)), (CRTC, (OUT_FENCE_PTR, 0))];
    for (object, value) in pairs {
        assert!(!ask(&mut desk, object).contains(&value));
    }
    desk.call(FIRST, Call::Understand { capability: 3, value: 1 });
    for (object, value) in pairs {
        assert!(ask(&mut desk, object).contains(&value), "{object}");
        let told = desk.call(FIRST, Call::Property(value.0)).1.unwrap();
        assert!(matches!(told, Ok(Answer::Property(_))), "{told:?}");
    }
}

#[test]
fn a_second_compositor_is_refused_until_the_first_is_gone_and_the_screen_is_blank_then() {
    let mut desk = Desk::new();
    let (one, other) = (desk.framebuffer(FIRST, 11), desk.framebuffer(SECOND, 12));
    desk.light(one);
    let cursor =
        CursorCall { crtc: CRTC, flags: 2, position: (0, 0), size: (0, 0), image: Ok(None), hotspot: (0, 0) };
    for call in [set_crtc(other), flip(other), Call::Cursor(cursor), Call::NeedMaster] {
        assert_eq!(desk.call(SECOND, call).1.unwrap().unwrap_err(), Errno::EACCES);
    }
    assert_eq!(desk.call(SECOND, Call::SetMaster).1.unwrap().unwrap_err(), Errno::EACCES, "never master");
    let gone = desk.ask(Request::Closed { file: FIRST });
    assert_eq!(scanned_out(&gone), Some(0), "the screen is not blank");
    assert!(gone.iter().any(|it| matches!(it, Effect::Scheme(Notice::Let { resource: ResourceId(11) }))));
    let report = desk.state.report();
    assert_eq!((report.master, report.framebuffers, report.outputs[0].mode), (None, 1, None));
    let third = FileId(3);
    desk.ask(Request::Opened { file: third, privileged: false });
    assert_eq!(desk.state.report().master, Some(third));
}

fn replugged(effects: &[Effect]) -> bool {
    effects.iter().any(|it| matches!(it, Effect::Scheme(Notice::Replugged)))
}

#[test]
fn a_display_that_changes_is_asked_anew_and_what_is_shown_stays() {
    let mut desk = Desk::new();
    let one = desk.framebuffer(FIRST, 11);
    desk.light(one);
    let asked = desk.tell(ControlEvent::Changed);
    assert!(matches!(
        asked[..],
        [Effect::Control(DisplayCommand::Edid { scanout: 0 }), Effect::Control(DisplayCommand::Displays)]
    ));
    for (told, connected, best) in
        [(Some((1920, 1080)), true, Some((1920, 1080))), (None, true, Some((1024, 768)))]
    {
        let effects = desk.tell(ControlEvent::Displays(Ok(vec![told])));
        assert_eq!(scanned_out(&effects), None);
        assert!(replugged(&effects), "clients are not told");
        let effects = desk.tell(ControlEvent::Displays(Ok(vec![told])));
        assert!(!replugged(&effects), "clients are told of what is as it was");
        let Some(Ok(Answer::Connector(connector))) = desk.call(FIRST, Call::Connector(CONNECTOR)).1 else {
            panic!("no connector")
        };
        let first = connector.modes.first().map(|it| (it.hdisplay, it.vdisplay));
        assert_eq!((connector.connected, first), (connected, best));
        assert_eq!(desk.state.report().outputs[0].mode, Some((64, 64)), "nobody set another mode");
    }
}

#[test]
fn the_pointer_is_reported_moved_and_hidden() {
    let mut desk = Desk::new();
    let one = desk.framebuffer(FIRST, 11);
    desk.light(one);
    let cursor = |flags, position, image| {
        Call::Cursor(CursorCall {
            crtc: CRTC,
            flags,
            position,
            size: (64, 64),
            image: Ok(image),
            hotspot: (0, 0),
        })
    };
    let (shown, _) = desk.call(FIRST, cursor(3, (5, 6), Some(drawn(13))));
    let image = |effects: &[Effect]| {
        effects.iter().find_map(|it| match it {
            Effect::Cursor(cursorq::Request::Update { image, .. }) => Some(image.0),
            _ => None,
        })
    };
    assert_eq!((image(&shown), desk.state.report().outputs[0].pointer), (Some(13), Some((5, 6))));
    let (moved, _) = desk.call(FIRST, cursor(2, (7, 8), None));
    assert!(
        moved.iter().any(|it| {
            matches!(it, Effect::Cursor(cursorq::Request::Move { scanout: 0, position: (7, 8) }))
        })
    );
    let (hidden, _) = desk.call(FIRST, cursor(1, (0, 0), None));
    assert_eq!((image(&hidden), desk.state.report().outputs[0].pointer), (Some(0), None));
}
