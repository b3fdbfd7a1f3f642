//! The pointer: what the device is told, and when.

use virgld_display::Effect;
use virgld_protocol::errno::Errno;
use virgld_protocol::message::cursorq;
use virgld_protocol::message::display::{Call, CursorCall, Image, Request, SetPlane};

use super::desk::{CRTC, Desk, FIRST, PLANE, atomic, drawn, pointers, transferred, written};

const WHOLE: (u32, u32, u32, u32) = (0, 0, 64, 64);
const CURSOR: u32 = PLANE + 1;

/// Sets an image (1), moves the pointer (2), or both.
fn cursor(flags: u32, position: (i32, i32), image: Option<Image>) -> Call {
    let image = Ok(image);
    Call::Cursor(CursorCall { crtc: CRTC, flags, position, size: (64, 64), image, hotspot: (0, 0) })
}

fn lit() -> Desk {
    let mut desk = Desk::new();
    let one = desk.framebuffer(FIRST, 11);
    desk.light(one);
    desk
}

fn moves(effects: &[Effect]) -> Vec<(u32, u32)> {
    let found = effects.iter().filter_map(|it| match it {
        Effect::Cursor(cursorq::Request::Move { position, .. }) => Some(*position),
        _ => None,
    });
    found.collect()
}

#[test]
fn the_pointer_is_reported_moved_and_hidden() {
    let mut desk = lit();
    let (shown, _) = desk.call(FIRST, cursor(3, (5, 6), Some(written(13))));
    assert_eq!((pointers(&shown), desk.state.report().outputs[0].pointer), (vec![13], Some((5, 6))));
    let (moved, _) = desk.call(FIRST, cursor(2, (7, 8), None));
    assert_eq!((pointers(&moved), moves(&moved)), (vec![], vec![(7, 8)]));
    let (hidden, _) = desk.call(FIRST, cursor(1, (0, 0), None));
    assert_eq!((pointers(&hidden), desk.state.report().outputs[0].pointer), (vec![0], None));
    assert_eq!(desk.state.report().framebuffers, 1, "its image is left behind");
}

/// What a GL context draws into is not told before it is drawn.
#[test]
fn an_image_on_the_host_is_told_when_the_work_on_it_is_complete() {
    let mut desk = lit();
    let (asked, _) = desk.call(FIRST, cursor(3, (5, 6), Some(drawn(13))));
    assert_eq!(pointers(&asked), [], "the image overtakes its drawing");
    assert_eq!(pointers(&desk.ready(&asked)), [13]);
}

#[test]
fn pixels_that_change_while_they_are_on_their_way_are_fetched_again() {
    let mut desk = lit();
    desk.quick = false;
    let (first, _) = desk.call(FIRST, cursor(1, (0, 0), Some(written(13))));
    assert_eq!((transferred(&first, 13), pointers(&first)), (vec![WHOLE], vec![]));
    let (second, _) = desk.call(FIRST, cursor(1, (0, 0), Some(written(13))));
    assert!(transferred(&second, 13).is_empty(), "two transfers under way");
    let arrived = desk.answer();
    assert_eq!((transferred(&arrived, 13), pointers(&arrived)), (vec![WHOLE], vec![13]));
    let arrived = desk.answer();
    assert_eq!((transferred(&arrived, 13), pointers(&arrived)), (vec![], vec![13]));
}

#[test]
fn who_changes_the_image_without_end_has_one_transfer_under_way_and_sees_the_newest_at_last() {
    let mut desk = lit();
    desk.quick = false;
    let mut sent = 0;
    for turn in 0..1000_u32 {
        let (effects, _) = desk.call(FIRST, cursor(1, (0, 0), Some(written(13 + turn % 2))));
        sent += transferred(&effects, 13).len() + transferred(&effects, 14).len();
    }
    assert_eq!(sent, 1);
    assert_eq!(pointers(&desk.answer()), [13]);
    assert_eq!(pointers(&desk.answer()), [14]);
    assert!(desk.answer().is_empty());
    assert_eq!(desk.state.report().framebuffers, 2, "images that nobody shows are kept");
}

#[test]
fn a_pointer_moves_with_its_old_image_until_the_new_one_is_there_and_a_hidden_one_stays_hidden() {
    let mut desk = lit();
    desk.call(FIRST, cursor(3, (1, 1), Some(written(13))));
    desk.quick = false;
    let (effects, _) = desk.call(FIRST, cursor(3, (2, 2), Some(written(14))));
    assert_eq!((pointers(&effects), moves(&effects)), (vec![], vec![(2, 2)]));
    let (effects, _) = desk.call(FIRST, cursor(2, (3, 3), None));
    assert_eq!(moves(&effects), [(3, 3)]);
    let (effects, _) = desk.call(FIRST, cursor(1, (0, 0), None));
    assert_eq!(pointers(&effects), [0]);
    assert_eq!(pointers(&desk.answer()), [], "it is hidden");
}

#[test]
fn an_image_that_the_device_lacks_is_not_told() {
    let mut desk = lit();
    desk.call(FIRST, cursor(3, (1, 1), Some(written(13))));
    desk.quick = false;
    desk.call(FIRST, cursor(1, (0, 0), Some(written(14))));
    assert_eq!(pointers(&desk.fail()), [0]);
    let (moved, _) = desk.call(FIRST, cursor(2, (3, 3), None));
    assert_eq!((pointers(&moved), moves(&moved)), (vec![], vec![(3, 3)]));
    desk.call(FIRST, cursor(1, (0, 0), Some(written(14))));
    assert_eq!(pointers(&desk.answer()), [14]);
}

#[test]
fn an_image_that_never_arrives_holds_up_those_after_it_for_a_while_alone() {
    let mut desk = lit();
    desk.quick = false;
    desk.call(FIRST, cursor(1, (0, 0), Some(written(13))));
    let (effects, _) = desk.call(FIRST, cursor(1, (0, 0), Some(written(14))));
    assert!(transferred(&effects, 14).is_empty());
    assert_eq!(transferred(&desk.refresh(), 14), [WHOLE]);
    // One that is hidden holds no buffer, whether it arrives or not.
    desk.call(FIRST, cursor(1, (0, 0), None));
    assert_eq!(desk.state.report().framebuffers, 1);
}

#[test]
fn no_call_shows_a_pointer_larger_than_the_device_does() {
    let mut desk = lit();
    desk.understand();
    let large = desk.framebuffer_of(FIRST, written(13), (65, 64), *b"AR24");
    let good = desk.framebuffer_of(FIRST, written(13), (64, 64), *b"AR24");
    for (framebuffer, side, errno) in
        [(large, 65, Some(Errno::EINVAL)), (large, 64, Some(Errno::EINVAL)), (good, 64, None)]
    {
        let wide = u64::from(side) << 16;
        let sets = [
            (2, framebuffer.into()),
            (3, CRTC.into()),
            (6, side.into()),
            (7, 64),
            (10, wide),
            (11, 64 << 16),
        ];
        let sets = sets.map(|(property, value)| (CURSOR, property, value));
        let answer = desk.call(FIRST, atomic(&sets)).1;
        assert_eq!(answer.and_then(|it| it.err()), errno, "ATOMIC {framebuffer} {side}");
        desk.refresh_if_due();
        let source = [0, 0, side << 16, 64 << 16];
        let plane =
            SetPlane { plane: CURSOR, crtc: CRTC, framebuffer, position: (0, 0), size: (side, 64), source };
        let answer = desk.call(FIRST, Call::SetPlane(plane)).1;
        assert_eq!(answer.and_then(|it| it.err()), errno, "SETPLANE {framebuffer} {side}");
        desk.refresh_if_due();
    }
}

#[test]
fn what_is_shown_of_a_file_goes_with_it_whatever_is_under_way() {
    let mut desk = lit();
    desk.call(FIRST, cursor(3, (1, 1), Some(written(13))));
    desk.quick = false;
    desk.call(FIRST, cursor(1, (0, 0), Some(written(14))));
    assert_eq!(pointers(&desk.ask(Request::Closed { file: FIRST })), [0]);
    assert_eq!(pointers(&desk.answer()), []);
    assert_eq!(desk.state.report().framebuffers, 0);
}
