//! Queues from any thread to one, in memory that is kept: what waits takes none once the queue has found its size.
//!
//! The lock is held to put one thing in, or to take one out, and no longer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What waits.
pub(crate) struct Queue<T> {
    inside: Mutex<Inside<T>>,
}

struct Inside<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { inside: Mutex::new(Inside { waiting: VecDeque::new(), closed: false }) }
    }
}

impl<T> Queue<T> {
    /// Puts one in, behind all others.
    pub(crate) fn put(&self, one: T) -> Put {
        let mut inside = self.inside();
        if inside.closed {
            return Put::Nobody;
        }
        let alone = inside.waiting.is_empty();
        inside.waiting.push_back(one);
        if alone { Put::Alone } else { Put::Behind }
    }

    /// Takes the first.
    pub(crate) fn take(&self) -> Option<T> {
        self.take_of_all().map(|(one, _)| one)
    }

    /// Takes the first, and says whether more wait behind it.
    pub(crate) fn take_of_all(&self) -> Option<(T, bool)> {
        let mut inside = self.inside();
        let one = inside.waiting.pop_front()?;
        let more = !inside.waiting.is_empty();
        if !more && inside.waiting.capacity() > MOST_KEPT {
            // A flood is over: the memory that it took goes back.
            inside.waiting.shrink_to(MOST_KEPT);
        }
        Some((one, more))
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.inside().waiting.is_empty()
    }

    /// Nobody takes any more. What waits is dropped.
    pub(crate) fn close(&self) {
        let mut inside = self.inside();
        inside.closed = true;
        let left = std::mem::take(&mut inside.waiting);
        // What is dropped may have something to say to this very queue.
        drop(inside);
        drop(left);
    }

    fn inside(&self) -> MutexGuard<'_, Inside<T>> {
        // Nothing that panics runs under the lock.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of something that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It waits, and nothing else does: whoever takes must be told.
    Alone,
    /// It waits behind others, of which whoever takes was told.
    Behind,
    /// There is nobody to take it.
    Nobody,
}

/// Room for so many is kept.
const MOST_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn put<T>(queue: &Queue<T>, one: T) {
        assert_ne!(queue.put(one), Put::Nobody);
    }

    #[test]
    fn what_was_put_in_first_comes_out_first() {
        let queue = Queue::default();
        assert!(queue.is_empty() && queue.take().is_none());
        assert_eq!(queue.put(0), Put::Alone);
        (1..3).for_each(|number| assert_eq!(queue.put(number), Put::Behind));
        assert_eq!(queue.take_of_all(), Some((0, true)));
        assert!(queue.put(3) == Put::Behind && !queue.is_empty());
        let rest: Vec<_> = std::iter::from_fn(|| queue.take_of_all()).collect();
        assert_eq!(rest, [(1, true), (2, true), (3, false)]);
        assert!(queue.is_empty());
        assert_eq!(queue.put(4), Put::Alone, "after the last was taken");
    }

    #[test]
    fn taken_one_by_one_they_come_in_order_and_the_memory_of_a_flood_goes_back() {
        let queue = Queue::default();
        (0..100 * MOST_KEPT).for_each(|number| put(&queue, number));
        assert!((0..100 * MOST_KEPT).all(|number| queue.take() == Some(number)));
        assert_eq!(queue.take(), None);
        assert!(queue.inside().waiting.capacity() <= 2 * MOST_KEPT);
    }

    #[test]
    fn a_closed_queue_keeps_nothing() {
        let (queue, kept) = (Queue::default(), Arc::new(()));
        put(&queue, kept.clone());
        queue.close();
        assert_eq!(queue.put(kept.clone()), Put::Nobody);
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    #[test]
    fn memory_is_kept_but_for_that_of_a_flood() {
        let queue = Queue::default();
        for count in [10, 100 * MOST_KEPT, 10, 10] {
            (0..count).for_each(|number| put(&queue, number));
            while queue.take().is_some() {}
        }
        let room = queue.inside().waiting.capacity();
        assert!((1..=4 * MOST_KEPT).contains(&room), "{room}");
    }

    #[test]
    fn many_threads_put_in_and_nothing_is_lost() {
        let queue = Queue::default();
        let mut next = [0; 4];
        std::thread::scope(|scope| {
            for thread in 0..next.len() {
                let queue = &queue;
                scope.spawn(move || (0..500).for_each(|number| put(queue, (thread, number))));
            }
            while next.iter().any(|next| *next < 500) {
                if let Some((thread, number)) = queue.take() {
                    assert_eq!(number, next[thread], "in order");
                    next[thread] += 1;
                }
            }
        });
        assert!(queue.is_empty());
    }
}
