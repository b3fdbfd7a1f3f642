//! What the door logs of clients: a bounded number of lines in a time, of which each client has a share.

use tracing::warn;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::scheme::Credentials;
use virgld_runtime::Time;

use super::actor::Door;
use crate::host::log_limit::{LeftOut, MOST_LINES, PERIOD, Speaker};

impl Door {
    /// Whether the log takes another line on what this client did. Asked before each.
    pub(super) fn may_log(&mut self, client: Credentials) -> bool {
        let speaker = Speaker { user: client.uid, process: client.pid };
        let (admitted, left_out) = self.log.take(self.now, speaker);
        tell(left_out);
        admitted
    }

    /// The same of who opened a file.
    pub(super) fn may_log_of(&mut self, file: FileId) -> bool {
        let client = self.files.get(&file).map(|file| file.credentials);
        self.may_log(client.unwrap_or_default())
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

fn tell(left_out: Option<LeftOut>) {
    let Some(LeftOut { lines, most }) = left_out else { return };
    let loudest = most.map_or(String::new(), |(Speaker { user, process }, lines)| {
        format!("; {lines} of them on process {process} of user {user}")
    });
    warn!("{lines} lines on clients left out: the log takes {MOST_LINES} in {PERIOD:?}{loudest}");
}
