//! WAIT.

use std::time::Duration;

use virgld_protocol::client::{GemClose, Wait};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, Token};
use virgld_testkit::door::Submission;
use virgld_testkit::system::{System, SystemConfig};

use crate::setup::{Desk, SHARED};

fn wait(desk: &mut Desk, file: FileId, handle: u32, flags: u32) -> Token {
    desk.system.door.call(file, &Wait { handle, flags }, &[])
}

/// A file with a buffer that its work uses.
fn busy() -> (Desk, FileId, u32) {
    busy_with(&SystemConfig::default(), SHARED)
}

fn busy_with(config: &SystemConfig, bind: u32) -> (Desk, FileId, u32) {
    let mut desk = Desk { system: System::new(config, 0) };
    let file = desk.open();
    let (handle, resource) = desk.create(file, bind);
    let stream = resource.to_le_bytes();
    desk.submit(file, &Submission { stream: &stream, handles: &[handle], ..Submission::default() });
    (desk, file, handle)
}

#[test]
fn asking_says_busy_until_the_work_is_done() {
    let (mut desk, file, handle) = busy();
    let token = wait(&mut desk, file, handle, 1);
    assert_eq!(desk.errno(token), Some(Errno::EBUSY));
    desk.finish();
    let token = wait(&mut desk, file, handle, 1);
    assert!(desk.answer(token).unwrap().result.is_ok());
    desk.end(&[file]);
}

#[test]
fn waiting_ends_with_the_work() {
    let (mut desk, file, handle) = busy();
    let token = wait(&mut desk, file, handle, 0);
    assert!(desk.answer(token).is_none());
    // At once: the wait itself asked for a fence.
    desk.system.settle();
    assert!(desk.answer(token).unwrap().result.is_ok());
    desk.end(&[file]);
}

/// The device has written such a buffer when it has been through the stream, whatever its GPU still does.
#[test]
fn waiting_for_a_staging_buffer_needs_no_fence() {
    const STAGING: u32 = 1 << 19;
    for (bind, fenced) in [(STAGING, 0), (SHARED, 1), (STAGING | SHARED, 1)] {
        let (mut desk, file, handle) = busy_with(&SystemConfig::default(), bind);
        let token = wait(&mut desk, file, handle, 0);
        assert!(desk.answer(token).is_none());
        assert_eq!(desk.system.report().unwrap().control.fences, fenced, "bind {bind:#x}");
        desk.system.settle();
        assert!(desk.answer(token).unwrap().result.is_ok());
        desk.end(&[file]);
    }
}

/// As on Linux. Work ends earlier, by deadlines of its own, unless the daemon is more patient with the device.
#[test]
fn waiting_ends_after_fifteen_seconds() {
    let patience = Duration::from_secs(60);
    let (mut desk, file, handle) = busy_with(&SystemConfig { patience, ..SystemConfig::default() }, SHARED);
    let token = wait(&mut desk, file, handle, 0);
    desk.go();
    desk.system.advance(Duration::from_millis(14_999));
    assert!(desk.answer(token).is_none());
    desk.system.advance(Duration::from_millis(1));
    assert_eq!(desk.errno(token), Some(Errno::EBUSY));
    desk.end(&[file]);
}

#[test]
fn waiting_ends_when_the_work_is_given_up() {
    let (mut desk, file, handle) = busy();
    let token = wait(&mut desk, file, handle, 0);
    desk.go();
    desk.system.advance(Duration::from_secs(5));
    assert!(desk.answer(token).unwrap().result.is_ok());
    desk.end(&[file]);
}

#[test]
fn a_wait_sees_the_work_of_every_file_that_names_the_buffer() {
    let (mut desk, file, handle) = busy();
    let other = desk.open();
    let export = desk.export(file, handle).unwrap();
    let theirs = desk.import(other, export).unwrap();
    let token = wait(&mut desk, other, theirs, 0);
    assert!(desk.answer(token).is_none());
    desk.finish();
    assert!(desk.answer(token).unwrap().result.is_ok());
    desk.system.door.close(file);
    desk.system.door.close(other);
    desk.go();
    desk.system.door.drop_export(export);
    desk.end(&[]);
}

/// Nobody hears of the work of a closed file any more: who waited for it must not wait for nothing.
#[test]
fn a_wait_for_the_work_of_another_file_ends_with_that_file() {
    let (mut desk, file, handle) = busy();
    let other = desk.open();
    let export = desk.export(file, handle).unwrap();
    let theirs = desk.import(other, export).unwrap();
    let token = wait(&mut desk, other, theirs, 0);
    assert!(desk.answer(token).is_none());
    desk.system.door.close(file);
    desk.finish();
    assert!(desk.answer(token).unwrap().result.is_ok());
    desk.system.door.close(other);
    desk.go();
    desk.system.door.drop_export(export);
    desk.end(&[]);
}

#[test]
fn a_wait_outlives_its_handle() {
    let (mut desk, file, handle) = busy();
    let token = wait(&mut desk, file, handle, 0);
    assert!(desk.ask(file, &GemClose { handle, pad: 0 }, &[]).result.is_ok());
    assert!(desk.answer(token).is_none());
    desk.finish();
    assert!(desk.answer(token).unwrap().result.is_ok());
    desk.end(&[file]);
}
