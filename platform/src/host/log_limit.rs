//! A bounded number of log lines in a time: for what strangers cause, who must not be able to fill a disk.

use std::time::Duration;

use foldhash::HashMap;
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
        let before = if self.is_over(now) { self.renew(now) } else { 0 };
        let admitted = self.written < MOST_LINES;
        self.count(admitted);
        (admitted, before)
    }

    /// Whether the period is over.
    fn is_over(&self, now: Time) -> bool {
        self.since.is_none_or(|since| now.since(since) >= PERIOD)
    }

    fn count(&mut self, admitted: bool) {
        if admitted {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
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

/// The same number of lines for all clients together, so shared that a noisy one does not hide what is said of others.
///
/// A user may have a line as long as they have had fewer than are left for all, and a process as long as it has had fewer than
/// its user may still have. So one process has a third of all lines at most, one user half, whoever comes next as much of
/// the rest, and nobody has a quota that others do not use.
#[derive(Debug, Default)]
pub(super) struct LogShares {
    all: LogLimit,
    // Only of those who had a line: no more than there are lines.
    users: HashMap<u32, u64>,
    processes: HashMap<Speaker, Lines>,
}

/// Whom a line is about: what the kernel says of who opened a file, and never what the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Speaker {
    pub(super) user: u32,
    pub(super) process: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    written: u64,
    left_out: u64,
}

/// What was left out in a period that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    /// Of whom most, if they had any line at all, and how many.
    pub(super) most: Option<(Speaker, u64)>,
}

impl LogShares {
    /// Whether a line on this client may be written; and what was left out before that nobody was told of.
    pub(super) fn take(&mut self, now: Time, speaker: Speaker) -> (bool, Option<LeftOut>) {
        let before = if self.all.is_over(now) { self.renew(now) } else { None };
        let admitted = self.admits(speaker);
        self.all.count(admitted);
        if admitted {
            *self.users.entry(speaker.user).or_default() += 1;
            self.processes.entry(speaker).or_default().written += 1;
        } else if let Some(lines) = self.processes.get_mut(&speaker) {
            lines.left_out += 1;
        }
        (admitted, before)
    }

    fn admits(&self, speaker: Speaker) -> bool {
        let of_user = self.users.get(&speaker.user).copied().unwrap_or_default();
        let of_process = self.processes.get(&speaker).copied().unwrap_or_default().written;
        let left = MOST_LINES - self.all.written;
        of_process < left.saturating_sub(of_user)
    }

    /// Begins anew, and says what was left out.
    pub(super) fn renew(&mut self, now: Time) -> Option<LeftOut> {
        let (lines, before) = (self.all.renew(now), std::mem::take(&mut self.processes));
        self.users.clear();
        let noisy = before.iter().filter(|(_, lines)| lines.left_out > 0);
        let most = noisy.map(|(speaker, lines)| (*speaker, lines.left_out));
        let most = most.max_by_key(|(speaker, lines)| (*lines, *speaker));
        (lines > 0).then_some(LeftOut { lines, most })
    }

    /// When it must be told that lines were left out, if some were.
    pub(super) fn to_be_told(&self) -> Option<Time> {
        self.all.to_be_told()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(user: u32, process: u32) -> Speaker {
        Speaker { user, process }
    }

    /// How many lines each of these gets who all ask without end, one after the other.
    fn shares(limit: &mut LogShares, now: Time, speakers: &[Speaker]) -> Vec<usize> {
        speakers.iter().map(|it| (0..1000).filter(|_| limit.take(now, *it).0).count()).collect()
    }

    #[test]
    fn a_noisy_client_hides_nothing_of_others() {
        let now = Time::default().after(Duration::from_secs(1));
        let mut limit = LogShares::default();
        let noisy = [speaker(7, 1), speaker(7, 2), speaker(7, 3), speaker(7, 4)];
        assert_eq!(
            shares(&mut limit, now, &noisy),
            [67, 22, 8, 2],
            "of one user, each a third of what is left"
        );
        assert_eq!(
            shares(&mut limit, now, &[speaker(8, 9)]),
            [34],
            "another user has as much as if all were quiet"
        );
        assert_eq!(limit.to_be_told(), Some(now.after(PERIOD)));
        let told = limit.renew(now.after(PERIOD)).unwrap();
        assert_eq!(told, LeftOut { lines: 5000 - 133, most: Some((speaker(7, 4), 998)) });
    }

    #[test]
    fn all_together_are_bounded_in_lines_and_memory() {
        let mut now = Time::default().after(Duration::from_secs(1));
        let mut limit = LogShares::default();
        for _ in 0..3 {
            let mut written = 0;
            for number in 0..100_000 {
                written += u64::from(limit.take(now, speaker(number % 5000, number)).0);
            }
            assert_eq!(written, MOST_LINES);
            assert!(limit.users.len() <= 200 && limit.processes.len() <= 200);
            now = now.after(PERIOD);
        }
        let (admitted, before) = limit.take(now, speaker(1, 1));
        assert!(
            admitted && before == Some(LeftOut { lines: 100_000 - MOST_LINES, most: None }),
            "{before:?}"
        );
        assert_eq!((limit.to_be_told(), limit.renew(now)), (None, None));
    }

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
