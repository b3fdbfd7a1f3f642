//! Files on which nobody has said anything: they give way where others need the room.
//!
//! A program may open a node long before it uses it, or only to pass it on, and on Linux the file then stays open for as long
//! as anybody holds it. So a connection that does not greet is not closed for that. But it does not keep others out either:
//! once it has been silent for [`PATIENCE`], it is closed when a file is opened for which there is no room otherwise. A file
//! that has been greeted is never closed for its silence.

use std::time::Duration;

use tracing::warn;
use virgld_protocol::ids::FileId;
use virgld_runtime::{Fault, Time};

use super::actor::Door;
use super::file::File;

impl Door {
    /// Closes the file that has been silent longest of those of this user, or of anybody's; says whether there was one.
    pub(super) fn make_room(&mut self, user: Option<u32>) -> Result<bool, Fault> {
        let of_theirs = |file: &File| user.is_none_or(|uid| file.credentials.uid == uid);
        let giving_way = self.files.iter().filter(|(_, file)| of_theirs(file));
        let Some(id) = longest_silent(giving_way, self.now) else { return Ok(false) };
        if self.may_log_of(id) {
            let pid = self.files.get(&id).map_or(0, |file| file.credentials.pid);
            warn!(file = id.0, pid, "opened and never used; closed, as there is no room for another file");
        }
        self.close(id)?;
        Ok(true)
    }
}

/// The file that has been silent longest, if that is long enough. Files are numbered as they come.
fn longest_silent<'a>(files: impl Iterator<Item = (&'a FileId, &'a File)>, now: Time) -> Option<FileId> {
    let silent = |file: &File| file.silent_since.is_some_and(|since| now.since(since) >= PATIENCE);
    files.filter(|(_, file)| silent(file)).map(|(id, _)| *id).min()
}

/// A program that means to use a file at once does so within this. By the monotonic clock: what passes while the whole
/// machine sleeps does not count.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::file::tests_support::file;
    use super::*;

    #[test]
    fn the_longest_silent_gives_way_and_who_has_greeted_or_just_come_does_not() {
        let start = Time::default().after(Duration::from_secs(100));
        let since = |number: u64, silent_since: Option<u64>| {
            let mut file = file();
            file.silent_since = silent_since.map(|seconds| start.after(Duration::from_secs(seconds)));
            (FileId(number), file)
        };
        let files = [since(4, Some(3)), since(1, None), since(2, Some(1)), since(3, Some(2))];
        let at = |seconds, without: usize| {
            let left =
                files.iter().enumerate().filter(|(index, _)| *index != without).map(|(_, it)| (&it.0, &it.1));
            longest_silent(left, start.after(Duration::from_secs(seconds)))
        };
        assert_eq!(at(10, 9), None, "nobody for long enough");
        assert_eq!(at(11, 9), Some(FileId(2)));
        assert_eq!(at(11, 2), None, "the next not yet");
        assert_eq!(at(1000, 9), Some(FileId(2)));
        assert_eq!(at(1000, 2), Some(FileId(3)));
    }
}
