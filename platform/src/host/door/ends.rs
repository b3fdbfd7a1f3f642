//! The ends of channels and files: what was asked for before is taken, if its turn comes.
//!
//! A program may end with calls in its rings, and what it submitted last is to be executed. So a channel lasts until its ring
//! is empty, and a file until all its rings are. But a ring that is full of work behind a fence that never signals would last
//! for ever: who has gone, and of whose work nothing has retired for [`LINGER`], has the rest of it dropped, as Linux drops
//! what still waits when a file is closed.

use std::time::Duration;

use tracing::warn;
use virgld_protocol::ids::FileId;
use virgld_runtime::{Fault, Time};

use super::actor::Door;
use super::file::File;

impl Door {
    /// The process of a channel is gone.
    pub(super) fn process_ended(&mut self, id: u64) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.ending.get_or_insert(self.now);
        }
        self.activate(id);
    }

    /// Lets go of a channel that has ended, if its ring is empty, and of its file likewise.
    pub(super) fn end_what_is_over(&mut self, id: u64) -> Result<(), Fault> {
        let Some(channel) = self.channels.get(&id) else { return Ok(()) };
        let file = channel.file;
        match channel.ending {
            _ if channel.ring.has_more() => self.wait_for_end(channel.ending),
            Some(_) => self.drop_channel(id),
            None => {}
        }
        self.close_if_over(file)
    }

    /// Ends a file whose last descriptor is gone, once all that it was asked has been taken.
    pub(super) fn close_if_over(&mut self, id: FileId) -> Result<(), Fault> {
        let Some(file) = self.files.get(&id).filter(|file| file.closing.is_some()) else { return Ok(()) };
        let drained = |id: &u64| self.channels.get(id).is_none_or(|channel| !channel.ring.has_more());
        if file.channels.iter().all(drained) {
            return self.close(id);
        }
        self.wait_for_end(file.closing);
        Ok(())
    }

    /// What is to end at some time is looked at again.
    fn wait_for_end(&mut self, since: Option<Time>) {
        if since.is_some() {
            self.next_end.get_or_insert(self.now.after(LOOK_EVERY));
        }
    }

    fn drop_channel(&mut self, id: u64) {
        let Some(channel) = self.channels.remove(&id) else { return };
        if let Some(file) = self.files.get_mut(&channel.file) {
            file.channels.retain(|other| *other != id);
        }
    }

    /// Drops what is left of those who are gone, and of whose work nothing has retired for too long.
    pub(super) fn end_what_lingers(&mut self) -> Result<(), Fault> {
        self.next_end = None;
        let ending = |(id, channel): (&u64, &super::channel::Channel)| {
            let file = self.files.get(&channel.file)?;
            Some((*id, channel.file, lingers(file, channel.ending?, self.now)))
        };
        let channels: Vec<_> = self.channels.iter().filter_map(ending).collect();
        for (id, file, too_long) in channels {
            match too_long {
                true => self.drop_channel(id),
                false => self.wait_for_end(Some(self.now)),
            }
            self.close_if_over(file)?;
        }
        let closing = |(id, file): (&FileId, &File)| Some((*id, lingers(file, file.closing?, self.now)));
        let files: Vec<_> = self.files.iter().filter_map(closing).collect();
        for (id, too_long) in files {
            if !too_long {
                self.wait_for_end(Some(self.now));
                continue;
            }
            if self.may_log_of(id) {
                warn!(file = id.0, "what its client left waits for what does not come, and is dropped");
            }
            self.close(id)?;
        }
        Ok(())
    }
}

/// Whether it has been waited for long enough: nothing of the file has retired since.
fn lingers(file: &File, since: Time, now: Time) -> bool {
    now.since(since.max(file.last_retired)) >= LINGER
}

/// Linux gives the work of a process that ends a second. Here that of others may be before it, on a slow device.
const LINGER: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::file::tests_support::file;
    use super::*;

    #[test]
    fn who_is_gone_is_waited_for_as_long_as_work_retires() {
        let mut file = file();
        let at = |seconds| Time::default().after(Duration::from_secs(seconds));
        file.last_retired = at(3);
        assert!(!lingers(&file, at(5), at(14)) && lingers(&file, at(5), at(15)));
        file.last_retired = at(9);
        assert!(!lingers(&file, at(5), at(18)) && lingers(&file, at(5), at(19)));
    }
}
