//! What a device process writes to its standard error, on its way to the daemon's log: a bounded number of lines in a
//! time. Strangers' command streams have it complain, and must not be able to fill a disk with that.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::process::wait_readable;

/// Copies what the device says to the log, line by line, until it closes its end. A line that is too long is cut
/// into several.
pub(super) fn copy(stderr: impl Read + AsFd, name: &str) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut allowance = Allowance::default();
    loop {
        // Where the device falls silent after a flood, nothing else would tell how much was left out.
        if let Some(left) = allowance.until_told(Instant::now())
            && reader.buffer().is_empty()
            && !wait_readable(reader.get_ref().as_fd(), Some(left))
        {
            told(allowance.renew(Instant::now()), name);
            continue;
        }
        let Ok(1..) = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) else { break };
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if HARMLESS.iter().any(|harmless| text.contains(harmless)) {
            tracing::debug!(device = name, "{text}");
        } else if !text.is_empty() {
            let (admitted, left_out) = allowance.take(Instant::now());
            told(left_out, name);
            if admitted {
                tracing::info!(device = name, "{text}");
            }
        }
        line.clear();
    }
    told(allowance.left_out, name);
}

fn told(left_out: u64, name: &str) {
    if left_out > 0 {
        tracing::warn!(device = name, "{left_out} lines left out: the log takes {MOST_LINES} in {PERIOD:?}");
    }
}

/// How many lines may still be written before a time is over.
#[derive(Debug, Default)]
struct Allowance {
    since: Option<Instant>,
    written: u64,
    left_out: u64,
}

impl Allowance {
    /// Whether a line may be written, and how many were left out before it that nobody was told of.
    fn take(&mut self, now: Instant) -> (bool, u64) {
        let over = self.since.is_none_or(|since| now.duration_since(since) >= PERIOD);
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
    fn renew(&mut self, now: Instant) -> u64 {
        let left_out = self.left_out;
        *self = Self { since: Some(now), written: 0, left_out: 0 };
        left_out
    }

    /// How long until it must be told that lines were left out, if some were.
    fn until_told(&self, now: Instant) -> Option<Duration> {
        let since = self.since.filter(|_| self.left_out > 0)?;
        Some(PERIOD.saturating_sub(now.duration_since(since)))
    }
}

/// What devices say though nothing is wrong.
const HARMLESS: [&str; 4] = [
    "MESA-LOADER: failed to retrieve device information",
    "failed to get driver name for fd",
    "gl_version ",
    "GLSL feature level ",
];

/// In bytes.
const LONGEST_LINE: u64 = 2000;

/// So many lines at most are written in each period: 400 kB at their longest.
const MOST_LINES: u64 = 200;
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_the_next_period_begins_anew() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        for _ in 0..MOST_LINES {
            assert_eq!(allowance.take(start), (true, 0));
        }
        assert_eq!(allowance.until_told(start), None, "nothing is left out yet");
        for _ in 0..5 {
            assert_eq!(allowance.take(start + PERIOD / 2), (false, 0));
        }
        assert_eq!(allowance.until_told(start + PERIOD / 2), Some(PERIOD / 2));
        assert_eq!(allowance.take(start + PERIOD), (true, 5), "told once");
        assert_eq!(allowance.take(start + PERIOD), (true, 0));
        assert_eq!(allowance.until_told(start + PERIOD), None);
    }

    #[test]
    fn who_falls_silent_after_a_flood_is_told_of_when_the_period_is_over() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        for _ in 0..MOST_LINES + 7 {
            allowance.take(start);
        }
        assert_eq!(allowance.until_told(start + PERIOD * 2), Some(Duration::ZERO));
        assert_eq!(allowance.renew(start + PERIOD * 2), 7);
        assert_eq!(allowance.until_told(start + PERIOD * 2), None);
        assert_eq!(allowance.take(start + PERIOD * 2), (true, 0));
    }
}
