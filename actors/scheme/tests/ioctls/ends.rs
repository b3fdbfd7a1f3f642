//! Ends in the middle of things: of handles, files, contexts.

use virgld_protocol::client::{
    GemClose, ResourceCreate, SyncobjCreate, SyncobjFlags, SyncobjWait, TransferFromHost, Wait,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::message::scheme::Attached;
use virgld_testkit::door::Submission;

use crate::setup::{Desk, SHARED};

#[test]
fn a_handle_closed_with_work_under_way_takes_the_buffer_after_the_work() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, resource) = desk.create(file, 0);
    desk.finish();
    let stream = resource.to_le_bytes();
    desk.submit(file, &Submission { stream: &stream, handles: &[handle], ..Submission::default() });
    assert!(desk.ask(file, &GemClose { handle, pad: 0 }, &[]).result.is_ok());
    assert_eq!(desk.ask(file, &Wait { handle, flags: 0 }, &[]).errno(), Some(Errno::ENOENT));
    // The device would have accused the driver had the stream named what was gone.
    desk.finish();
    assert_eq!(desk.system.device.host().resources(), 0);
    desk.end(&[file]);
}

#[test]
fn a_handle_closed_behind_a_held_submit_keeps_the_buffer_for_it() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, resource) = desk.create(file, 0);
    let foreign = desk.system.door.foreign_fence();
    let stream = resource.to_le_bytes();
    let wait = Some(Attached::ForeignFence(foreign));
    desk.submit(file, &Submission { stream: &stream, handles: &[handle], wait, ..Submission::default() });
    assert!(desk.ask(file, &GemClose { handle, pad: 0 }, &[]).result.is_ok());
    desk.finish();
    assert_eq!(desk.system.device.host().resources(), 1);
    desk.system.door.signal(foreign, Ok(()));
    desk.finish();
    assert_eq!(desk.system.device.host().resources(), 0);
    desk.end(&[file]);
}

#[test]
fn a_file_closed_with_everything_under_way_leaves_nothing() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, resource) = desk.create(file, SHARED);
    let (second, _) = desk.create(file, 0);
    let stream = resource.to_le_bytes();
    let plain = Submission { stream: &stream, handles: &[handle], fence: true, ..Submission::default() };
    let done = desk.submit(file, &plain).fence.unwrap();
    desk.finish();
    let under_way = desk.submit(file, &plain).fence.unwrap();
    desk.ask(file, &TransferFromHost { bo_handle: second, ..Default::default() }, &[]);
    let foreign = desk.system.door.foreign_fence();
    let held = desk
        .submit(file, &Submission { wait: Some(Attached::ForeignFence(foreign)), ..plain.clone() })
        .fence
        .unwrap();
    desk.system.door.call(file, &Wait { handle, flags: 0 }, &[]);
    let object: SyncobjCreate = desk.ask(file, &SyncobjCreate::default(), &[]).fixed().unwrap();
    let patient = SyncobjWait {
        timeout_nsec: i64::MAX,
        count_handles: 1,
        flags: SyncobjFlags::WAIT_FOR_SUBMIT.bits(),
        ..SyncobjWait::default()
    };
    desk.system.door.call(file, &patient, &[&object.handle.to_le_bytes()]);
    desk.export(file, second).unwrap();
    // This one's answer finds nobody.
    desk.system.door.call(file, &ResourceCreate::default(), &[]);
    desk.system.door.close(file);
    desk.finish();
    assert_eq!(desk.system.door.signalled(done), Some(Ok(())));
    // The device executed what it had; somebody else may have been waiting for it.
    assert_eq!(desk.system.door.signalled(under_way), Some(Ok(())));
    assert_eq!(desk.system.door.signalled(held), Some(Err(Errno::ECANCELED)));
    desk.system.door.signal(foreign, Ok(()));
    desk.go();
    for export in desk.system.door.watched() {
        desk.system.door.drop_export(export);
    }
    desk.end(&[]);
}

#[test]
fn a_context_that_dies_costs_its_own_file_its_work() {
    let mut desk = Desk::new();
    let (file, other) = (desk.open(), desk.open());
    let (handle, _) = desk.create(file, 0);
    let work = Submission { handles: &[handle], fence: true, ..Submission::default() };
    let lost = desk.submit(file, &work).fence.unwrap();
    let wait = desk.system.door.call(file, &Wait { handle, flags: 0 }, &[]);
    let kept = desk.fenced(other);
    desk.go();
    desk.system.kill_context(file);
    desk.go();
    assert_eq!(desk.system.door.signalled(lost), Some(Err(Errno::EIO)));
    assert!(desk.answer(wait).unwrap().result.is_ok());
    let after = desk.system.door.submit(file, &work).unwrap();
    assert_eq!(desk.errno(after.token), Some(Errno::EIO));
    desk.finish();
    assert_eq!(desk.system.door.signalled(kept), Some(Ok(())));
    assert!(desk.ask(file, &GemClose { handle, pad: 0 }, &[]).result.is_ok());
    desk.end(&[file, other]);
}

#[test]
fn when_the_device_is_lost_what_was_begun_fails_and_what_begins_waits_for_the_next() {
    let mut desk = Desk::new();
    let (file, late) = (desk.open(), desk.open());
    let fence = desk.fenced(file);
    desk.system.device.die();
    desk.go();
    assert_eq!(desk.system.door.signalled(fence), Some(Err(Errno::EIO)));
    let begun = desk.fenced(late);
    desk.go();
    assert_eq!(desk.system.door.signalled(begun), None);
    desk.system.outlast();
    assert_eq!(desk.system.door.signalled(begun), Some(Ok(())));
    // The context of the first is lost for good, its handles are not.
    assert!(desk.ask(file, &ResourceCreate::default(), &[]).result.is_ok());
    let fence = desk.fenced(file);
    desk.finish();
    assert_eq!(desk.system.door.signalled(fence), Some(Err(Errno::EIO)));
    let report = desk.system.report().unwrap();
    let lost = |id| report.scheme.files.iter().any(|it| it.file == id && it.lost);
    assert_eq!((lost(file), lost(late)), (true, false));
    desk.end(&[file, late]);
}
