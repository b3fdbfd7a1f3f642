//! Calls that are refused, and calls that wait, as Linux has them.

use virgld_protocol::errno::Errno;
use virgld_protocol::message::display::{Answer, Call, ControlEvent, Request};
use zerocopy::IntoBytes;

use super::desk::{CONNECTOR, CRTC, Desk, FIRST, answered, mode, set_crtc};

const MODE_ID: u32 = 16;

#[test]
fn an_event_of_a_commit_without_a_screen_is_refused() {
    let mut desk = Desk::new();
    desk.understand();
    let commit = |flags| Call::Atomic { flags, sets: vec![], user_data: 0, fence_in: None, fence_out: None };
    assert_eq!(desk.call(FIRST, commit(1)).1.unwrap().unwrap_err(), Errno::EINVAL);
    assert!(matches!(desk.call(FIRST, commit(0)).1, Some(Ok(Answer::Done))));
}

/// The number of the blob that holds the mode which is set.
fn mode_id(desk: &mut Desk) -> u32 {
    let Some(Ok(Answer::Properties(values))) = desk.call(FIRST, Call::Properties { object: CRTC, kind: 0 }).1
    else {
        panic!("no properties")
    };
    let found = values.into_iter().find(|(id, _)| *id == MODE_ID);
    u32::try_from(found.unwrap().1).unwrap()
}

fn holds(desk: &mut Desk, blob: u32) -> bool {
    desk.call(FIRST, Call::Blob(blob)).1.unwrap().is_ok()
}

#[test]
fn the_blob_of_a_mode_lives_as_long_as_the_mode_is_set_and_no_longer() {
    let mut desk = Desk::new();
    desk.understand();
    let one = desk.dumb(FIRST, 11);
    desk.light(one);
    let before = mode_id(&mut desk);
    for htotal in 101..200 {
        let Call::SetCrtc(mut asked) = set_crtc(one) else { panic!() };
        asked.mode = asked.mode.map(|it| virgld_protocol::client::kms::ModeInfo { htotal, ..it });
        desk.call(FIRST, Call::SetCrtc(asked));
        desk.refresh_if_due();
        let now = mode_id(&mut desk);
        assert!(holds(&mut desk, now) && (now == before || !holds(&mut desk, before)));
        // The one before this is gone as well.
        assert!(now == before || !holds(&mut desk, now - 1), "blobs of modes pile up");
    }
    // The client's own lives on without its maker, as long as it is set.
    let own = desk.blob(mode().as_bytes());
    let allow_modeset = 0x400;
    let sets = vec![(CRTC, MODE_ID, own.into())];
    let commit = Call::Atomic { flags: allow_modeset, sets, user_data: 0, fence_in: None, fence_out: None };
    desk.call(FIRST, commit);
    desk.refresh_if_due();
    assert!(matches!(desk.call(FIRST, Call::DestroyBlob(own)).1, Some(Ok(Answer::Done))));
    assert_eq!(desk.call(FIRST, Call::DestroyBlob(own)).1.unwrap().unwrap_err(), Errno::EPERM);
    assert_eq!(mode_id(&mut desk), own);
    assert!(holds(&mut desk, own));
    let Call::SetCrtc(mut off) = set_crtc(0) else { panic!() };
    (off.mode, off.connectors) = (None, vec![]);
    desk.call(FIRST, Call::SetCrtc(off));
    desk.refresh_if_due();
    assert!(!holds(&mut desk, own));
}

#[test]
fn a_call_waits_three_seconds_for_a_refresh_and_an_event_as_long_as_it_takes() {
    const RELATIVE: u32 = 1;
    const EVENT: u32 = 0x0400_0000;
    let mut desk = Desk::new();
    let one = desk.dumb(FIRST, 11);
    desk.light(one);
    let wait = |kind, sequence| Call::WaitVblank { kind, sequence, user_data: 0 };
    let start = desk.now;
    assert!(desk.call(FIRST, wait(RELATIVE, 100_000)).1.is_none());
    let far = desk.calls;
    assert!(desk.call(FIRST, wait(RELATIVE | EVENT, 100_000)).1.unwrap().is_ok());
    assert!(desk.call(FIRST, wait(RELATIVE, 100)).1.is_none());
    let near = desk.calls;
    assert_eq!(answered(&desk.refresh()), [(near, Ok(()))]);
    assert_eq!(answered(&desk.refresh()), [(far, Err(Errno::EBUSY))]);
    assert_eq!(desk.now - start, 3_000_000_000);
    assert!(desk.state.deadline().unwrap().0 > start + 900_000_000_000, "the event");
    desk.ask(Request::Closed { file: FIRST });
}

#[test]
fn a_display_that_is_unplugged_takes_with_it_what_it_told_of_itself() {
    const EDID: u32 = 17;
    let mut desk = Desk::with(2);
    let connector = CONNECTOR + 5;
    let edid = |desk: &mut Desk| match desk.call(FIRST, Call::Connector(connector)).1 {
        Some(Ok(Answer::Connector(it))) => {
            (it.properties.iter().find(|(id, _)| *id == EDID).unwrap().1, it.size, it.connected)
        }
        other => panic!("no connector: {other:?}"),
    };
    let (both, one) = (vec![Some((800, 600)); 2], vec![Some((800, 600)), None]);
    desk.tell(ControlEvent::Edid { scanout: 1, result: Ok(described()) });
    desk.tell(ControlEvent::Displays(Ok(both.clone())));
    let (blob, size, _) = edid(&mut desk);
    assert!(blob != 0 && size == (530, 300));
    desk.tell(ControlEvent::Edid { scanout: 1, result: Err(Errno::EIO) });
    desk.tell(ControlEvent::Displays(Ok(one)));
    assert_eq!(edid(&mut desk), (0, (0, 0), false));
    assert!(!holds(&mut desk, u32::try_from(blob).unwrap()), "its blob is left behind");
    desk.tell(ControlEvent::Edid { scanout: 1, result: Ok(described()) });
    desk.tell(ControlEvent::Displays(Ok(both)));
    assert!(edid(&mut desk).0 != 0);
}

/// An EDID of a display of 530 by 300 millimetres.
fn described() -> Vec<u8> {
    let mut edid = vec![0_u8; 128];
    edid[1..7].fill(0xff);
    edid[54..72].copy_from_slice(&[1, 1, 0, 0, 0x50, 0x20, 0, 0x30, 0, 0, 0, 0, 0x12, 0x2c, 0x21, 0, 0, 0]);
    let sum = edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    edid[127] = 0_u8.wrapping_sub(sum);
    edid
}
