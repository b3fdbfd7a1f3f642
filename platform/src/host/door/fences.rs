//! Fences as descriptors: the reading ends of pipes.
//!
//! When a fence signals, four bytes of status are written and the writing end closes. The daemon keeps no reading
//! end, so a fence that nobody holds costs one descriptor until it signals. Writing never blocks: four bytes
//! always fit, unless the client filled its own pipe, and then the end alone is the signal.

use foldhash::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{self, write};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId};

use crate::host::reactor::Registration;

/// Which file a descriptor refers to, whoever holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// That of `descriptor`, and whether it is a pipe.
    pub(super) fn of(descriptor: impl AsFd) -> Option<(Self, bool)> {
        let status = fstat(descriptor).ok()?;
        let pipe = FileType::from_raw_mode(status.st_mode) == FileType::Fifo;
        Some((Self { device: status.st_dev, inode: status.st_ino }, pipe))
    }
}

/// All fences that have not signalled.
#[derive(Default)]
pub(super) struct Fences {
    ours: HashMap<FenceKey, Vec<(OwnedFd, Identity)>>,
    known: HashMap<Identity, FenceKey>,
    foreign: HashMap<FenceKey, Foreign>,
    next: u64,
}

/// A fence of somebody else's that is watched.
struct Foreign {
    file: FileId,
    source: Arc<OwnedFd>,
    _watch: Registration,
}

impl Fences {
    /// A key that no fence has. Those of the scheme have the highest bit set.
    pub(super) fn fresh(&mut self) -> FenceKey {
        self.next += 1;
        FenceKey(self.next)
    }

    /// A descriptor that signals when `fence` does.
    pub(super) fn open(&mut self, fence: FenceKey) -> io::Result<OwnedFd> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (identity, _) = Identity::of(&reading).ok_or(io::Errno::BADF)?;
        self.known.insert(identity, fence);
        self.ours.entry(fence).or_default().push((writing, identity));
        Ok(reading)
    }

    /// A descriptor of a fence that has signalled.
    pub(super) fn signalled(result: Result<(), Errno>) -> io::Result<OwnedFd> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        write(&writing, &status(result))?;
        Ok(reading)
    }

    /// `fence` has signalled: so do its descriptors.
    pub(super) fn signal(&mut self, fence: FenceKey, result: Result<(), Errno>) {
        for (writing, identity) in self.ours.remove(&fence).unwrap_or_default() {
            self.known.remove(&identity);
            // It fails where nobody holds the other end any more.
            let _ = write(&writing, &status(result));
        }
    }

    /// Which of ours has this identity.
    pub(super) fn find(&self, identity: Identity) -> Option<FenceKey> {
        self.known.get(&identity).copied()
    }

    /// Keeps a foreign fence until it is over.
    pub(super) fn watch(&mut self, fence: FenceKey, file: FileId, source: Arc<OwnedFd>, watch: Registration) {
        self.foreign.insert(fence, Foreign { file, source, _watch: watch });
    }

    /// The result of a foreign fence, if it has one now, and for which file it was watched; it is no more.
    pub(super) fn take_foreign(&mut self, fence: FenceKey) -> Option<(FileId, Result<(), Errno>)> {
        let foreign = self.foreign.get(&fence)?;
        let found = (foreign.file, result_of(foreign.source.as_fd())?);
        self.foreign.remove(&fence);
        Some(found)
    }

    /// Watches a foreign fence no more.
    pub(super) fn drop_foreign(&mut self, fence: FenceKey) {
        self.foreign.remove(&fence);
    }
}

/// What a pipe that stands for a fence says, if it says anything. Its bytes stay: others look at them too.
pub(super) fn result_of(pipe: BorrowedFd<'_>) -> Option<Result<(), Errno>> {
    let mut entry = [PollFd::new(&pipe, PollFlags::IN)];
    if poll(&mut entry, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(1) {
        return None;
    }
    let ready = entry[0].revents();
    if !ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
        return None;
    }
    Some(peek(pipe).unwrap_or_else(|error| Err(Errno(error.raw_os_error()))))
}

/// The status in a pipe. One that ended without a word is the fence of a daemon that died.
fn peek(pipe: BorrowedFd<'_>) -> io::Result<Result<(), Errno>> {
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let mut bytes = [0; 4];
    if tee(pipe, writing, bytes.len(), SpliceFlags::NONBLOCK)? < bytes.len() {
        return Ok(Err(Errno::EIO));
    }
    io::read(reading, &mut bytes)?;
    // A foreign pipe may say anything.
    Ok(match i32::from_le_bytes(bytes).clamp(0, 4095) {
        0 => Ok(()),
        errno => Err(Errno(errno)),
    })
}

fn status(result: Result<(), Errno>) -> [u8; 4] {
    result.err().map_or(0, |errno| errno.0).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_of_a_fence_signals_and_can_be_looked_at_again_and_again() {
        let mut fences = Fences::default();
        let fence = fences.fresh();
        let copies = [fences.open(fence).unwrap(), fences.open(fence).unwrap()];
        for copy in &copies {
            assert_eq!(result_of(copy.as_fd()), None);
            assert_eq!(fences.find(Identity::of(copy).unwrap().0), Some(fence));
        }
        fences.signal(fence, Err(Errno::EIO));
        for copy in &copies {
            assert_eq!(result_of(copy.as_fd()), Some(Err(Errno::EIO)));
            assert_eq!(result_of(copy.as_fd()), Some(Err(Errno::EIO)));
            assert_eq!(fences.find(Identity::of(copy).unwrap().0), None);
        }
        assert_eq!(result_of(Fences::signalled(Ok(())).unwrap().as_fd()), Some(Ok(())));
    }

    #[test]
    fn a_fence_whose_daemon_died_has_failed() {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        assert_eq!(result_of(reading.as_fd()), None);
        drop(writing);
        assert_eq!(result_of(reading.as_fd()), Some(Err(Errno::EIO)));
    }

    #[test]
    fn a_pipe_that_its_reader_filled_does_not_block_the_daemon() {
        let mut fences = Fences::default();
        let fence = fences.fresh();
        let copy = fences.open(fence).unwrap();
        let back = std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy)))
            .unwrap();
        rustix::io::ioctl_fionbio(&back, true).unwrap();
        while write(&back, &[0; 4096]).is_ok() {}
        fences.signal(fence, Ok(()));
        assert_eq!(result_of(copy.as_fd()), Some(Ok(())));
    }
}
