//! What the keeper promises: one device at a time, so many in a time, and an end to it.

use std::time::Duration;

use virgld_keeper::{Effect, State};
use virgld_protocol::message::transport::DeviceEvent;
use virgld_runtime::{Intensity, Time};

const INTENSITY: Intensity = Intensity { restarts: 2, period: Duration::from_secs(10) };

fn lost() -> DeviceEvent {
    DeviceEvent::Lost { reason: "it died".into() }
}

fn away() -> DeviceEvent {
    DeviceEvent::Away { reason: "it died".into() }
}

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

#[test]
fn a_lost_device_is_replaced_and_the_outage_measured() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), DeviceEvent::Up, &mut effects);
    assert_eq!((effects.len(), state.report().last_outage), (0, None));
    state.transport(at(5), lost(), &mut effects);
    assert_eq!(effects, [Effect::Start]);
    state.transport(at(6), DeviceEvent::Up, &mut effects);
    let report = state.report();
    assert_eq!((report.losses, report.last_outage), (1, Some(Duration::from_secs(1))));
    assert_eq!(report.last_reason.as_deref(), Some("it died"));
}

#[test]
fn an_outage_lasts_until_a_device_is_ready_however_many_it_takes() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(5), lost(), &mut effects);
    state.transport(at(7), lost(), &mut effects);
    state.transport(at(9), DeviceEvent::Up, &mut effects);
    assert_eq!(state.report().last_outage, Some(Duration::from_secs(4)));
    assert_eq!(effects, [Effect::Start, Effect::Start]);
}

#[test]
fn too_many_losses_in_a_time_are_the_end_and_as_many_in_a_longer_time_are_not() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    for second in [0, 6, 12, 18] {
        state.transport(at(second), lost(), &mut effects);
    }
    assert_eq!(effects, [Effect::Start, Effect::Start, Effect::Start, Effect::Start]);
    state.transport(at(19), lost(), &mut effects);
    let Some(Effect::GiveUp { reason }) = effects.pop() else { panic!("{effects:?}") };
    assert!(reason.contains("more than 2") && reason.ends_with("it died"), "{reason}");
}

#[test]
fn a_device_that_cannot_be_started_is_tried_again_after_a_pause_and_counts() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(), &mut effects);
    effects.clear();
    state.failed(at(2), "no such program".into(), &mut effects);
    assert!(effects.is_empty());
    let retry = state.deadline().unwrap();
    assert!(retry > at(2));
    state.wake(at(2), &mut effects);
    assert!(effects.is_empty());
    state.wake(retry, &mut effects);
    assert_eq!((std::mem::take(&mut effects), state.deadline()), (vec![Effect::Start], None));
    state.failed(at(3), "no such program".into(), &mut effects);
    assert!(matches!(&effects[..], [Effect::GiveUp { reason }] if reason.ends_with("no such program")));
}

#[test]
fn a_device_that_stays_away_is_not_waited_for_for_ever_however_seldom_it_is_tried() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(), &mut effects);
    for second in 2..61 {
        if second % 12 == 0 {
            state.failed(at(second), "pulled out".into(), &mut effects);
        }
        state.wake(at(second), &mut effects);
        state.transport(at(second), away(), &mut effects);
    }
    assert!(effects.iter().all(|effect| *effect == Effect::Start), "{effects:?}");
    state.transport(at(61), away(), &mut effects);
    let Some(Effect::GiveUp { reason }) = effects.pop() else { panic!("{effects:?}") };
    assert!(reason.contains("60 s") && reason.ends_with("pulled out"), "{reason}");
}

#[test]
fn a_start_of_which_nothing_is_heard_is_not_waited_for_for_ever() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(), &mut effects);
    for second in [6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56] {
        state.transport(at(second), away(), &mut effects);
    }
    assert_eq!(std::mem::take(&mut effects), [Effect::Start]);
    state.transport(at(61), away(), &mut effects);
    assert!(
        matches!(&effects[..], [Effect::GiveUp { reason }] if reason.ends_with("it died")),
        "{effects:?}"
    );
}

#[test]
fn a_loss_that_was_not_heard_of_is_known_when_the_device_is_still_away() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(5), away(), &mut effects);
    assert_eq!(std::mem::take(&mut effects), [Effect::Start]);
    state.transport(at(10), away(), &mut effects);
    assert!(effects.is_empty(), "it is being started");
    assert_eq!(state.report().losses, 1);
}

#[test]
fn a_device_that_came_unheard_of_is_not_held_against_the_next() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(), &mut effects);
    state.transport(at(100), lost(), &mut effects);
    state.transport(at(105), away(), &mut effects);
    assert_eq!(effects, [Effect::Start, Effect::Start]);
    state.transport(at(106), DeviceEvent::Up, &mut effects);
    assert_eq!(state.report().last_outage, Some(Duration::from_secs(6)));
}
