//! What the door logs of clients: a bounded number of lines in a time, whoever causes them.

use tracing::warn;
use virgld_runtime::Time;

use super::actor::Door;
use crate::host::log_limit::{MOST_LINES, PERIOD};

impl Door {
    /// Whether the log takes another line on what a client did. Asked before each.
    pub(super) fn may_log(&mut self) -> bool {
        let (admitted, left_out) = self.log.take(self.now);
        tell(left_out);
        admitted
    }

    /// When to say how many lines were left out: a client that falls silent after a flood causes no more.
    pub(super) fn log_is_due(&self) -> Option<Time> {
        self.log.to_be_told()
    }

    /// Says how many lines were left out, if it is time to.
    pub(super) fn tell_what_was_left_out(&mut self) {
        if self.log_is_due().is_some_and(|time| time <= self.now) {
            tell(self.log.renew(self.now));
        }
    }
}

fn tell(left_out: u64) {
    if left_out > 0 {
        warn!("{left_out} lines on clients left out: the log takes {MOST_LINES} in {PERIOD:?}");
    }
}
