//! Notices that the thread that runs the actors does not come round any more: an actor has not returned from a step.

use std::time::Duration;

/// How often the watchdog has looked and seen nothing go on.
pub(crate) struct Watch {
    patience: Duration,
    last: u64,
    missed: u32,
}

impl Watch {
    /// A loop that does not come round for so long counts as hung.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, last: 0, missed: 0 }
    }

    /// For how long nothing may go on.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// How long it is from one look to the next.
    pub(crate) fn interval(&self) -> Duration {
        self.patience / MISSES
    }

    /// Looks once. Says whether the loop counts as hung. Looks are counted, not time: a daemon that was stopped
    /// as a whole, with its machine perhaps, has missed nothing.
    pub(crate) fn look(&mut self, beats: u64) -> bool {
        self.missed = if beats == self.last { self.missed + 1 } else { 0 };
        self.last = beats;
        let hung = self.missed >= MISSES;
        if hung {
            // Whoever runs next has all the time again.
            self.missed = 0;
        }
        hung
    }
}

/// The loop comes round four times a second; the shortest patience is one.
const MISSES: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_comes_round_now_and_then_lives_and_one_that_does_not_is_found() {
        let mut watch = Watch::new(Duration::from_secs(10));
        for turn in 1..100 {
            for _ in 1..MISSES {
                assert!(!watch.look(turn));
            }
        }
        let looks = (1..).find(|_| watch.look(99));
        assert_eq!(looks, Some(2));
        let looks = (1..).find(|_| watch.look(99));
        assert_eq!(looks, Some(MISSES), "the next has all the time again");
    }
}
