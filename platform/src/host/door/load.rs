//! What the files of one user have under way together, and how fast one file may call.

use std::time::Duration;

use virgld_runtime::Time;

use super::actor::Door;
use super::config::UserLimits;
use super::file::File;

/// What the files of one user have under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Open files.
    pub(super) files: usize,
    /// Asynchronous calls that have not retired.
    pub(super) calls: usize,
    /// Bytes of their streams.
    pub(super) bytes: usize,
}

impl Load {
    /// Whether the user may have another call with a stream of `bytes` under way. One is always allowed.
    pub(super) fn has_credit(&self, bytes: usize, limits: &UserLimits) -> bool {
        self.calls == 0
            || (self.calls < limits.calls_in_flight && self.bytes + bytes <= limits.bytes_in_flight)
    }
}

impl Door {
    /// What a user has under way.
    pub(super) fn load_of(&self, uid: u32) -> Load {
        self.loads.get(&uid).copied().unwrap_or_default()
    }

    /// A user has a file more.
    pub(super) fn load(&mut self, uid: u32) {
        self.loads.entry(uid).or_default().files += 1;
    }

    /// A file is gone, and what it had under way is nobody's.
    pub(super) fn unload(&mut self, file: &File) {
        let uid = file.credentials.uid;
        let Some(load) = self.loads.get_mut(&uid) else { return };
        let (calls, bytes) = file.under_way();
        load.files -= 1;
        load.calls -= calls;
        load.bytes -= bytes;
        if *load == Load::default() {
            self.loads.remove(&uid);
        }
    }

    /// Whether no file competes for the device but, at most, the one that asks. Counted anew once in a while: it is asked
    /// for each call.
    pub(super) fn is_alone(&mut self) -> bool {
        if self.rivals.1.is_none_or(|counted| self.now.since(counted) >= RECOUNT) {
            let competing = self.files.values().filter(|file| file.competes(self.now)).count();
            self.rivals = (competing, Some(self.now));
        }
        self.rivals.0 <= 1
    }

    /// Fences in advance that a user's files have and that have not signalled, at most.
    pub(super) fn fences_of(&self, uid: u32) -> usize {
        let own = self.files.values().filter(|file| file.credentials.uid == uid);
        own.map(|file| file.stock.len() + file.under_way().0).sum()
    }
}

/// Calls that a file may make now: it gains some with time, up to a tenth of a second's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowance {
    /// In millionths of a call.
    left: u64,
    since: Time,
}

impl Allowance {
    /// Whether there is a call left. A rate of 0 is no bound.
    pub(super) fn allows(&mut self, now: Time, rate: u32) -> bool {
        if rate == 0 {
            return true;
        }
        let most = (u64::from(rate) * CALL / 10).max(CALL);
        let passed = u64::try_from(now.since(self.since).as_micros()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(u64::from(rate));
        self.left = self.left.saturating_add(gained).min(most);
        self.since = now;
        self.left >= CALL
    }

    /// A call was taken. One that has to wait for something else is not, and costs nothing.
    pub(super) fn spend(&mut self) {
        self.left = self.left.saturating_sub(CALL);
    }
}

/// How old the count of those who compete may be.
const RECOUNT: Duration = Duration::from_millis(1);
const CALL: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_over_time_and_allows_a_short_burst() {
        let mut now = Time::default().after(Duration::from_secs(5));
        let mut allowance = Allowance::default();
        let mut made = 0;
        let take = |allowance: &mut Allowance, now, rate| {
            let allowed = allowance.allows(now, rate);
            if allowed {
                allowance.spend();
            }
            allowed
        };
        for _ in 0..1000 {
            for _ in 0..100 {
                made += usize::from(take(&mut allowance, now, 1000));
            }
            now = now.after(Duration::from_millis(1));
        }
        assert_eq!(made, 100 + 999, "a tenth of a second at once, then one a millisecond");
        let mut free = Allowance::default();
        assert!((0..1000).all(|_| take(&mut free, now, 0)));
        let mut slow = Allowance::default();
        assert!((0..9).all(|_| slow.allows(now, 1)), "what is not taken costs nothing");
        assert!(take(&mut slow, now, 1) && !take(&mut slow, now, 1), "one is always saved up for");
    }

    #[test]
    fn a_user_has_one_call_at_least_and_no_more_than_the_limits() {
        let limits = UserLimits { files: 1, calls_in_flight: 2, bytes_in_flight: 10, fences: 0 };
        let load = |calls, bytes| Load { files: 1, calls, bytes };
        assert!(load(0, 0).has_credit(100, &limits) && load(1, 5).has_credit(5, &limits));
        assert!(!load(1, 5).has_credit(6, &limits) && !load(2, 0).has_credit(0, &limits));
    }

    #[test]
    fn a_file_has_fewer_calls_under_way_beside_others_and_one_at_least() {
        use crate::host::door::Limits;
        let mut file = crate::host::door::file::tests_support::file();
        let mut now = Time::default().after(Duration::from_secs(1));
        let limits = Limits::default().file;
        assert!(!file.competes(now));
        for call in 0..limits.calls_in_flight {
            assert!(file.has_credit(0, &limits, true));
            assert_eq!(file.has_credit(0, &limits, false), call < limits.calls_beside_others);
            file.launch(now, 1, 1, 0);
        }
        assert!(!file.has_credit(0, &limits, true));
        let last = file.last_serial();
        file.retire(last, |_, _| ());
        let large = limits.bytes_beside_others + 1;
        assert!(file.has_credit(large, &limits, false), "one may be as large as it likes");
        file.launch(now, 1, 1, large);
        assert!(!file.has_credit(0, &limits, false) && file.has_credit(0, &limits, true));
        let last = file.last_serial();
        file.retire(last, |_, _| ());
        assert!(file.competes(now), "it may be about to draw its next frame");
        now = now.after(Duration::from_secs(1));
        assert!(!file.competes(now));
    }
}
