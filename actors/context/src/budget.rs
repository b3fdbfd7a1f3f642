//! Memory that all journals have together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The authority to hold memory of it, and how much there is.
///
/// A journal may hold as much as it leaves over: one alone half of all, two that want all they can get a third each. So one
/// that is greedy cannot take what is left for the small ones, and nobody has to give back what they have.
///
/// Who may hold memory of it cannot make more of it.
///
/// ```compile_fail,E0616
/// # use virgld_context::Budget;
/// fn enlarge(budget: &mut Budget) { budget.total = usize::MAX; }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_context::Budget;
/// fn must_copy<T: Clone>() {}
/// fn copy() { must_copy::<Budget>() }
/// ```
#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: Arc<AtomicUsize>,
}

impl Budget {
    /// So many bytes, none of them used.
    pub fn new(total: usize) -> Self {
        Self { total, used: Arc::default() }
    }

    /// An equal authority to pass on.
    pub fn grant(&self) -> Self {
        Self { total: self.total, used: Arc::clone(&self.used) }
    }

    /// How many bytes there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many of them journals hold.
    pub fn used(&self) -> usize {
        // Relaxed: a count alone, that nothing else is read by.
        self.used.load(Ordering::Relaxed)
    }
}

/// What one journal holds. It is given back with it.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Budget,
    held: usize,
}

impl Account {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, held: 0 }
    }

    /// The most that it may hold now.
    pub(crate) fn most(&self) -> usize {
        let others = self.budget.used().saturating_sub(self.held);
        self.budget.total.saturating_sub(others) / 2
    }

    /// From now on it holds so much. Says whether it may: what it has, it may keep.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        if bytes > self.held && bytes > self.most() {
            return false;
        }
        if bytes > self.held {
            self.budget.used.fetch_add(bytes - self.held, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
        true
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_greedy_leave_over_as_much_as_each_of_them_has() {
        let budget = Budget::new(1200);
        let mut first = Account::new(budget.grant());
        let mut second = Account::new(budget.grant());
        assert!(!first.hold(601) && first.hold(600));
        assert!(!second.hold(301) && second.hold(300));
        assert!(first.hold(400) && second.hold(400) && !second.hold(401));
        drop(first);
        assert_eq!((budget.used(), second.most()), (400, 600));
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        /// Whatever journals want, there is always some left, and all of it comes back.
        #[test]
        fn it_is_never_exceeded(wants in prop::collection::vec((0..8_usize, 0..2000_usize), 1..100)) {
            let budget = Budget::new(1000);
            let mut accounts: Vec<_> = (0..8).map(|_| Account::new(budget.grant())).collect();
            for (which, bytes) in wants {
                accounts[which].hold(bytes);
                prop_assert_eq!(budget.used(), accounts.iter().map(|it| it.held).sum::<usize>());
                prop_assert!(budget.used() < budget.total());
            }
            drop(accounts);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
