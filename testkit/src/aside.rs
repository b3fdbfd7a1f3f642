//! What the test's own actors do on the stage of those that are tested: a test that counts must not count it.

use std::cell::Cell;

thread_local! {
    static ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// Does something that is not of the system.
pub(crate) fn aside<T>(what: impl FnOnce() -> T) -> T {
    let before = ASIDE.replace(true);
    let done = what();
    ASIDE.set(before);
    done
}

/// Whether this thread is about something that is not of the system.
pub fn is_aside() -> bool {
    ASIDE.get()
}
