//! What an actor's step sends, held back until the step has come to its end: for faults after it alone.

use std::cell::RefCell;

/// A message on its way.
pub(crate) type Sending = Box<dyn FnOnce() + Send>;

thread_local! {
    static HELD: RefCell<Option<Vec<Sending>>> = const { RefCell::new(None) };
}

/// From now on this thread's sends are held.
pub(crate) fn hold() {
    HELD.set(Some(Vec::new()));
}

/// Whether this thread's sends are held.
pub(crate) fn holds() -> bool {
    HELD.with_borrow(Option::is_some)
}

/// Holds this one too.
pub(crate) fn put(sending: Sending) {
    HELD.with_borrow_mut(|held| held.get_or_insert_default().push(sending));
}

/// Gives what was held; nothing is held any more.
pub(crate) fn take() -> Vec<Sending> {
    HELD.take().unwrap_or_default()
}

/// Sends what was held.
pub(crate) fn release(held: Vec<Sending>) {
    held.into_iter().for_each(|sending| sending());
}
