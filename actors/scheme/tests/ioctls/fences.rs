//! Fences of submits: out, in, merged, failed.

use std::time::Duration;

use virgld_protocol::client::{ExecbufferSyncobj, SyncobjCreate};
use virgld_protocol::errno::Errno;
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::Attached;
use virgld_testkit::device::Temper;
use virgld_testkit::door::Submission;

use crate::setup::Desk;

fn gated(wait: Attached) -> Submission<'static> {
    Submission { fence: true, wait: Some(wait), ..Submission::default() }
}

#[test]
fn a_fence_signals_when_the_work_is_done() {
    let mut desk = Desk::new();
    let file = desk.open();
    let fence = desk.fenced(file);
    assert_eq!(desk.system.door.signalled(fence), None);
    desk.finish();
    assert_eq!(desk.system.door.signalled(fence), Some(Ok(())));
    desk.end(&[file]);
}

#[test]
fn a_fence_of_work_that_failed_says_so() {
    let mut desk = Desk::new();
    let file = desk.open();
    desk.fenced(file);
    desk.finish();
    desk.system.device.set_temper(Temper { error: 1000, ..Temper::default() });
    let fence = desk.fenced(file);
    desk.finish();
    assert_eq!(desk.system.door.signalled(fence), Some(Err(Errno::ENOMEM)));
    desk.system.device.set_temper(Temper::default());
    desk.end(&[file]);
}

#[test]
fn a_refused_submit_signals_its_fence_with_the_error() {
    let mut desk = Desk::new();
    let file = desk.open();
    let what = Submission { handles: &[5], fence: true, ..Submission::default() };
    let submitted = desk.system.door.submit(file, &what).unwrap();
    assert_eq!(desk.errno(submitted.token), Some(Errno::ENOENT));
    assert_eq!(desk.system.door.signalled(submitted.fence.unwrap()), Some(Err(Errno::ENOENT)));
    desk.finish();
    assert_eq!(desk.system.door.retired(file), submitted.serial, "its place in the order is passed");
    desk.end(&[file]);
}

#[test]
fn a_submit_waits_for_a_foreign_fence_and_what_follows_waits_behind_it() {
    let mut desk = Desk::new();
    let file = desk.open();
    let foreign = desk.system.door.foreign_fence();
    let first = desk.submit(file, &gated(Attached::ForeignFence(foreign)));
    let second = desk.fenced(file);
    desk.finish();
    assert_eq!(desk.system.door.signalled(first.fence.unwrap()), None);
    assert_eq!(desk.system.door.signalled(second), None);
    desk.system.door.signal(foreign, Ok(()));
    desk.finish();
    assert_eq!(desk.system.door.signalled(first.fence.unwrap()), Some(Ok(())));
    assert_eq!(desk.system.door.signalled(second), Some(Ok(())));
    desk.end(&[file]);
}

#[test]
fn a_submit_of_another_file_waits_and_one_of_the_same_need_not() {
    let mut desk = Desk::new();
    let (file, other) = (desk.open(), desk.open());
    let fence = desk.fenced(file);
    desk.submit(file, &gated(Attached::Fence(fence)));
    desk.submit(other, &gated(Attached::Fence(fence)));
    desk.go();
    // Two contexts are made, and two submits: the third is held here.
    assert_eq!(desk.system.device.take(usize::MAX), 4);
    desk.finish();
    desk.end(&[file, other]);
}

/// As on Linux, where each ring has a fence context of its own.
#[test]
fn a_submit_on_another_ring_of_the_same_file_waits() {
    for (first, second, waits) in
        [(Some(0), Some(0), false), (Some(0), Some(1), true), (Some(1), None, true), (None, None, false)]
    {
        for by_object in [false, true] {
            let mut desk = Desk::with_rings();
            let file = desk.open_with_rings();
            let made = desk.ask(file, &SyncobjCreate::default(), &[]).fixed::<SyncobjCreate>().unwrap();
            let object = [ExecbufferSyncobj { handle: made.handle, flags: 0, point: 0 }];
            let signals = Submission { ring: first, fence: true, signals: &object, ..Submission::default() };
            let fence = desk.submit(file, &signals).fence.unwrap();
            desk.go();
            let before = desk.system.device.take(usize::MAX);
            let wait = Some(Attached::Fence(fence)).filter(|_| !by_object);
            let objects: &[ExecbufferSyncobj] = if by_object { &object } else { &[] };
            desk.submit(file, &Submission { ring: second, wait, waits: objects, ..Submission::default() });
            desk.go();
            let taken = desk.system.device.take(usize::MAX);
            assert_eq!((before, taken), (2, usize::from(!waits)), "{first:?} then {second:?}");
            desk.finish();
            desk.end(&[file]);
        }
    }
}

/// As on Linux, what waited for a fence goes on when that fails.
#[test]
fn a_fence_that_failed_lets_go() {
    let mut desk = Desk::new();
    let file = desk.open();
    let foreign = desk.system.door.foreign_fence();
    let held = desk.submit(file, &gated(Attached::ForeignFence(foreign)));
    desk.system.door.signal(foreign, Err(Errno::EIO));
    desk.finish();
    assert_eq!(desk.system.door.signalled(held.fence.unwrap()), Some(Ok(())));
    desk.end(&[file]);
}

#[test]
fn a_fence_that_never_signals_fails_what_waits_and_nothing_else() {
    let mut desk = Desk::new();
    let file = desk.open();
    let foreign = desk.system.door.foreign_fence();
    let held = desk.submit(file, &gated(Attached::ForeignFence(foreign)));
    let behind = desk.fenced(file);
    desk.finish();
    desk.system.advance(Duration::from_secs(10));
    desk.finish();
    assert_eq!(desk.system.door.signalled(held.fence.unwrap()), Some(Err(Errno::ETIMEDOUT)));
    assert_eq!(desk.system.door.signalled(behind), Some(Ok(())));
    desk.system.door.signal(foreign, Ok(()));
    desk.end(&[file]);
}

#[test]
fn a_merged_fence_signals_when_both_have_and_with_the_error_of_either() {
    for error in [None, Some(Errno::EIO)] {
        let mut desk = Desk::new();
        let file = desk.open();
        let own = desk.fenced(file);
        let foreign = desk.system.door.foreign_fence();
        let token = desk.system.door.merge(file, [Attached::Fence(own), Attached::ForeignFence(foreign)]);
        let Some(Attach::Fence { fence, result: None }) = desk.answer(token).unwrap().attach else {
            panic!("both are under way")
        };
        desk.system.door.signal(foreign, error.map_or(Ok(()), Err));
        desk.go();
        assert_eq!(desk.system.door.signalled(fence), None);
        desk.finish();
        assert_eq!(desk.system.door.signalled(fence), Some(error.map_or(Ok(()), Err)));
        let token = desk.system.door.merge(file, [Attached::Fence(own), Attached::Fence(own)]);
        assert!(matches!(
            desk.answer(token).unwrap().attach,
            Some(Attach::Fence { result: Some(Ok(())), .. })
        ));
        // One that the door has not yet heard of is named as one of ours.
        let token = desk.system.door.merge(file, [Attached::Fence(own), Attached::Fence(foreign)]);
        let Some(Attach::Fence { result: Some(result), .. }) = desk.answer(token).unwrap().attach else {
            panic!("both have signalled")
        };
        assert_eq!(result, error.map_or(Ok(()), Err));
        let token = desk.system.door.merge(file, [Attached::Fence(own), Attached::Unknown]);
        assert_eq!(desk.errno(token), Some(Errno::ENOENT));
        desk.end(&[file]);
    }
}
