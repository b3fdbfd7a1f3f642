//! What the device is told of pictures that change, and when.

use virgld_display::Effect;
use virgld_protocol::errno::Errno;
use virgld_protocol::message::ctrlq::DisplayCommand;
use virgld_protocol::message::display::{Answer, Call, ControlEvent, Request};

use super::desk::{
    CRTC, Desk, FIRST, PLANE, SECOND, answered, atomic, clips, events, flip, scanned_out, set_crtc,
    transferred,
};

const FB_ID: u32 = 2;
const DAMAGE: u32 = 12;
/// For how many nanoseconds an answer is waited for.
const PATIENCE: u64 = 10_000_000_000;
const WHOLE: (u32, u32, u32, u32) = (0, 0, 64, 64);

fn dirty(framebuffer: u32, clips: &[[u16; 4]]) -> Call {
    Call::Dirty { framebuffer, flags: 0, clips: clips.to_vec() }
}

/// Damage says what is not as it was in the picture before, and the device may never have had another buffer's pixels.
#[test]
fn clips_are_for_the_framebuffer_that_is_shown_and_another_comes_as_a_whole() {
    let mut desk = Desk::new();
    desk.understand();
    let (one, two) = (desk.dumb(FIRST, 11), desk.dumb(FIRST, 12));
    desk.light(one);
    let corner = desk.blob(&clips(&[[0, 0, 8, 4]]));
    for (framebuffer, resource, part) in [(one, 11, (0, 0, 8, 4)), (two, 12, WHOLE), (two, 12, (0, 0, 8, 4))]
    {
        // Which of the two is said first does not matter.
        for turn in [0, 1] {
            let mut sets = [(PLANE, FB_ID, framebuffer.into()), (PLANE, DAMAGE, corner.into())];
            sets.rotate_left(turn);
            desk.call(FIRST, atomic(&sets));
            let shown = desk.refresh();
            let part = if turn == 0 { part } else { (0, 0, 8, 4) };
            assert_eq!(transferred(&shown, resource), [part]);
        }
    }
    desk.call(FIRST, atomic(&[(PLANE, FB_ID, two.into())]));
    assert_eq!(transferred(&desk.refresh(), 12), [WHOLE], "no clips: all of it may have changed");
}

/// Two framebuffers of one buffer differ in where they begin.
#[test]
fn another_framebuffer_of_the_same_buffer_comes_as_a_whole_too() {
    let mut desk = Desk::new();
    desk.understand();
    let (one, same) = (desk.dumb(FIRST, 11), desk.dumb(FIRST, 11));
    desk.light(one);
    let corner = desk.blob(&clips(&[[0, 0, 8, 4]]));
    desk.call(FIRST, atomic(&[(PLANE, FB_ID, same.into()), (PLANE, DAMAGE, corner.into())]));
    let shown = desk.refresh();
    assert_eq!((transferred(&shown, 11), scanned_out(&shown)), (vec![WHOLE], None));
}

#[test]
fn a_blob_of_clips_may_go_as_soon_as_the_commit_is_accepted() {
    let mut desk = Desk::new();
    desk.understand();
    let one = desk.dumb(FIRST, 11);
    desk.light(one);
    let corner = desk.blob(&clips(&[[8, 8, 16, 16], [-5, 0, 4, 4]]));
    desk.call(FIRST, atomic(&[(PLANE, DAMAGE, corner.into())]));
    assert!(matches!(desk.call(FIRST, Call::DestroyBlob(corner)).1, Some(Ok(Answer::Done))));
    assert_eq!(transferred(&desk.refresh(), 11), [(8, 8, 8, 8), (0, 0, 4, 4)]);
    assert_eq!(desk.state.report().blobs, 0);
}

#[test]
fn a_commit_that_does_not_name_the_picture_sends_nothing_of_it() {
    let mut desk = Desk::new();
    desk.understand();
    let one = desk.dumb(FIRST, 11);
    desk.light(one);
    const ACTIVE: u32 = 15;
    let (cursor, x) = (PLANE + 1, 4);
    for sets in [[(cursor, x, 5)], [(CRTC, ACTIVE, 1)]] {
        desk.call(FIRST, atomic(&sets));
        assert_eq!(transferred(&desk.refresh(), 11), []);
    }
}

/// However often a client asks: what is under way is one update, and what has come meanwhile is the next.
#[test]
fn who_says_without_end_that_pixels_have_changed_has_one_update_under_way() {
    let mut desk = Desk::new();
    let one = desk.dumb(FIRST, 11);
    desk.light(one);
    desk.quick = false;
    let (first, answer) = desk.call(FIRST, dirty(one, &[[0, 0, 1, 1]]));
    assert!(answer.is_none(), "answered before the device has the pixels");
    let first_token = desk.calls;
    assert_eq!(transferred(&first, 11), [(0, 0, 1, 1)]);
    for call in 1..60_u16 {
        let (more, answer) = desk.call(FIRST, dirty(one, &[[call % 3, 2, call % 3 + 1, 3]]));
        assert!(answer.is_none() && more.is_empty(), "more under way than one update");
    }
    let ended = desk.answer();
    assert_eq!(answered(&ended), [(first_token, Ok(()))]);
    let mut parts = transferred(&ended, 11);
    parts.sort_unstable();
    assert_eq!(parts, [(0, 2, 1, 1), (1, 2, 1, 1), (2, 2, 1, 1)]);
    assert_eq!(answered(&desk.answer()).len(), 59);
    assert!(desk.answer().is_empty(), "an update for nothing");
}

#[test]
fn a_file_waits_with_so_many_calls_and_no_more() {
    let mut desk = Desk::new();
    let one = desk.dumb(FIRST, 11);
    desk.light(one);
    desk.quick = false;
    let mut refused = 0;
    for _ in 0..100 {
        let answer = desk.call(FIRST, dirty(one, &[])).1;
        refused += usize::from(answer.is_some_and(|it| it.unwrap_err() == Errno::EBUSY));
    }
    assert_eq!(refused, 36);
    assert_eq!(answered(&desk.answer()).len() + answered(&desk.answer()).len(), 64);
    // The same of calls that wait for flips, which no device has to answer.
    desk.call(FIRST, flip(one));
    let waiting = (0..100).filter(|_| desk.call(FIRST, set_crtc(one)).1.is_none()).count();
    assert_eq!(waiting, 64);
    desk.ask(Request::Closed { file: FIRST });
    assert!(desk.state.report().live.named.is_empty());
}

#[test]
fn a_flip_comes_after_the_update_that_is_under_way_and_has_its_event_then() {
    let mut desk = Desk::new();
    let (one, two) = (desk.dumb(FIRST, 11), desk.dumb(FIRST, 12));
    desk.light(one);
    desk.quick = false;
    desk.call(FIRST, dirty(one, &[]));
    desk.call(FIRST, flip(two));
    let (now, next) = (desk.now, desk.state.deadline().unwrap().0);
    assert_eq!(next - now, PATIENCE, "there is nothing to be done at the refresh");
    desk.now += 100_000_000;
    let waited = desk.wake();
    assert_eq!((events(&waited), scanned_out(&waited)), (0, None));
    let ended = desk.answer();
    assert_eq!((events(&ended), scanned_out(&ended)), (1, Some(12)));
}

/// Nothing waits for ever: not even for an answer that cannot get lost.
#[test]
fn a_screen_goes_on_though_the_device_never_answers() {
    let mut desk = Desk::new();
    let (one, two) = (desk.dumb(FIRST, 11), desk.dumb(FIRST, 12));
    desk.light(one);
    desk.quick = false;
    desk.call(FIRST, dirty(one, &[]));
    let token = desk.calls;
    desk.call(FIRST, flip(two));
    let start = desk.now;
    let given_up = desk.refresh();
    assert_eq!((desk.now - start, answered(&given_up)), (PATIENCE, vec![(token, Ok(()))]));
    assert_eq!((events(&given_up), scanned_out(&given_up)), (1, Some(12)));
    // What comes after all is for an update that is over.
    assert_eq!(answered(&desk.answer()), []);
}

#[test]
fn calls_end_though_the_device_fails_or_goes_or_their_picture_does() {
    for end in 0..4 {
        let mut desk = Desk::new();
        let one = desk.dumb(FIRST, 11);
        desk.light(one);
        desk.quick = false;
        let tokens: Vec<u64> = (0..2)
            .map(|_| {
                assert!(desk.call(FIRST, dirty(one, &[])).1.is_none());
                desk.calls
            })
            .collect();
        let mut effects = match end {
            0 => desk.fail(),
            1 => desk.tell(ControlEvent::Down),
            2 => desk.call(FIRST, Call::RemoveFramebuffer(one)).0,
            _ => {
                desk.ask(Request::Closed { file: FIRST });
                assert_eq!(answered(&desk.answer()), [], "nobody is there any more");
                continue;
            }
        };
        effects.extend(desk.answer());
        let mut ended: Vec<u64> = answered(&effects).into_iter().map(|(token, _)| token).collect();
        ended.sort_unstable();
        assert_eq!(ended, tokens, "{end}");
    }
}

#[test]
fn a_picture_that_is_removed_is_off_the_screen_and_a_flip_that_was_accepted_is_shown_first() {
    let mut desk = Desk::new();
    let (one, two) = (desk.dumb(FIRST, 11), desk.dumb(FIRST, 12));
    desk.light(one);
    // What is shown goes when its successor comes.
    desk.call(FIRST, flip(two));
    let (removed, answer) = desk.call(FIRST, Call::RemoveFramebuffer(one));
    assert!(matches!(answer, Some(Ok(Answer::Done))), "{answer:?}");
    assert_eq!((events(&removed), scanned_out(&removed)), (0, None), "the flip came early");
    let shown = desk.refresh();
    assert_eq!((events(&shown), scanned_out(&shown)), (1, Some(12)));
    assert_eq!(desk.state.report().framebuffers, 1);
    // What is about to be shown is shown, and goes then.
    let three = desk.dumb(FIRST, 13);
    desk.call(FIRST, flip(three));
    let (removed, answer) = desk.call(FIRST, Call::RemoveFramebuffer(three));
    assert!(answer.is_none() && removed.is_empty(), "{answer:?} {removed:?}");
    let token = desk.calls;
    let shown = desk.refresh();
    let told: Vec<u32> = shown.iter().filter_map(told_resource).collect();
    assert_eq!((events(&shown), told), (1, vec![13, 0]));
    assert_eq!(answered(&shown), [(token, Ok(()))]);
    assert_eq!(desk.state.report().outputs[0].mode, None);
}

fn told_resource(effect: &Effect) -> Option<u32> {
    match effect {
        Effect::Control(DisplayCommand::SetScanout { resource, .. }) => Some(resource.0),
        _ => None,
    }
}

#[test]
fn a_buffer_that_is_revoked_goes_at_once_also_before_its_successors_refresh() {
    let mut desk = Desk::new();
    let (one, two) = (desk.dumb(FIRST, 11), desk.framebuffer(FIRST, 12));
    desk.light(one);
    let (asked, _) = desk.call(FIRST, flip(two));
    let resource = virgld_protocol::ids::ResourceId(11);
    let revoked = desk.ask(Request::Revoked { resource, maker: SECOND });
    assert_eq!((events(&revoked), scanned_out(&revoked)), (0, Some(0)));
    desk.ready(&asked);
    let shown = desk.refresh();
    assert_eq!((events(&shown), scanned_out(&shown)), (1, Some(12)));
}
