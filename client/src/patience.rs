//! How long a daemon is waited for that shows no sign of life.
//!
//! A daemon that ends closes its sockets, and that is seen at once. One that hangs, or is stopped, keeps them. So whoever
//! waits asks it now and then whether anybody is there ([`virgld_protocol::channel::ASKED`]); an answer to a call may be
//! late for good reasons, the answer to that is not.
//!
//! What counts is how long was waited and not how late it is: a process that was stopped itself, or whose machine
//! slept, comes back to find that hours have passed in which the daemon could not be heard.

use std::time::Duration;

use crate::settings::settings;
use crate::sys;

/// The patience of one who waits.
#[derive(Debug)]
pub(crate) struct Patience {
    /// None: for ever.
    limit: Option<Duration>,
    /// When it was looked last.
    looked: Duration,
    /// For how long there was no sign of life.
    silent: Duration,
    /// After how long without one it is asked.
    ask_at: Duration,
    /// The last sign of life.
    sign: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To go on waiting.
    Wait,
    /// To ask whether anybody is there, and go on.
    Ask,
    /// To wait no longer.
    GiveUp,
}

impl Patience {
    /// Begins to wait. `sign` changes with each sign of life.
    pub(crate) fn begin(sign: u32) -> Self {
        let limit = settings().map_or(Some(DEFAULT), |settings| settings.patience);
        Self::new(limit, sys::monotonic(), sign)
    }

    fn new(limit: Option<Duration>, now: Duration, sign: u32) -> Self {
        let mut patience = Self { limit, looked: now, silent: Duration::ZERO, ask_at: Duration::ZERO, sign };
        patience.hear(sign);
        patience
    }

    /// Some time has passed: [`GLANCE`], or less.
    pub(crate) fn look(&mut self, sign: u32) -> Verdict {
        self.look_at(sys::monotonic(), sign)
    }

    /// The same where there is nobody to ask. Says whether to go on waiting.
    pub(crate) fn lasts(&mut self) -> bool {
        self.look(self.sign) != Verdict::GiveUp
    }

    fn look_at(&mut self, now: Duration, sign: u32) -> Verdict {
        self.silent += now.saturating_sub(self.looked).min(MOST_AT_ONCE);
        self.looked = now;
        if sign != self.sign {
            self.hear(sign);
        }
        let Some(limit) = self.limit else { return Verdict::Wait };
        if self.silent >= limit {
            return Verdict::GiveUp;
        }
        if self.silent < self.ask_at {
            return Verdict::Wait;
        }
        self.ask_at = self.silent + self.ask_every();
        Verdict::Ask
    }

    fn hear(&mut self, sign: u32) {
        (self.sign, self.silent, self.ask_at) = (sign, Duration::ZERO, self.ask_every());
    }

    fn ask_every(&self) -> Duration {
        self.limit.map_or(ASK_EVERY, |limit| ASK_EVERY.min(limit / 8))
    }
}

/// Says that a file is given up: what happened, to whom, and what to do. `daemon` is its process, if that is known.
pub(crate) fn tell(file: &str, daemon: Option<i32>) {
    let Some(settings) = settings() else { return };
    let seconds = settings.patience.unwrap_or_default().as_secs();
    let whose = daemon.map_or_else(String::new, |daemon| format!(" (process {daemon})"));
    let line = format!(
        "virgld: /dev/dri/{file} is given up by process {own}: the daemon{whose} in {directory} has shown no sign of life \
         for {seconds} s. Calls on that file fail from now on; let the daemon go on or end it, then start this program \
         anew. VIRGLD_PATIENCE is for how many seconds it is waited for (0: for ever)\n",
        own = std::process::id(),
        directory = String::from_utf8_lossy(&settings.directory),
    );
    // Whoever closed standard error does not want to know.
    let _ = sys::write(libc::STDERR_FILENO, line.as_bytes());
}

/// How long a daemon is waited for that shows no sign of life, where the program's environment does not say.
pub(crate) const DEFAULT: Duration = Duration::from_secs(30);
/// How often one that waits looks, in milliseconds.
pub(crate) const GLANCE: u32 = 100;
/// A look counts for no more than this: what is longer was this process's own sleep, or its machine is busy.
const MOST_AT_ONCE: Duration = Duration::from_millis(2 * GLANCE as u64);
/// How often one that waits asks at most.
const ASK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(GLANCE as u64);

    /// Looks every [`STEP`] from `from` on until it is given up, for a minute at most. The sign of life is what `sign`
    /// says at that time. Gives when it was given up and how often it was asked.
    fn wait(
        patience: &mut Patience,
        from: Duration,
        sign: impl Fn(Duration) -> u32,
    ) -> (Option<Duration>, u32) {
        let (mut now, mut asked) = (from, 0);
        while now < from + 60 * SECOND {
            now += STEP;
            match patience.look_at(now, sign(now)) {
                Verdict::Wait => {}
                Verdict::Ask => asked += 1,
                Verdict::GiveUp => return (Some(now - from), asked),
            }
        }
        (None, asked)
    }

    #[test]
    fn silence_is_given_up_in_time_and_was_asked_before() {
        let mut patience = Patience::new(Some(30 * SECOND), 7 * SECOND, 5);
        assert_eq!(wait(&mut patience, 7 * SECOND, |_| 5), (Some(30 * SECOND), 29));
        assert_eq!(patience.look_at(40 * SECOND, 5), Verdict::GiveUp, "for good");
        let mut short = Patience::new(Some(SECOND), Duration::ZERO, 0);
        let (given_up, asked) = wait(&mut short, Duration::ZERO, |_| 0);
        assert_eq!(given_up, Some(SECOND));
        assert!(asked >= 4, "{asked}");
    }

    #[test]
    fn who_waits_for_a_moment_asks_nothing() {
        let mut patience = Patience::new(Some(30 * SECOND), Duration::ZERO, 0);
        let asked = (1..10).filter(|step| patience.look_at(STEP * *step, 0) != Verdict::Wait).count();
        assert_eq!(asked, 0);
    }

    #[test]
    fn any_sign_of_life_begins_the_wait_anew() {
        let mut patience = Patience::new(Some(2 * SECOND), Duration::ZERO, 0);
        let now_and_then = |now: Duration| u32::try_from(now.as_secs()).unwrap();
        assert_eq!(wait(&mut patience, Duration::ZERO, now_and_then).0, None);
        let mut patience = Patience::new(Some(2 * SECOND), Duration::ZERO, 0);
        let until_ten = |now: Duration| u32::try_from(now.as_secs().min(10)).unwrap();
        assert_eq!(wait(&mut patience, Duration::ZERO, until_ten).0, Some(12 * SECOND));
    }

    #[test]
    fn the_sleep_of_the_one_who_waits_is_not_the_silence_of_the_other() {
        let mut patience = Patience::new(Some(30 * SECOND), Duration::ZERO, 0);
        assert_ne!(patience.look_at(3600 * SECOND, 0), Verdict::GiveUp);
        assert_ne!(patience.look_at(7200 * SECOND, 0), Verdict::GiveUp);
        let rest = wait(&mut patience, 7200 * SECOND, |_| 0).0.unwrap();
        assert_eq!(rest, 30 * SECOND - 2 * MOST_AT_ONCE);
    }

    #[test]
    fn signals_that_cut_a_look_short_do_not_cut_the_wait_short() {
        let mut patience = Patience::new(Some(2 * SECOND), Duration::ZERO, 0);
        let mut now = Duration::ZERO;
        while patience.look_at(now, 0) != Verdict::GiveUp {
            now += Duration::from_micros(900);
        }
        assert!(now >= 2 * SECOND);
    }

    #[test]
    fn no_limit_is_for_ever_and_asks_nothing() {
        let mut patience = Patience::new(None, Duration::ZERO, 0);
        assert_eq!(wait(&mut patience, Duration::ZERO, |_| 0), (None, 0));
    }
}
