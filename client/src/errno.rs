//! Results inside the library, and as C programs see them.

use virgld_protocol::errno::Errno;

use crate::sys;

/// What a call comes to.
pub(crate) type Outcome<T> = Result<T, Errno>;

/// Runs `call` for the program: on success `errno` is as it was before, on failure it says why. A panic is EIO:
/// it must not unwind into C.
pub(crate) fn answer<T>(failure: T, call: impl FnOnce() -> Outcome<T>) -> T {
    let before = sys::errno();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_or(Err(Errno::EIO));
    match outcome {
        Ok(value) => {
            sys::set_errno(before);
            value
        }
        Err(errno) => {
            sys::set_errno(errno);
            failure
        }
    }
}
