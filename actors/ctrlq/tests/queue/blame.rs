//! Whose command a device died of.

use std::time::Duration;

use virgld_protocol::device::Code;
use virgld_protocol::ids::Serial;
use virgld_protocol::message::ctrlq::{ContextCommand, DebugName};
use virgld_protocol::message::transport::{Event, Publish};

use crate::setup::{Desk, PATIENCE};

fn desk() -> Desk {
    Desk::new(16).made(7).made(8).made(9)
}

fn unfenced(desk: &mut Desk, context: u32, serial: u64) {
    let serial = Serial(serial);
    let stream = ContextCommand::Submit { stream: None, length: 0, ring: None, fenced: false, serial };
    desk.context(context, stream);
}

/// The device is gone: how far each context is to blame.
fn blame(desk: &mut Desk) -> [String; 3] {
    desk.told();
    desk.tell(Event::Down { reason: String::new() });
    let told = desk.told();
    [7, 8, 9].map(|context| {
        let prefix = format!("context {context}: Lost {{ blame: ");
        let blame = told.iter().find_map(|it| it.strip_prefix(&prefix)?.strip_suffix(" }"));
        blame.unwrap_or_else(|| panic!("{told:?}")).to_owned()
    })
}

#[test]
fn nobody_is_to_blame_for_a_device_that_had_nothing() {
    assert_eq!(blame(&mut desk()), ["None", "None", "None"]);
}

#[test]
fn the_first_that_was_not_answered_is_to_blame_and_not_those_behind_it() {
    let mut desk = desk();
    unfenced(&mut desk, 7, 1);
    unfenced(&mut desk, 8, 1);
    desk.submit(9, 1);
    assert_eq!(blame(&mut desk), ["Sole", "None", "None"]);
}

#[test]
fn a_fence_that_the_device_had_come_past_is_nobodys_death() {
    let mut desk = desk();
    desk.submit(7, 1);
    unfenced(&mut desk, 8, 1);
    unfenced(&mut desk, 9, 1);
    let mut published = desk.published();
    desk.answer(published.remove(1), Code::OK_NO_DATA);
    assert_eq!(blame(&mut desk), ["None", "None", "Sole"]);
}

#[test]
fn of_fences_on_the_way_nobody_knows_which_it_was() {
    let mut desk = desk();
    desk.submit(7, 1);
    desk.submit(8, 1);
    assert_eq!(blame(&mut desk), ["Shared", "Shared", "None"]);
    let mut desk = self::desk();
    desk.submit(7, 1);
    unfenced(&mut desk, 8, 1);
    unfenced(&mut desk, 9, 1);
    assert_eq!(blame(&mut desk), ["Shared", "Shared", "None"]);
}

#[test]
fn a_command_of_no_context_may_be_to_blame() {
    let mut desk = desk();
    desk.unreference(5);
    unfenced(&mut desk, 7, 1);
    assert_eq!(blame(&mut desk), ["None", "None", "None"]);
    let mut desk = self::desk();
    desk.submit(7, 1);
    desk.unreference(5);
    assert_eq!(blame(&mut desk), ["Shared", "None", "None"]);
}

#[test]
fn a_stall_is_of_whose_effects_never_came() {
    let mut desk = desk();
    desk.submit(7, 1);
    desk.submit(8, 1);
    unfenced(&mut desk, 9, 1);
    let mut published = desk.published();
    desk.answer(published.remove(2), Code::OK_NO_DATA);
    desk.wait(PATIENCE + Duration::from_secs(1));
    assert_eq!(blame(&mut desk), ["Sole", "None", "None"]);
}

#[test]
fn what_begins_on_a_device_that_stalls_begins_on_the_next() {
    let mut desk = desk();
    desk.context(5, ContextCommand::Create { name: DebugName::new("new"), capset: 0 });
    desk.context(9, ContextCommand::Replay { stream: vec![1] });
    desk.wait(PATIENCE + Duration::from_secs(1));
    let told = desk.told();
    assert!(matches!(&told[..], [complaint] if complaint.contains("stalled")), "{told:?}");
    desk.tell(Event::Down { reason: String::new() });
    let told = desk.told();
    assert!(told.contains(&"context 5: Lost { blame: Sole }".to_owned()), "{told:?}");
}

#[test]
fn a_replay_is_answered_by_the_device_that_has_it_or_not_at_all() {
    let replay = |desk: &mut Desk| -> Publish {
        desk.context(7, ContextCommand::Replay { stream: vec![1, 2] });
        desk.published().pop().unwrap()
    };
    let mut desk = desk();
    let publish = replay(&mut desk);
    desk.answer(publish, Code::OK_NO_DATA);
    assert_eq!(desk.told(), ["context 7: Replayed { result: Ok(()) }"]);
    let publish = replay(&mut desk);
    desk.answer(publish, Code::ERR_OUT_OF_MEMORY);
    assert_eq!(desk.told(), ["context 7: Replayed { result: Err(ENOMEM(12)) }"]);
    // On its way, and on the way to it, when the device goes: the context begins anew by then.
    let publish = replay(&mut desk);
    desk.tell(Event::Down { reason: String::new() });
    desk.context(7, ContextCommand::Replay { stream: vec![3] });
    desk.context(7, ContextCommand::Create { name: DebugName::new("anew"), capset: 0 });
    desk.tell(Event::Lost { cookie: publish.cookie });
    let replays = |it: &String| it.contains("Replayed") || it.contains("Refused");
    assert!(!desk.told().iter().any(replays));
}
