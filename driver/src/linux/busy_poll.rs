//! For how long the stage's thread looks for more to do before it sleeps.
//!
//! Going to sleep and being woken again costs more than what a command costs the device, above all in a virtual machine,
//! where an idle processor is handed back to the host. So the thread goes on looking for a moment, where it has lately
//! paid. The rule is that of KVM's halt polling (Linux, `Documentation/virt/kvm/halt-polling.rst`), but that a long pause which
//! comes seldom is forgiven: it costs little, and to begin anew costs several wake-ups.

use std::time::Duration;

/// The time to look, which adapts itself.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    longest: Duration,
    window: Duration,
    /// For how long the thread was idle, in all, since it last looked in vain.
    since: Duration,
}

impl BusyPoll {
    /// Looks for at most `longest`; if that is zero, never.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, window: Duration::ZERO, since: Duration::ZERO }
    }

    /// For how long to look this time.
    pub(crate) fn window(&self) -> Duration {
        self.window
    }

    /// Something came, or was due, after the thread had been idle for so long, looking or asleep.
    pub(crate) fn idled(&mut self, time: Duration) {
        if time > self.longest {
            // Looking would not have found it.
            if self.since < self.longest * SELDOM {
                self.window = Duration::ZERO;
            }
            self.since = Duration::ZERO;
            return;
        }
        self.since += time;
        if time > self.window {
            self.window = (self.window * GROWS).max(SHORTEST).min(self.longest);
        }
    }
}

/// The first time to look once something came soon.
const SHORTEST: Duration = Duration::from_micros(10);
/// By how much it grows.
const GROWS: u32 = 4;
/// One look in vain in so many times as long does no harm.
const SELDOM: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(50);

    fn after(idle: &[u64]) -> Duration {
        let mut poll = BusyPoll::new(LONGEST);
        idle.iter().for_each(|time| poll.idled(Duration::from_micros(*time)));
        poll.window()
    }

    #[test]
    fn it_looks_for_longer_while_things_come_soon() {
        assert_eq!(after(&[]), Duration::ZERO);
        assert_eq!(after(&[50]), Duration::from_micros(10));
        assert_eq!(after(&[50, 50]), Duration::from_micros(40));
        assert_eq!(after(&[50, 50, 50]), LONGEST);
    }

    #[test]
    fn what_is_found_in_time_changes_nothing() {
        assert_eq!(after(&[30, 30, 5, 20, 1]), Duration::from_micros(40));
    }

    #[test]
    fn one_long_idle_time_and_it_sleeps_at_once() {
        assert_eq!(after(&[50, 50, 50, 51]), Duration::ZERO);
    }

    #[test]
    fn a_long_idle_time_that_comes_seldom_changes_nothing() {
        let busy = [50; 60];
        assert_eq!(after(&[&busy[..], &[51]].concat()), LONGEST);
        assert_eq!(after(&[&busy[..], &[51, 1000]].concat()), Duration::ZERO);
        assert_eq!(after(&[&busy[..40], &[51]].concat()), Duration::ZERO);
    }

    #[test]
    fn without_a_time_it_never_looks() {
        let mut poll = BusyPoll::new(Duration::ZERO);
        [0, 1, 50].iter().for_each(|time| poll.idled(Duration::from_micros(*time)));
        assert_eq!(poll.window(), Duration::ZERO);
    }
}
