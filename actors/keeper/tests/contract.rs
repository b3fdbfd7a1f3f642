//! What the keeper promises: one device at a time, so many in a time, and an end to it.

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use virgld_keeper::{Effect, State};
use virgld_protocol::message::keeper::Attempt;
use virgld_protocol::message::transport::{DeviceEvent, DeviceNews, Generation};
use virgld_runtime::{Intensity, Time};

const INTENSITY: Intensity = Intensity { restarts: 2, period: Duration::from_secs(10) };

fn of(generation: u64, news: DeviceNews) -> DeviceEvent {
    DeviceEvent { generation: Generation(generation), news }
}

fn up(generation: u64) -> DeviceEvent {
    of(generation, DeviceNews::Up)
}

fn lost(generation: u64) -> DeviceEvent {
    of(generation, DeviceNews::Lost { reason: "it died".into(), was_up: true })
}

fn lost_before_it_was_ready(generation: u64) -> DeviceEvent {
    of(generation, DeviceNews::Lost { reason: "it died".into(), was_up: false })
}

fn away(generation: u64) -> DeviceEvent {
    of(generation, DeviceNews::Away { reason: "it died".into(), was_up: true })
}

fn start(attempt: u64) -> Effect {
    Effect::Start { attempt: Attempt(attempt) }
}

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

#[test]
fn a_lost_device_is_replaced_and_the_outage_measured() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), up(1), &mut effects);
    assert_eq!((effects.len(), state.report().last_outage), (0, None));
    state.transport(at(5), lost(1), &mut effects);
    assert_eq!(effects, [start(1)]);
    state.transport(at(6), up(2), &mut effects);
    let report = state.report();
    assert_eq!((report.losses, report.last_outage), (1, Some(Duration::from_secs(1))));
    assert_eq!(report.last_reason.as_deref(), Some("it died"));
}

#[test]
fn an_outage_lasts_until_a_device_is_ready_however_many_it_takes() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(5), lost(1), &mut effects);
    state.transport(at(7), lost_before_it_was_ready(2), &mut effects);
    state.transport(at(9), up(3), &mut effects);
    assert_eq!(state.report().last_outage, Some(Duration::from_secs(4)));
    assert_eq!(effects, [start(1), start(2)]);
}

#[test]
fn too_many_losses_in_a_time_are_the_end_and_as_many_in_a_longer_time_are_not() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    for (second, device) in [(0, 1), (6, 2), (12, 3), (18, 4)] {
        state.transport(at(second), lost(device), &mut effects);
    }
    assert_eq!(effects, [start(1), start(2), start(3), start(4)]);
    state.transport(at(19), lost(5), &mut effects);
    let Some(Effect::GiveUp { reason }) = effects.pop() else { panic!("{effects:?}") };
    assert!(reason.contains("more than 2") && reason.ends_with("it died"), "{reason}");
}

#[test]
fn a_device_that_cannot_be_started_is_tried_again_after_a_pause_and_counts() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(1), &mut effects);
    effects.clear();
    state.failed(at(2), Attempt(1), "no such program".into(), &mut effects);
    assert!(effects.is_empty());
    let retry = state.deadline().unwrap();
    assert!(retry > at(2));
    state.wake(at(2), &mut effects);
    assert!(effects.is_empty());
    state.wake(retry, &mut effects);
    assert_eq!((std::mem::take(&mut effects), state.deadline()), (vec![start(2)], None));
    state.failed(at(3), Attempt(2), "no such program".into(), &mut effects);
    assert!(matches!(&effects[..], [Effect::GiveUp { reason }] if reason.ends_with("no such program")));
}

#[test]
fn a_device_that_stays_away_is_not_waited_for_for_ever_however_seldom_it_is_tried() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(1), &mut effects);
    for second in 2..61 {
        if second % 12 == 0 {
            state.failed(at(second), Attempt(second / 12), "pulled out".into(), &mut effects);
        }
        state.wake(at(second), &mut effects);
        state.transport(at(second), away(1), &mut effects);
    }
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Start { .. })), "{effects:?}");
    state.transport(at(61), away(1), &mut effects);
    let Some(Effect::GiveUp { reason }) = effects.pop() else { panic!("{effects:?}") };
    assert!(reason.contains("60 s") && reason.ends_with("pulled out"), "{reason}");
}

#[test]
fn a_start_of_which_nothing_is_heard_is_not_waited_for_for_ever() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(1), &mut effects);
    for second in [6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56] {
        state.transport(at(second), away(1), &mut effects);
    }
    assert_eq!(std::mem::take(&mut effects), [start(1)]);
    state.transport(at(61), away(1), &mut effects);
    assert!(
        matches!(&effects[..], [Effect::GiveUp { reason }] if reason.ends_with("it died")),
        "{effects:?}"
    );
}

#[test]
fn a_loss_that_was_not_heard_of_is_known_when_the_device_is_still_away() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(5), away(1), &mut effects);
    assert_eq!(std::mem::take(&mut effects), [start(1)]);
    state.transport(at(10), away(1), &mut effects);
    assert!(effects.is_empty(), "it is being started");
    assert_eq!(state.report().losses, 1);
}

#[test]
fn a_device_that_came_unheard_of_is_not_held_against_the_next() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(1), &mut effects);
    state.transport(at(100), lost(2), &mut effects);
    state.transport(at(105), away(2), &mut effects);
    assert_eq!(effects, [start(1), start(2)]);
    state.transport(at(106), up(3), &mut effects);
    assert_eq!(state.report().last_outage, Some(Duration::from_secs(6)));
}

#[test]
fn news_of_an_older_device_is_old_news() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(1), &mut effects);
    assert_eq!(std::mem::take(&mut effects), [start(1)]);
    state.transport(at(2), up(2), &mut effects);
    for stale in [away(1), lost(1), up(1), up(2)] {
        state.transport(at(90), stale, &mut effects);
    }
    assert!(effects.is_empty(), "the device is there: {effects:?}");
    state.transport(at(91), lost(2), &mut effects);
    for stale in [up(2), lost(2), up(1)] {
        state.transport(at(92), stale, &mut effects);
    }
    assert_eq!(effects, [start(2)], "it is lost once, and does not come back");
    assert_eq!(state.report().losses, 2);
}

#[test]
fn the_failure_of_an_older_attempt_is_old_news() {
    let (mut state, mut effects) = (State::new(INTENSITY), Vec::new());
    state.transport(at(1), lost(1), &mut effects);
    for _ in 0..3 {
        state.failed(at(2), Attempt(1), "no such program".into(), &mut effects);
    }
    let retry = state.deadline().expect("it tries again");
    state.wake(retry, &mut effects);
    state.failed(retry, Attempt(1), "no such program".into(), &mut effects);
    assert_eq!((effects, state.deadline()), (vec![start(1), start(2)], None));
}

/// What becomes of devices one after the other: each comes up or does not, is lost, and is said to be away so often.
fn story(devices: &[(bool, usize)]) -> Vec<DeviceEvent> {
    let told = devices.iter().zip(1..).flat_map(|((was_up, reminders), generation)| {
        let reason = || "it died".to_owned();
        let reminder = of(generation, DeviceNews::Away { reason: reason(), was_up: *was_up });
        let lost = of(generation, DeviceNews::Lost { reason: reason(), was_up: *was_up });
        let up = was_up.then(|| up(generation));
        up.into_iter().chain([lost]).chain(vec![reminder; *reminders])
    });
    told.collect()
}

/// Devices: whether each comes up, and how often it is said to be away.
type Devices = Vec<(bool, usize)>;
/// How much later than it should an event comes, and whether it comes twice.
type Ways = Vec<(usize, bool)>;

fn mail() -> impl Strategy<Value = (Devices, Ways)> {
    let devices = proptest::collection::vec((any::<bool>(), 0..3_usize), 1..6);
    (devices, proptest::collection::vec((0..6_usize, any::<bool>()), 30))
}

proptest! {
    /// However late and however often it is told: each device is replaced once at most, the last is replaced, and one that
    /// is there is not.
    #[test]
    fn a_device_is_replaced_once_however_it_is_told((devices, ways) in mail(), last_is_up in any::<bool>()) {
        let mut told = story(&devices);
        let last = devices.len() as u64 + 1;
        if last_is_up {
            told.push(up(last));
        }
        let mut mail: Vec<(usize, DeviceEvent)> = Vec::new();
        for (index, (event, (late, twice))) in told.into_iter().zip(ways.iter().cycle()).enumerate() {
            mail.push((index + late, event.clone()));
            if *twice {
                mail.push((index + late + 3, event));
            }
        }
        mail.sort_by_key(|(index, _)| *index);
        let intensity = Intensity { restarts: usize::MAX, period: Duration::from_secs(1) };
        let (mut state, mut effects) = (State::new(intensity), Vec::new());
        let mut replaced = std::collections::BTreeSet::new();
        for (second, (_, event)) in mail.into_iter().enumerate() {
            let generation = event.generation;
            state.transport(at(second as u64), event, &mut effects);
            for effect in effects.drain(..) {
                prop_assert!(matches!(effect, Effect::Start { .. }), "{effect:?}");
                prop_assert!(generation.0 < last && replaced.insert(generation), "{generation:?} once more");
            }
        }
        prop_assert!(replaced.contains(&Generation(last - 1)) || last_is_up);
        prop_assert_eq!(state.report().losses, replaced.len() as u64);
    }
}
