//! Flips beside the clock: what their events say must be so.

use std::time::Duration;

use crate::stop::{Verdict, ensure};

/// A flip that was shown, and when the program heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// At which refresh, by the event.
    pub refresh: u32,
    /// When, by the event: of CLOCK_MONOTONIC.
    pub stamp: Duration,
    /// When the event came, by the same clock.
    pub arrival: Duration,
}

/// How fast flips were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Flips a second.
    pub flips: f64,
    /// Refreshes a second, those included at which nothing new was shown.
    pub refreshes: f64,
    /// How long events took to come, half of them longer.
    pub lateness: Duration,
}

/// Fails if refreshes stand still or go backwards.
pub fn in_order(flips: &[Shown]) -> Verdict {
    for pair in flips.windows(2) {
        let [before, flip] = pair else { continue };
        ensure(flip.refresh > before.refresh && flip.stamp > before.stamp, || {
            format!(
                "a flip was at refresh {} ({:?}), the one before at {} ({:?})",
                flip.refresh, flip.stamp, before.refresh, before.stamp
            )
        })?;
    }
    Ok(())
}

/// The pace of flips that are in order. Fails if refreshes do not come `rate` times a second by the clock and by the
/// events alike, or if the events tell another time than the clock: on a machine that is too busy, too.
pub fn pace(flips: &[Shown], rate: f64) -> Verdict<Pace> {
    let (Some(first), Some(last)) = (flips.first(), flips.last()) else {
        return Ok(Pace { flips: 0.0, refreshes: 0.0, lateness: Duration::ZERO });
    };
    let refreshes = f64::from(last.refresh.saturating_sub(first.refresh));
    let seconds = last.arrival.saturating_sub(first.arrival).as_secs_f64();
    let stamped = last.stamp.saturating_sub(first.stamp).as_secs_f64();
    for (seconds, by) in [(stamped, "the events"), (seconds, "the clock")] {
        let expected = rate * seconds;
        ensure((refreshes - expected).abs() <= expected * TOLERANCE + 1.0, || {
            format!("{refreshes} refreshes in {seconds:.3} s by {by}, {rate:.2} a second by the mode")
        })?;
    }
    let ahead = flips.iter().map(|flip| flip.stamp.saturating_sub(flip.arrival)).max().unwrap_or_default();
    ensure(ahead < APART, || format!("an event came {ahead:?} before the moment that it names"))?;
    let mut late: Vec<_> = flips.iter().map(|flip| flip.arrival.saturating_sub(flip.stamp)).collect();
    late.sort_unstable();
    let lateness = late.get(late.len() / 2).copied().unwrap_or_default();
    ensure(lateness < APART, || format!("events came {lateness:?} after the moments that they name"))?;
    Ok(Pace { flips: (flips.len() - 1) as f64 / seconds, refreshes: refreshes / seconds, lateness })
}

/// How far a rate may be from the mode's, besides one refresh: whoever waits hears late of the first or the last flip.
const TOLERANCE: f64 = 0.05;
/// How far an event may be from the moment that it names.
const APART: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 50.0;

    /// Flips 20 ms apart that are heard of a millisecond later.
    fn steady() -> Vec<Shown> {
        let flip = |number: u32| {
            let stamp = Duration::from_secs(7) + Duration::from_millis(20) * number;
            Shown { refresh: 100 + number, stamp, arrival: stamp + Duration::from_millis(1) }
        };
        (0..50).map(flip).collect()
    }

    #[test]
    fn flips_at_the_rate_of_the_mode_are_right() {
        let pace = pace(&steady(), RATE).expect("a pace");
        assert!((pace.flips - RATE).abs() < 0.01 && (pace.refreshes - RATE).abs() < 0.01, "{pace:?}");
        assert_eq!(pace.lateness, Duration::from_millis(1));
    }

    #[test]
    fn a_flip_at_every_other_refresh_is_slow_and_right() {
        let flips: Vec<_> = steady().into_iter().step_by(2).collect();
        let pace = pace(&flips, RATE).expect("a pace");
        assert!((pace.flips - RATE / 2.0).abs() < 0.5 && (pace.refreshes - RATE).abs() < 0.01, "{pace:?}");
    }

    #[test]
    fn what_runs_free_is_seen_by_the_clock_whatever_its_events_say() {
        let mut flips = steady();
        for (number, flip) in (0..).zip(&mut flips) {
            flip.arrival = Duration::from_secs(7) + Duration::from_millis(2) * number;
        }
        let said = pace(&flips, RATE).expect_err("ten times as fast").to_string();
        assert!(said.contains("by the clock"), "{said}");
    }

    #[test]
    fn events_of_another_clock_are_wrong() {
        for shift in [Duration::from_secs(1), Duration::from_millis(60)] {
            let early = steady().into_iter().map(|it| Shown { stamp: it.stamp - shift, ..it });
            assert!(pace(&early.collect::<Vec<_>>(), RATE).is_err(), "{shift:?} too early");
            let late = steady().into_iter().map(|it| Shown { stamp: it.stamp + shift, ..it });
            assert!(pace(&late.collect::<Vec<_>>(), RATE).is_err(), "{shift:?} too late");
        }
    }

    #[test]
    fn a_refresh_that_comes_twice_is_wrong() {
        let mut flips = steady();
        flips[3] = flips[2];
        assert!(in_order(&flips).is_err() && in_order(&steady()).is_ok());
    }

    #[test]
    fn one_flip_has_no_rate() {
        assert!(pace(&steady()[..1], RATE).is_ok() && pace(&[], RATE).is_ok());
    }
}
