//! What the display does for what it hears, without anybody around it.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

mod calls;
mod desk;
mod errnos;
mod pointer;
mod two;
mod updates;

use virgld_display::Effect;
use virgld_protocol::client::kms::{IN_FENCE_FD, OUT_FENCE_PTR};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, ResourceId};
use virgld_protocol::message::ctrlq::DisplayCommand;
use virgld_protocol::message::display::{Answer, Call, ControlEvent, CursorCall, Notice, Request};

use desk::{CONNECTOR, CRTC, Desk, FIRST, PLANE, REFRESH, SECOND, events, flip, scanned_out, set_crtc};

/// Properties by their numbers.
const FB_ID: u32 = 2;
const CRTC_X: u32 = 4;
const ACTIVE: u32 = 15;

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
fn an_asynchronous_flip_waits_for_the_work_on_its_buffer_and_for_no_refresh() {
    const FLAGS: u32 = 1 | 2;
    let mut desk = Desk::new();
    desk.understand();
    let (one, two) = (desk.framebuffer(FIRST, 11), desk.framebuffer(FIRST, 12));
    desk.light(one);
    let legacy = |framebuffer| Call::PageFlip { crtc: CRTC, framebuffer, flags: FLAGS, user_data: 7 };
    let commit = |framebuffer: u32| Call::Atomic {
        flags: FLAGS | 0x200,
        sets: vec![(PLANE, FB_ID, framebuffer.into())],
        user_data: 7,
        fence_in: None,
        fence_out: None,
    };
    for (call, resource) in [(legacy(two), 12), (commit(one), 11), (legacy(two), 12)] {
        let (effects, answer) = desk.call(FIRST, call);
        assert!(matches!(answer, Some(Ok(Answer::Done))), "{answer:?}");
        assert_eq!((events(&effects), scanned_out(&effects)), (0, None), "work is under way");
        assert_eq!(desk.call(FIRST, legacy(one)).1.unwrap().unwrap_err(), Errno::EBUSY);
        let shown = desk.ready(&effects);
        assert_eq!((events(&shown), scanned_out(&shown)), (1, Some(resource)), "not shown at once");
        assert_eq!(desk.state.deadline(), None, "a refresh is waited for");
    }
    let target = Call::PageFlip { crtc: CRTC, framebuffer: one, flags: FLAGS | 4, user_data: 7 };
    assert_eq!(desk.call(FIRST, target).1.unwrap().unwrap_err(), Errno::EINVAL);
    // The one before is on its way to the screen still: it arrives first.
    desk.quick = false;
    let first = desk.call(FIRST, legacy(one)).0;
    assert_eq!(events(&desk.ready(&first)), 1);
    let second = desk.call(FIRST, legacy(two)).0;
    assert_eq!(events(&desk.ready(&second)), 0, "two updates at a time");
    assert_eq!(events(&desk.answer()), 1);
}

#[test]
fn what_changes_without_a_refresh_is_the_picture_and_nothing_else() {
    const ASYNC: u32 = 2;
    let mut desk = Desk::new();
    desk.understand();
    let (one, two) = (desk.framebuffer(FIRST, 11), desk.framebuffer(FIRST, 12));
    desk.light(one);
    let commit = |flags, more: (u32, u32, u64), fence_out: Option<FenceKey>| Call::Atomic {
        flags: flags | 0x600,
        sets: vec![(PLANE, FB_ID, two.into()), more],
        user_data: 0,
        fence_in: None,
        fence_out,
    };
    let only_try = 0x100;
    for more in [(PLANE + 1, CRTC_X, 5), (CRTC, ACTIVE, 0)] {
        assert!(desk.call(FIRST, commit(only_try, more, None)).1.unwrap().is_ok());
        for flags in [ASYNC, ASYNC | only_try] {
            let refused = desk.call(FIRST, commit(flags, more, None)).1.unwrap();
            assert_eq!(refused.unwrap_err(), Errno::EINVAL, "{more:?}");
        }
    }
    let fenced = commit(ASYNC, (CRTC, OUT_FENCE_PTR, 1), Some(FenceKey(3)));
    assert_eq!(desk.call(FIRST, fenced).1.unwrap().unwrap_err(), Errno::EINVAL);
    let as_it_is = commit(ASYNC, (CRTC, ACTIVE, 1), None);
    assert!(matches!(desk.call(FIRST, as_it_is).1, Some(Ok(Answer::Done))));
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
    for call in [set_crtc(other), flip(other), Call::Cursor(cursor), Call::NeedMaster(Err(Errno::EINVAL))] {
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
