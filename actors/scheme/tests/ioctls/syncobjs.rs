//! Synchronisation objects, as Linux has them (`drm_syncobj.c`).

use std::time::Duration;

use virgld_protocol::client::{
    ExecbufferSyncobj, SyncobjCreate, SyncobjDestroy, SyncobjFdToHandle, SyncobjFlags, SyncobjHandleToFd,
    SyncobjQuery, SyncobjReset, SyncobjSignal, SyncobjTimelineSignal, SyncobjTimelineWait, SyncobjTransfer,
    SyncobjWait,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, Token};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::Attached;
use virgld_testkit::device::Temper;
use virgld_testkit::door::Submission;
use zerocopy::IntoBytes;

use crate::setup::Desk;

const NOTHING: SyncobjFlags = SyncobjFlags::empty();
const ALL: SyncobjFlags = SyncobjFlags::WAIT_ALL;
const SUBMIT: SyncobjFlags = SyncobjFlags::WAIT_FOR_SUBMIT;
const SYNC_FILE: u32 = 1;
const TIMELINE: u32 = 2;

fn create(desk: &mut Desk, file: FileId, flags: u32) -> u32 {
    desk.ask(file, &SyncobjCreate { handle: 0, flags }, &[]).fixed::<SyncobjCreate>().unwrap().handle
}

fn wait(desk: &mut Desk, file: FileId, handles: &[u32], flags: SyncobjFlags, timeout_nsec: i64) -> Token {
    let count_handles = u32::try_from(handles.len()).unwrap();
    let fixed = SyncobjWait { timeout_nsec, count_handles, flags: flags.bits(), ..SyncobjWait::default() };
    desk.system.door.call(file, &fixed, &[handles.as_bytes()])
}

/// The outcome of a poll: which was first, or the error.
fn poll(desk: &mut Desk, file: FileId, handles: &[u32], flags: SyncobjFlags) -> Result<u32, Errno> {
    let token = wait(desk, file, handles, flags, 0);
    first(desk, token).expect("a poll is answered at once")
}

fn first(desk: &mut Desk, token: Token) -> Option<Result<u32, Errno>> {
    let answer = desk.answer(token)?;
    Some(answer.fixed::<SyncobjWait>().map(|it| it.first_signaled).ok_or_else(|| answer.errno().unwrap()))
}

fn timeline_wait(
    desk: &mut Desk,
    file: FileId,
    (handle, point): (u32, u64),
    flags: SyncobjFlags,
    timeout_nsec: i64,
) -> Token {
    let fixed =
        SyncobjTimelineWait { timeout_nsec, count_handles: 1, flags: flags.bits(), ..Default::default() };
    desk.system.door.call(file, &fixed, &[handle.as_bytes(), point.as_bytes()])
}

fn timeline_poll(desk: &mut Desk, file: FileId, at: (u32, u64), flags: SyncobjFlags) -> Option<Errno> {
    let token = timeline_wait(desk, file, at, flags, 0);
    desk.answer(token).expect("a poll is answered at once").errno()
}

fn signal(desk: &mut Desk, file: FileId, handle: u32) {
    let fixed = SyncobjSignal { count_handles: 1, pad: 0 };
    assert_eq!(desk.ask(file, &fixed, &[handle.as_bytes()]).errno(), None);
}

fn signal_at(desk: &mut Desk, file: FileId, handle: u32, point: u64) {
    let fixed = SyncobjTimelineSignal { count_handles: 1, flags: 0 };
    assert_eq!(desk.ask(file, &fixed, &[handle.as_bytes(), point.as_bytes()]).errno(), None);
}

fn reset(desk: &mut Desk, file: FileId, handle: u32) {
    let fixed = SyncobjReset { count_handles: 1, pad: 0 };
    assert_eq!(desk.ask(file, &fixed, &[handle.as_bytes()]).errno(), None);
}

fn query(desk: &mut Desk, file: FileId, handle: u32, flags: u32) -> u64 {
    let fixed = SyncobjQuery { count_handles: 1, flags };
    let answer = desk.ask(file, &fixed, &[handle.as_bytes(), &[0; 8]]);
    u64::from_le_bytes(answer.result.unwrap().arrays[0][..].try_into().unwrap())
}

/// Submits work that signals a point of an object when it is done.
fn work(desk: &mut Desk, file: FileId, handle: u32, point: u64) {
    let signals = [ExecbufferSyncobj { handle, flags: 0, point }];
    desk.submit(file, &Submission { signals: &signals, ..Submission::default() });
}

/// The same, but the device fails.
fn failing_work(desk: &mut Desk, file: FileId, handle: u32, point: u64) {
    desk.system.device.set_temper(Temper { error: 1000, ..Temper::default() });
    work(desk, file, handle, point);
    desk.finish();
    desk.system.device.set_temper(Temper::default());
}

/// How the sync file of a point has signalled, if it has.
fn exported_result(desk: &mut Desk, file: FileId, handle: u32, point: u64) -> Option<Result<(), Errno>> {
    let fixed = SyncobjHandleToFd { handle, flags: SYNC_FILE | TIMELINE, point, ..Default::default() };
    match desk.ask(file, &fixed, &[]).attach {
        Some(Attach::Fence { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

fn export_fence(desk: &mut Desk, file: FileId, handle: u32) -> Result<FenceKey, Errno> {
    let answer = desk.ask(file, &SyncobjHandleToFd { handle, flags: SYNC_FILE, ..Default::default() }, &[]);
    match (answer.errno(), answer.attach) {
        (None, Some(Attach::Fence { fence, .. })) => Ok(fence),
        (errno, _) => Err(errno.unwrap()),
    }
}

fn import_fence(desk: &mut Desk, file: FileId, handle: u32, fence: Attached) {
    let fixed = SyncobjFdToHandle { handle, flags: SYNC_FILE, ..SyncobjFdToHandle::default() };
    assert_eq!(desk.ask_with(file, &fixed, fence).errno(), None);
}

#[test]
fn a_binary_object_is_signalled_reset_and_signalled_again() {
    let mut desk = Desk::new();
    let file = desk.open();
    let object = create(&mut desk, file, 0);
    assert_eq!(poll(&mut desk, file, &[object], NOTHING), Err(Errno::EINVAL), "it has no fence");
    assert_eq!(poll(&mut desk, file, &[object], SUBMIT), Err(Errno::ETIME));
    signal(&mut desk, file, object);
    assert_eq!(poll(&mut desk, file, &[object], NOTHING), Ok(0));
    reset(&mut desk, file, object);
    assert_eq!(poll(&mut desk, file, &[object], NOTHING), Err(Errno::EINVAL));
    let born = create(&mut desk, file, 1);
    assert_eq!(poll(&mut desk, file, &[born], NOTHING), Ok(0));
    desk.end(&[file]);
}

#[test]
fn a_wait_for_any_says_which_and_one_for_all_waits_for_all() {
    let mut desk = Desk::new();
    let file = desk.open();
    let objects = [create(&mut desk, file, 0), create(&mut desk, file, 0)];
    objects.iter().for_each(|object| work(&mut desk, file, *object, 0));
    assert_eq!(poll(&mut desk, file, &objects, NOTHING), Err(Errno::ETIME));
    let any = wait(&mut desk, file, &objects, NOTHING, i64::MAX);
    let all = wait(&mut desk, file, &objects, ALL, i64::MAX);
    signal(&mut desk, file, objects[1]);
    // Who waits has the fences of the moment when the wait began, whatever the objects hold since.
    assert!(first(&mut desk, any).is_none());
    assert_eq!(poll(&mut desk, file, &objects, NOTHING), Ok(1));
    desk.finish();
    assert_eq!(first(&mut desk, any), Some(Ok(0)));
    assert!(first(&mut desk, all).unwrap().is_ok());
    desk.end(&[file]);
}

#[test]
fn a_wait_keeps_the_fence_that_it_began_with() {
    for what in ["reset", "destroy", "replace"] {
        let mut desk = Desk::new();
        let file = desk.open();
        let object = create(&mut desk, file, 0);
        work(&mut desk, file, object, 0);
        let token = wait(&mut desk, file, &[object], NOTHING, i64::MAX);
        let foreign = desk.system.door.foreign_fence();
        match what {
            "reset" => reset(&mut desk, file, object),
            "destroy" => {
                assert_eq!(desk.ask(file, &SyncobjDestroy { handle: object, pad: 0 }, &[]).errno(), None);
            }
            _ => import_fence(&mut desk, file, object, Attached::ForeignFence(foreign)),
        }
        assert!(first(&mut desk, token).is_none());
        desk.finish();
        assert_eq!(first(&mut desk, token), Some(Ok(0)), "{what}");
        desk.system.door.signal(foreign, Ok(()));
        desk.end(&[file]);
    }
}

#[test]
fn a_patient_wait_takes_the_first_fence_that_comes() {
    let mut desk = Desk::new();
    let file = desk.open();
    let objects: Vec<u32> = (0..4).map(|_| create(&mut desk, file, 0)).collect();
    let tokens: Vec<Token> =
        objects.iter().map(|object| wait(&mut desk, file, &[*object], SUBMIT, i64::MAX)).collect();
    desk.go();
    // By signal, by work, by a sync file that has signalled, by transfer.
    signal(&mut desk, file, objects[0]);
    assert_eq!(first(&mut desk, tokens[0]), Some(Ok(0)));
    work(&mut desk, file, objects[1], 0);
    assert!(first(&mut desk, tokens[1]).is_none());
    desk.finish();
    assert_eq!(first(&mut desk, tokens[1]), Some(Ok(0)));
    let done = export_fence(&mut desk, file, objects[0]).unwrap();
    import_fence(&mut desk, file, objects[2], Attached::Fence(done));
    assert_eq!(first(&mut desk, tokens[2]), Some(Ok(0)));
    let transfer = SyncobjTransfer { src_handle: objects[0], dst_handle: objects[3], ..Default::default() };
    assert_eq!(desk.ask(file, &transfer, &[]).errno(), None);
    assert_eq!(first(&mut desk, tokens[3]), Some(Ok(0)));
    desk.end(&[file]);
}

#[test]
fn waits_end_at_their_absolute_time() {
    let mut desk = Desk::new();
    let file = desk.open();
    let object = create(&mut desk, file, 0);
    let end = desk.system.now().after(Duration::from_millis(30)).0;
    let token = wait(&mut desk, file, &[object], SUBMIT, i64::try_from(end).unwrap());
    desk.go();
    desk.system.advance(Duration::from_millis(29));
    assert!(first(&mut desk, token).is_none());
    desk.system.advance(Duration::from_millis(1));
    assert_eq!(first(&mut desk, token), Some(Err(Errno::ETIME)));
    for past in [i64::MIN, -1, 0, 1] {
        let token = wait(&mut desk, file, &[object], SUBMIT, past);
        assert_eq!(first(&mut desk, token), Some(Err(Errno::ETIME)));
    }
    desk.end(&[file]);
}

#[test]
fn points_of_a_timeline_are_reached_in_order() {
    let mut desk = Desk::new();
    let file = desk.open();
    let object = create(&mut desk, file, 0);
    work(&mut desk, file, object, 5);
    signal_at(&mut desk, file, object, 9);
    let available = SyncobjFlags::WAIT_AVAILABLE;
    // Nine has signalled, but five before it has not.
    assert_eq!(query(&mut desk, file, object, 0), 0);
    assert_eq!(query(&mut desk, file, object, 1), 9);
    assert_eq!(timeline_poll(&mut desk, file, (object, 9), NOTHING), Some(Errno::ETIME));
    assert_eq!(timeline_poll(&mut desk, file, (object, 9), available), None);
    assert_eq!(timeline_poll(&mut desk, file, (object, 10), NOTHING), Some(Errno::EINVAL));
    assert_eq!(timeline_poll(&mut desk, file, (object, 10), SUBMIT), Some(Errno::ETIME));
    let five = timeline_wait(&mut desk, file, (object, 3), NOTHING, i64::MAX);
    let ten = timeline_wait(&mut desk, file, (object, 10), SUBMIT, i64::MAX);
    desk.finish();
    assert!(desk.answer(five).unwrap().result.is_ok(), "a point between is reached with the next");
    assert_eq!(query(&mut desk, file, object, 0), 9);
    signal_at(&mut desk, file, object, 12);
    assert!(desk.answer(ten).unwrap().result.is_ok());
    assert_eq!(query(&mut desk, file, object, 0), 12);
    desk.end(&[file]);
}

#[test]
fn a_binary_object_has_no_points() {
    let mut desk = Desk::new();
    let file = desk.open();
    let object = create(&mut desk, file, 1);
    assert_eq!(query(&mut desk, file, object, 0), 0);
    assert_eq!(timeline_poll(&mut desk, file, (object, 0), NOTHING), None);
    desk.end(&[file]);
}

#[test]
fn fences_move_between_binary_objects_and_points() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (binary, timeline) = (create(&mut desk, file, 0), create(&mut desk, file, 0));
    let into =
        SyncobjTransfer { src_handle: binary, dst_handle: timeline, dst_point: 4, ..Default::default() };
    assert_eq!(desk.ask(file, &into, &[]).errno(), Some(Errno::EINVAL), "there is no fence");
    work(&mut desk, file, binary, 0);
    assert_eq!(desk.ask(file, &into, &[]).errno(), None);
    assert_eq!((query(&mut desk, file, timeline, 0), query(&mut desk, file, timeline, 1)), (0, 4));
    let back =
        SyncobjTransfer { src_handle: timeline, src_point: 4, dst_handle: binary, ..Default::default() };
    assert_eq!(desk.ask(file, &back, &[]).errno(), None);
    assert_eq!(poll(&mut desk, file, &[binary], NOTHING), Err(Errno::ETIME));
    desk.finish();
    assert_eq!(query(&mut desk, file, timeline, 0), 4);
    assert_eq!(poll(&mut desk, file, &[binary], NOTHING), Ok(0));
    desk.end(&[file]);
}

#[test]
fn a_transfer_waits_for_a_fence_if_it_is_told_to_and_not_for_ever() {
    let mut desk = Desk::new();
    let file = desk.open();
    let [one, two, three] = std::array::from_fn(|_| create(&mut desk, file, 0));
    let flags = SUBMIT.bits();
    let transfer = |src_handle, dst_handle, src_point| SyncobjTransfer {
        src_handle,
        dst_handle,
        src_point,
        flags,
        ..SyncobjTransfer::default()
    };
    for flags in [ALL.bits(), SyncobjFlags::WAIT_AVAILABLE.bits(), flags | ALL.bits(), 1 << 31] {
        let unknown = SyncobjTransfer { flags, ..transfer(one, two, 0) };
        assert_eq!(desk.ask(file, &unknown, &[]).errno(), Some(Errno::EINVAL), "{flags:#x}");
    }
    assert_eq!(desk.ask(file, &transfer(99, two, 0), &[]).errno(), Some(Errno::ENOENT));
    // One transfer can be what another waits for, whichever came first.
    let last = desk.system.door.call(file, &transfer(two, three, 0), &[]);
    let before = desk.system.door.call(file, &transfer(one, two, 7), &[]);
    let waiter = wait(&mut desk, file, &[three], SUBMIT, i64::MAX);
    desk.system.advance(Duration::from_secs(4));
    signal_at(&mut desk, file, one, 6);
    assert!(desk.answer(before).is_none(), "not this point");
    work(&mut desk, file, one, 7);
    for token in [before, last] {
        assert_eq!(desk.answer(token).map(|answer| answer.errno()), Some(None));
    }
    assert!(desk.answer(waiter).is_none(), "the fence has not signalled");
    assert_eq!(desk.ask(file, &transfer(one, two, 7), &[]).errno(), None, "nothing to wait for");
    desk.finish();
    assert_eq!(first(&mut desk, waiter), Some(Ok(0)));
    let never = desk.system.door.call(file, &transfer(one, two, 8), &[]);
    desk.go();
    desk.system.advance(Duration::from_millis(4900));
    assert!(desk.answer(never).is_none());
    desk.system.advance(Duration::from_millis(200));
    assert_eq!(desk.errno(never), Some(Errno::ETIME));
    // Nothing is left of one whose file is closed.
    desk.system.door.call(file, &transfer(one, two, 8), &[]);
    desk.go();
    desk.end(&[file]);
}

#[test]
fn a_sync_file_is_the_fence_of_the_moment() {
    let mut desk = Desk::new();
    let file = desk.open();
    let object = create(&mut desk, file, 0);
    assert_eq!(export_fence(&mut desk, file, object), Err(Errno::EINVAL));
    work(&mut desk, file, object, 0);
    let fence = export_fence(&mut desk, file, object).unwrap();
    reset(&mut desk, file, object);
    let other = create(&mut desk, file, 0);
    import_fence(&mut desk, file, other, Attached::Fence(fence));
    assert_eq!(poll(&mut desk, file, &[other], NOTHING), Err(Errno::ETIME));
    assert_eq!(desk.system.door.signalled(fence), None);
    desk.finish();
    assert_eq!(desk.system.door.signalled(fence), Some(Ok(())));
    assert_eq!(poll(&mut desk, file, &[other], NOTHING), Ok(0));
    desk.end(&[file]);
}

#[test]
fn a_point_of_work_that_failed_says_so_wherever_its_fence_goes() {
    let mut desk = Desk::new();
    let file = desk.open();
    desk.fenced(file);
    desk.finish();
    let (object, other) = (create(&mut desk, file, 0), create(&mut desk, file, 0));
    failing_work(&mut desk, file, object, 0);
    let failed = Some(Err(Errno::ENOMEM));
    assert_eq!(poll(&mut desk, file, &[object], NOTHING), Ok(0), "as on Linux, it has signalled");
    assert_eq!(exported_result(&mut desk, file, object, 0), failed);
    let transfer =
        SyncobjTransfer { src_handle: object, dst_handle: other, dst_point: 3, ..Default::default() };
    assert_eq!(desk.ask(file, &transfer, &[]).errno(), None);
    assert_eq!(exported_result(&mut desk, file, other, 3), failed);
    // A point stands for all before it, now and later.
    work(&mut desk, file, other, 5);
    desk.finish();
    signal_at(&mut desk, file, other, 7);
    assert_eq!(exported_result(&mut desk, file, other, 7), failed);
    assert_eq!(query(&mut desk, file, other, 0), 7);
    // Another fence in place of all is another beginning.
    signal(&mut desk, file, object);
    assert_eq!(exported_result(&mut desk, file, object, 0), Some(Ok(())));
    desk.end(&[file]);
}

#[test]
fn an_error_of_an_early_point_is_not_lost_while_a_later_one_is_pending() {
    let mut desk = Desk::new();
    let file = desk.open();
    desk.fenced(file);
    desk.finish();
    let (object, copy) = (create(&mut desk, file, 0), create(&mut desk, file, 0));
    failing_work(&mut desk, file, object, 2);
    let foreign = desk.system.door.foreign_fence();
    let fixed =
        SyncobjFdToHandle { handle: object, flags: SYNC_FILE | TIMELINE, point: 4, ..Default::default() };
    assert_eq!(desk.ask_with(file, &fixed, Attached::ForeignFence(foreign)).errno(), None);
    let fixed =
        SyncobjHandleToFd { handle: object, flags: SYNC_FILE | TIMELINE, point: 4, ..Default::default() };
    let Some(Attach::Fence { fence, result: None }) = desk.ask(file, &fixed, &[]).attach else {
        panic!("it is pending")
    };
    let transfer =
        SyncobjTransfer { src_handle: object, src_point: 4, dst_handle: copy, ..SyncobjTransfer::default() };
    assert_eq!(desk.ask(file, &transfer, &[]).errno(), None);
    desk.system.door.signal(foreign, Ok(()));
    desk.go();
    assert_eq!(desk.system.door.signalled(fence), Some(Err(Errno::ENOMEM)));
    assert_eq!(exported_result(&mut desk, file, copy, 0), Some(Err(Errno::ENOMEM)));
    desk.end(&[file]);
}

#[test]
fn a_sync_file_that_failed_is_imported_with_its_error() {
    let mut desk = Desk::new();
    let file = desk.open();
    let object = create(&mut desk, file, 0);
    let foreign = desk.system.door.foreign_fence();
    import_fence(&mut desk, file, object, Attached::ForeignFence(foreign));
    desk.system.door.signal(foreign, Err(Errno::EIO));
    assert_eq!(exported_result(&mut desk, file, object, 0), Some(Err(Errno::EIO)));
    // The door may name one of ours before it has heard how that signalled.
    let what = Submission { handles: &[5], fence: true, ..Submission::default() };
    let refused = desk.system.door.submit(file, &what).unwrap().fence.unwrap();
    desk.go();
    import_fence(&mut desk, file, object, Attached::Fence(refused));
    assert_eq!(exported_result(&mut desk, file, object, 0), Some(Err(Errno::ENOENT)));
    desk.end(&[file]);
}

#[test]
fn an_object_is_shared_by_descriptor_and_lives_as_long_as_anything_names_it() {
    let mut desk = Desk::new();
    let (file, other) = (desk.open(), desk.open());
    let object = create(&mut desk, file, 0);
    let answer = desk.ask(file, &SyncobjHandleToFd { handle: object, ..Default::default() }, &[]);
    let Some(Attach::Syncobj(key)) = answer.attach else { panic!("{answer:?}") };
    let theirs = desk.ask_with(other, &SyncobjFdToHandle::default(), Attached::Syncobj(key));
    let theirs = theirs.fixed::<SyncobjFdToHandle>().unwrap().handle;
    desk.system.door.close(file);
    signal(&mut desk, other, theirs);
    assert_eq!(poll(&mut desk, other, &[theirs], NOTHING), Ok(0));
    assert_eq!(desk.ask(other, &SyncobjDestroy { handle: theirs, pad: 0 }, &[]).errno(), None);
    assert_eq!(desk.system.report().unwrap().scheme.syncobjs, 1, "the descriptor");
    desk.system.door.drop_syncobj(key);
    desk.go();
    assert_eq!(desk.system.report().unwrap().scheme.syncobjs, 0);
    let answer = desk.ask_with(other, &SyncobjFdToHandle::default(), Attached::Syncobj(key));
    assert_eq!(answer.errno(), Some(Errno::EINVAL));
    desk.end(&[other]);
}

#[test]
fn submits_wait_for_objects_reset_them_and_signal_them() {
    let mut desk = Desk::new();
    let (file, other) = (desk.open(), desk.open());
    let object = create(&mut desk, file, 0);
    let absent = [ExecbufferSyncobj { handle: object, flags: 0, point: 0 }];
    let refused =
        desk.system.door.submit(file, &Submission { waits: &absent, ..Submission::default() }).unwrap();
    assert_eq!(desk.errno(refused.token), Some(Errno::EINVAL), "there is no fence to wait for");
    let answer = desk.ask(file, &SyncobjHandleToFd { handle: object, ..Default::default() }, &[]);
    let Some(Attach::Syncobj(key)) = answer.attach else { panic!("{answer:?}") };
    let theirs = desk.ask_with(other, &SyncobjFdToHandle::default(), Attached::Syncobj(key));
    let theirs = theirs.fixed::<SyncobjFdToHandle>().unwrap().handle;
    work(&mut desk, file, object, 0);
    desk.go();
    desk.system.device.take(usize::MAX);
    let waits = [ExecbufferSyncobj { handle: theirs, flags: 1, point: 0 }];
    let held = desk.submit(other, &Submission { waits: &waits, fence: true, ..Submission::default() });
    assert_eq!(poll(&mut desk, file, &[object], NOTHING), Err(Errno::EINVAL), "it was reset");
    desk.finish();
    assert_eq!(desk.system.door.signalled(held.fence.unwrap()), Some(Ok(())));
    let flagged = [ExecbufferSyncobj { handle: object, flags: 1, point: 0 }];
    let bad =
        desk.system.door.submit(file, &Submission { signals: &flagged, ..Submission::default() }).unwrap();
    assert_eq!(desk.errno(bad.token), Some(Errno::EINVAL));
    desk.system.door.drop_syncobj(key);
    desk.end(&[file, other]);
}
