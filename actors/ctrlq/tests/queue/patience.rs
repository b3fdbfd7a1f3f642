//! Deadlines: nothing waits for ever, and nothing that the device may still write is reused.

use std::time::Duration;

use virgld_protocol::device::Code;
use virgld_runtime::Time;

use crate::setup::{Desk, PATIENCE};

/// What is said once of a device that gives nothing back.
const STALLED: &str = "the device has answered nothing for 5s: it is stalled";

#[test]
fn a_device_that_forgets_a_command_and_answers_others_is_not_stalled() {
    let mut desk = Desk::new(2);
    desk.submit(7, 1);
    let _forgotten = desk.published();
    for second in 0..20 {
        desk.unreference(second + 1);
        let publish = desk.published().remove(0);
        desk.wait(Duration::from_secs(1));
        desk.answer(publish, Code::OK_NO_DATA);
    }
    let told = desk.told();
    assert!(!told.contains(&STALLED.to_owned()));
    assert!(told.contains(&"context 7: 1 ended ETIMEDOUT(110)".to_owned()), "it is bounded: {told:?}");
    // It has nothing to answer now.
    desk.wait(PATIENCE * 2);
    assert!(desk.told().is_empty());
}

#[test]
fn what_a_slow_device_has_not_come_to_yet_is_not_given_up() {
    let mut desk = Desk::new(4);
    (1..=4).for_each(|serial| desk.submit(7, serial));
    for publish in desk.published() {
        desk.wait(PATIENCE - Duration::from_secs(1));
        assert!(desk.told().iter().all(|it| !it.contains("ETIMEDOUT") && *it != STALLED));
        desk.answer(publish, Code::OK_NO_DATA);
    }
    assert_eq!(desk.state.report().lost, 0);
}

#[test]
fn a_slow_device_that_then_stops_is_stalled_when_it_has_been_silent_for_long_enough() {
    let mut desk = Desk::new(2);
    (1..=2).for_each(|serial| desk.submit(7, serial));
    let publish = desk.published().remove(0);
    desk.wait(Duration::from_secs(4));
    desk.answer(publish, Code::OK_NO_DATA);
    desk.told();
    desk.wait(PATIENCE - Duration::from_nanos(1));
    assert!(desk.told().is_empty());
    desk.wait(Duration::from_nanos(1));
    assert_eq!(desk.told(), ["context 7: 2 ended ETIMEDOUT(110)", STALLED]);
}

#[test]
fn a_command_that_is_not_answered_fails_once_and_its_memory_stays_with_the_device() {
    let mut desk = Desk::new(1);
    desk.submit(7, 1);
    let publish = desk.published().remove(0);
    assert_eq!(desk.state.deadline(), Some(Time(0).after(PATIENCE)));
    desk.wait(PATIENCE - Duration::from_nanos(1));
    assert!(desk.told().is_empty());
    desk.wait(Duration::from_nanos(1));
    assert_eq!(desk.told(), ["context 7: 1 ended ETIMEDOUT(110)", STALLED]);
    assert_eq!(desk.state.deadline(), None);
    assert_eq!((desk.state.report().in_flight, desk.state.report().lost), (1, 1));

    desk.unreference(9);
    assert!(desk.published().is_empty(), "the only memory is the device's still");
    desk.answer(publish, Code::OK_NO_DATA);
    assert_eq!(desk.published().len(), 1);
    assert!(desk.told().is_empty(), "a late answer is nobody's");
}

#[test]
fn the_place_of_an_answered_command_does_not_inherit_its_deadline() {
    let mut desk = Desk::new(2);
    desk.submit(7, 1);
    let publish = desk.published().remove(0);
    desk.wait(Duration::from_secs(4));
    desk.answer(publish, Code::OK_NO_DATA);
    desk.submit(7, 2);
    desk.told();
    desk.wait(Duration::from_secs(4));
    assert!(desk.told().is_empty());
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.told(), ["context 7: 2 ended ETIMEDOUT(110)", STALLED]);
}

#[test]
fn a_resource_is_not_given_up_before_the_device_says_so() {
    let mut desk = Desk::new(2);
    desk.unreference(9);
    let publish = desk.published().remove(0);
    desk.wait(PATIENCE * 3);
    assert_eq!(desk.told(), [STALLED]);
    desk.answer(publish, Code::OK_NO_DATA);
    assert_eq!(desk.told(), ["resource 9: unreferenced"]);
}

#[test]
fn work_that_waits_for_memory_has_a_deadline_too() {
    let mut desk = Desk::new(1);
    desk.submit(7, 1);
    desk.wait(Duration::from_secs(1));
    desk.submit(7, 2);
    desk.unreference(9);
    desk.published();
    desk.wait(PATIENCE - Duration::from_secs(1));
    assert_eq!(desk.told(), ["context 7: 1 ended ETIMEDOUT(110)", STALLED]);
    assert_eq!(desk.state.deadline(), Some(Time(0).after(PATIENCE + Duration::from_secs(1))));
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.told(), ["context 7: 2 ended ETIMEDOUT(110)"]);
    assert_eq!(desk.state.deadline(), None, "the rest is not work, and cannot be given up");
}
