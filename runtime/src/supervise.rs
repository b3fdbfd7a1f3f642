//! How often something that dies is started anew: OTP's restart intensity.

use std::collections::VecDeque;
use std::time::Duration;

use crate::actor::Time;

/// At most so many restarts within any such period; one more, and the trouble is passed on to whoever is above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// How many.
    pub restarts: usize,
    /// In what time.
    pub period: Duration,
}

/// The restarts of late.
#[derive(Debug)]
pub struct Restarts {
    intensity: Intensity,
    times: VecDeque<Time>,
}

impl Restarts {
    /// None so far.
    pub fn new(intensity: Intensity) -> Self {
        Self { intensity, times: VecDeque::new() }
    }

    /// Notes a restart that is about to be made, or says that it is one too many.
    pub fn admit(&mut self, now: Time) -> bool {
        let period = self.intensity.period;
        while self.times.front().is_some_and(|time| now.since(*time) >= period) {
            self.times.pop_front();
        }
        let may = self.times.len() < self.intensity.restarts;
        if may {
            self.times.push_back(now);
        }
        may
    }

    /// How many there may be.
    pub fn intensity(&self) -> Intensity {
        self.intensity
    }

    /// Whoever counts is begun anew itself.
    pub(crate) fn forget(&mut self) {
        self.times.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_period_has_at_most_so_many_restarts() {
        let intensity = Intensity { restarts: 3, period: Duration::from_nanos(10) };
        let mut restarts = Restarts::new(intensity);
        let admitted: Vec<u64> = (0..40).filter(|time| restarts.admit(Time(*time))).collect();
        assert_eq!(admitted, [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]);
    }

    #[test]
    fn none_are_none() {
        let mut restarts = Restarts::new(Intensity { restarts: 0, period: Duration::from_secs(1) });
        assert!(!restarts.admit(Time(0)));
    }
}
