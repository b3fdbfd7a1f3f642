//! A bounded number of log lines in a time: for what strangers cause, who must not be able to fill a disk.

use std::time::Duration;

use virgld_runtime::Time;

/// So many lines at most are written in each period: 400 kB of a device's longest.
pub(super) const MOST_LINES: u64 = 200;
/// How long a period is.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// How many lines may still be written before a period is over.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    since: Option<Time>,
    written: u64,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line may be written, and how many were left out before it that nobody was told of.
    pub(super) fn take(&mut self, now: Time) -> (bool, u64) {
        let over = self.since.is_none_or(|since| now.since(since) >= PERIOD);
        let before = if over { self.renew(now) } else { 0 };
        let admitted = self.written < MOST_LINES;
        if admitted {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        (admitted, before)
    }

    /// Begins anew, and says how many lines were left out.
    pub(super) fn renew(&mut self, now: Time) -> u64 {
        let left_out = self.left_out;
        *self = Self { since: Some(now), written: 0, left_out: 0 };
        left_out
    }

    /// When it must be told that lines were left out, if some were.
    pub(super) fn to_be_told(&self) -> Option<Time> {
        Some(self.since.filter(|_| self.left_out > 0)?.after(PERIOD))
    }

    /// Lines that were left out and that nobody was told of.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_the_next_period_begins_anew() {
        let start = Time::default().after(Duration::from_secs(1));
        let mut limit = LogLimit::default();
        for _ in 0..MOST_LINES {
            assert_eq!(limit.take(start), (true, 0));
        }
        assert_eq!(limit.to_be_told(), None, "nothing is left out yet");
        for _ in 0..5 {
            assert_eq!(limit.take(start.after(PERIOD / 2)), (false, 0));
        }
        assert_eq!(limit.to_be_told(), Some(start.after(PERIOD)));
        assert_eq!(limit.take(start.after(PERIOD)), (true, 5), "told once");
        assert_eq!(limit.take(start.after(PERIOD)), (true, 0));
        assert_eq!(limit.to_be_told(), None);
    }

    #[test]
    fn who_falls_silent_after_a_flood_is_told_of_when_the_period_is_over() {
        let start = Time::default().after(Duration::from_secs(1));
        let mut limit = LogLimit::default();
        for _ in 0..MOST_LINES + 7 {
            limit.take(start);
        }
        assert_eq!(limit.to_be_told(), Some(start.after(PERIOD)));
        assert_eq!(limit.renew(start.after(PERIOD * 2)), 7);
        assert_eq!(limit.to_be_told(), None);
        assert_eq!(limit.take(start.after(PERIOD * 2)), (true, 0));
    }
}
