//! Two screens: what becomes of one is nothing to the other.

use virgld_display::Effect;
use virgld_protocol::errno::Errno;
use virgld_protocol::message::display::{Answer, Call, ControlEvent, Event, Notice};

use super::desk::{CONNECTOR, CRTC, Desk, FIRST, flip, set_crtc_of};

/// The CRTCs whose flips have come to their refresh.
fn flipped(effects: &[Effect]) -> Vec<u32> {
    let crtc = |it: &Effect| match it {
        Effect::Scheme(Notice::Event { event: Event::Flip(moment), .. }) => Some(moment.crtc),
        _ => None,
    };
    effects.iter().filter_map(crtc).collect()
}

/// The mode and the number of flips of each screen.
fn screens(desk: &Desk) -> Vec<(Option<(u32, u32)>, u64)> {
    desk.state.report().outputs.iter().map(|it| (it.mode, it.flips)).collect()
}

fn plugged(desk: &mut Desk, index: u32) -> bool {
    match desk.call(FIRST, Call::Connector(CONNECTOR + 5 * index)).1 {
        Some(Ok(Answer::Connector(it))) => it.connected,
        other => panic!("no connector: {other:?}"),
    }
}

#[test]
fn modes_flips_and_plugs_of_one_screen_leave_the_other_as_it_is() {
    const OTHER: u32 = CRTC + 5;
    let mut desk = Desk::with(2);
    let (one, two, three) = (desk.dumb(FIRST, 11), desk.dumb(FIRST, 12), desk.dumb(FIRST, 13));
    let lit = Some((64, 64));
    desk.light(one);
    let first = screens(&desk);
    assert_eq!((first[0].0, first[1]), (lit, (None, 0)), "a mode of one lights the other");
    desk.call(FIRST, set_crtc_of(1, two));
    desk.refresh_if_due();
    let both = screens(&desk);
    assert_eq!((both[0], both[1].0), (first[0], lit));
    // A flip of one is under way: it alone is busy, and has the event.
    desk.call(FIRST, flip(three));
    assert_eq!(desk.call(FIRST, flip(one)).1.unwrap().unwrap_err(), Errno::EBUSY);
    let shown = desk.refresh();
    assert_eq!(flipped(&shown), [CRTC]);
    assert_eq!(screens(&desk), [(lit, both[0].1 + 1), both[1]]);
    let of_other = Call::PageFlip { crtc: OTHER, framebuffer: three, flags: 1, user_data: 8 };
    assert!(desk.call(FIRST, of_other).1.unwrap().is_ok());
    assert_eq!(flipped(&desk.refresh()), [OTHER]);
    // A display goes: the other stays connected, and both show what they showed.
    let before = screens(&desk);
    desk.tell(ControlEvent::Displays(Ok(vec![None, Some((800, 600))])));
    assert_eq!((plugged(&mut desk, 0), plugged(&mut desk, 1)), (false, true));
    assert_eq!(screens(&desk), before);
}
