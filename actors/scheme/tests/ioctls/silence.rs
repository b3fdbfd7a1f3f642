//! Actors that do not answer: nobody waits for them for ever.

use std::time::Duration;

use virgld_protocol::client::{ResourceCreate, Wait};
use virgld_protocol::errno::Errno;
use virgld_protocol::message::scheme::Node;
use virgld_testkit::Plan;
use virgld_testkit::door::Submission;

use crate::setup::{Desk, SHARED};

/// Longer than anything may be silent, in seconds.
const LONG: u64 = 30;

fn inject(desk: &mut Desk, actor: &str, message: &str, wrong: &str) {
    let text = format!("[[fault]]\nactor = {actor:?}\nmessage = {message:?}\n{wrong}\n");
    desk.system.inject(&Plan::parse(&text).unwrap());
}

fn silences(desk: &mut Desk) -> u64 {
    desk.system.report().unwrap().scheme.silences
}

/// Lets time pass, with the device at work.
fn outlast(desk: &mut Desk) {
    for _ in 0..LONG {
        desk.system.settle();
        desk.system.advance(Duration::from_secs(1));
    }
    desk.system.settle();
}

#[test]
fn a_call_that_the_resource_actor_never_answers_fails_and_the_next_works() {
    for (message, wrong) in
        [("Scheme.Create", "do = \"drop\""), ("Scheme.Create", "do = \"drop\"\npoint = \"after\"")]
    {
        let mut desk = Desk::new();
        let file = desk.open();
        desk.create(file, SHARED);
        inject(&mut desk, "resource", message, wrong);
        let token = desk.system.door.call(file, &ResourceCreate { size: 1, ..Default::default() }, &[]);
        assert!(desk.answer(token).is_none());
        desk.system.advance(Duration::from_secs(15));
        assert!(desk.answer(token).is_none(), "it may take so long");
        outlast(&mut desk);
        assert_eq!(desk.errno(token), Some(Errno::EIO));
        assert_eq!(silences(&mut desk), 1);
        desk.create(file, 0);
        desk.system.door.close(file);
        outlast(&mut desk);
        let report = desk.system.report().unwrap();
        assert!(report.is_empty(), "{report:#?}");
    }
}

#[test]
fn what_comes_after_it_was_given_up_goes_again() {
    let mut desk = Desk::new();
    let file = desk.open();
    desk.create(file, 0);
    inject(&mut desk, "resource", "Scheme.Create", "do = \"delay\"\ndelay_ms = 40000");
    let token = desk.system.door.call(file, &ResourceCreate { size: 1, ..Default::default() }, &[]);
    outlast(&mut desk);
    assert_eq!(desk.errno(token), Some(Errno::EIO));
    outlast(&mut desk);
    let left = desk.system.report().unwrap().resource.resources;
    assert_eq!(left.len(), 1, "that of before: {left:?}");
    desk.end(&[file]);
}

#[test]
fn a_call_that_the_display_never_answers_fails_and_the_next_works() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    desk.go();
    inject(&mut desk, "scheme", "Display.Answered", "do = \"drop\"");
    let asked = virgld_protocol::client::kms::GetResources::default();
    let token = desk.system.door.call(file, &asked, &[]);
    outlast(&mut desk);
    assert_eq!(desk.errno(token), Some(Errno::EIO));
    assert!(desk.ask(file, &asked, &[]).result.is_ok());
    assert_eq!(silences(&mut desk), 1);
    desk.end(&[file]);
}

#[test]
fn a_context_whose_work_does_not_go_on_is_ended_and_others_notice_nothing() {
    for (actor, message) in [("context", "Scheme.Submit"), ("scheme", "Context.Completed")] {
        let mut desk = Desk::new();
        let (file, other) = (desk.open(), desk.open());
        let (handle, _) = desk.create(file, 0);
        desk.fenced(file);
        desk.fenced(other);
        desk.finish();
        inject(&mut desk, actor, message, "do = \"drop\"");
        let submission = Submission { fence: true, handles: &[handle], ..Submission::default() };
        let fence = desk.submit(file, &submission).fence.unwrap();
        let wait = desk.system.door.call(file, &Wait { handle, flags: 0 }, &[]);
        let beside = desk.fenced(other);
        desk.finish();
        assert_eq!(desk.system.door.signalled(beside), Some(Ok(())));
        assert_eq!(desk.system.door.signalled(fence), None);
        outlast(&mut desk);
        assert_eq!(desk.system.door.signalled(fence), Some(Err(Errno::EIO)));
        assert_eq!(desk.errno(wait), Some(Errno::EBUSY), "a WAIT has a bound of its own");
        let refused = desk.system.door.submit(file, &Submission::default()).unwrap();
        assert_eq!(desk.errno(refused.token), Some(Errno::EIO));
        let beside = desk.fenced(other);
        desk.finish();
        assert_eq!(desk.system.door.signalled(beside), Some(Ok(())));
        assert_eq!(silences(&mut desk), 1);
        desk.end(&[file, other]);
    }
}

#[test]
fn a_file_whose_context_never_says_that_it_has_ended_goes_all_the_same() {
    let mut desk = Desk::new();
    let file = desk.open();
    desk.create(file, 0);
    let fence = desk.fenced(file);
    inject(&mut desk, "scheme", "Context.Ended", "do = \"drop\"");
    desk.system.door.close(file);
    outlast(&mut desk);
    assert!(desk.system.door.signalled(fence).is_some());
    assert_eq!(silences(&mut desk), 1);
    desk.end(&[]);
}

#[test]
fn work_that_waits_behind_that_of_many_others_is_not_given_up() {
    let mut desk = Desk::new();
    let files: Vec<_> = (0..6).map(|_| desk.open()).collect();
    let fences: Vec<_> = files.iter().map(|file| desk.fenced(*file)).collect();
    // The device has come to none of it: the control queue gives each its time.
    for _ in 0..5 {
        desk.system.advance(Duration::from_secs(4));
    }
    assert_eq!(silences(&mut desk), 0);
    desk.finish();
    assert!(fences.iter().all(|fence| desk.system.door.signalled(*fence).is_some()));
    desk.end(&files);
}
