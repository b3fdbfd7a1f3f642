//! Faults of the device that go by time: each has a thread, and ends when it is taken out of force.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Those in force.
#[derive(Default)]
pub(crate) struct Timed {
    list: Mutex<List>,
    cleared: Condvar,
}

#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    next: u64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    number: u64,
    /// What it does, for people.
    pub(crate) what: String,
    /// How often it is to strike.
    pub(crate) times: u64,
    /// How often it has.
    pub(crate) struck: u64,
}

impl Timed {
    /// Puts one in force; gives its number.
    pub(crate) fn add(&self, what: String, times: u64) -> u64 {
        let mut list = self.lock();
        list.next += 1;
        let number = list.next;
        list.entries.push(Entry { number, what, times, struck: 0 });
        number
    }

    /// Waits, and counts a strike. Says no, at once, if it is not in force any more.
    pub(crate) fn wait(&self, number: u64, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut list = self.lock();
        loop {
            let Some(entry) = list.entries.iter_mut().find(|entry| entry.number == number) else {
                return false;
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                entry.struck += 1;
                return true;
            }
            list = self.cleared.wait_timeout(list, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// None is in force any more.
    pub(crate) fn clear(&self) {
        self.lock().entries.clear();
        self.cleared.notify_all();
    }

    /// Those in force, and what came of them.
    pub(crate) fn list(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn one_that_is_cleared_strikes_no_more_and_does_not_wait_to_its_end() {
        let timed = Arc::new(Timed::default());
        let number = timed.add("device: Death".into(), 2);
        assert!(timed.wait(number, Duration::ZERO));
        assert_eq!(timed.list()[0].struck, 1);
        let own = Arc::clone(&timed);
        // Longer than any test may take.
        let thread = thread::spawn(move || own.wait(number, Duration::from_secs(1_000_000)));
        timed.clear();
        assert!(!thread.join().unwrap());
        assert!(timed.list().is_empty());
        assert!(!timed.wait(number, Duration::ZERO), "nor does it strike afterwards");
    }
}
