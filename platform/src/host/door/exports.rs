//! Buffers and synchronisation objects that were given away as descriptors: telling them apart when they come
//! back, and knowing when nobody holds one any more.
//!
//! A buffer is a memfd. What is given away is a second open file description, made through /proc; the kernel
//! grants a write lease on a third one, ours, only while no other is open for writing, in whatever process and
//! mapped or not (`fcntl(2)`, F_SETLEASE). A synchronisation object is a pipe whose writing end is ours: it
//! reports an error once no reading end is left.
//!
//! Whoever opens a buffer in the moment of the lease breaks it, and the kernel tells us by SIGIO.

use foldhash::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io;
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::SIGIO;
use virgld_protocol::message::scheme::{ExportKey, SyncobjKey};

use super::fences::Identity;
use crate::host::memory::SharedMemory;
use crate::host::reactor::Registration;

/// What is given away.
#[derive(Default)]
pub(super) struct Exports {
    buffers: HashMap<ExportKey, Buffer>,
    known_buffers: HashMap<Identity, ExportKey>,
    syncobjs: HashMap<SyncobjKey, Syncobj>,
    known_syncobjs: HashMap<Identity, SyncobjKey>,
}

struct Buffer {
    /// Open for writing, and never passed on.
    ours: OwnedFd,
    identity: Identity,
    watched: bool,
}

struct Syncobj {
    writing: Arc<OwnedFd>,
    identity: Identity,
    _watch: Registration,
}

impl Exports {
    /// A descriptor of `memory` to give away under `key`.
    pub(super) fn open_buffer(&mut self, key: ExportKey, memory: &SharedMemory) -> io::Result<OwnedFd> {
        if !self.buffers.contains_key(&key) {
            let ours = reopen(memory.fd(), OFlags::RDWR)?;
            let (identity, _) = Identity::of(&ours).ok_or(io::Errno::BADF)?;
            self.known_buffers.insert(identity, key);
            self.buffers.insert(key, Buffer { ours, identity, watched: false });
        }
        reopen(memory.fd(), OFlags::RDWR)
    }

    /// Which buffer has this identity.
    pub(super) fn find_buffer(&self, identity: Identity) -> Option<ExportKey> {
        self.known_buffers.get(&identity).copied()
    }

    /// From now on it matters whether anybody holds it. Says whether anybody can: there may never have been a descriptor.
    pub(super) fn watch_buffer(&mut self, key: ExportKey) -> bool {
        let Some(buffer) = self.buffers.get_mut(&key) else { return false };
        buffer.watched = true;
        true
    }

    /// Forgets a buffer.
    pub(super) fn forget_buffer(&mut self, key: ExportKey) {
        if let Some(buffer) = self.buffers.remove(&key)
            && self.known_buffers.get(&buffer.identity) == Some(&key)
        {
            self.known_buffers.remove(&buffer.identity);
        }
    }

    /// Whether any buffer is watched.
    pub(super) fn watches(&self) -> bool {
        self.buffers.values().any(|buffer| buffer.watched)
    }

    /// Watched buffers that nobody holds. Each is named once.
    pub(super) fn unused_buffers(&mut self) -> Vec<ExportKey> {
        let unused = |(key, buffer): (&ExportKey, &mut Buffer)| {
            let unused = buffer.watched && is_alone(buffer.ours.as_fd());
            buffer.watched &= !unused;
            unused.then_some(*key)
        };
        self.buffers.iter_mut().filter_map(unused).collect()
    }

    /// A descriptor of a synchronisation object to give away. `watch` registers the writing end.
    pub(super) fn open_syncobj(
        &mut self,
        key: SyncobjKey,
        watch: impl FnOnce(Arc<OwnedFd>) -> io::Result<Registration>,
    ) -> io::Result<OwnedFd> {
        if let Some(syncobj) = self.syncobjs.get(&key) {
            return reopen(syncobj.writing.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK);
        }
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (identity, _) = Identity::of(&reading).ok_or(io::Errno::BADF)?;
        let writing = Arc::new(writing);
        let watch = watch(writing.clone())?;
        self.known_syncobjs.insert(identity, key);
        self.syncobjs.insert(key, Syncobj { writing, identity, _watch: watch });
        Ok(reading)
    }

    /// Whether there is, or was until a moment ago, a descriptor of this synchronisation object.
    pub(super) fn has_syncobj(&self, key: SyncobjKey) -> bool {
        self.syncobjs.contains_key(&key)
    }

    /// Which synchronisation object has this identity.
    pub(super) fn find_syncobj(&self, identity: Identity) -> Option<SyncobjKey> {
        self.known_syncobjs.get(&identity).copied()
    }

    /// Forgets a synchronisation object if nobody holds it any more, and says whether that is so.
    pub(super) fn reap_syncobj(&mut self, key: SyncobjKey) -> bool {
        let Some(syncobj) = self.syncobjs.get(&key) else { return false };
        let mut entry = [PollFd::new(&*syncobj.writing, PollFlags::empty())];
        let polled = poll(&mut entry, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        if polled != Ok(1) || !entry[0].revents().contains(PollFlags::ERR) {
            return false;
        }
        self.known_syncobjs.remove(&syncobj.identity);
        self.syncobjs.remove(&key);
        true
    }
}

/// Another open file description of the same file.
fn reopen(file: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty())
}

/// Whether no other description of this file is open for writing.
fn is_alone(ours: BorrowedFd<'_>) -> bool {
    lease(ours, libc::F_WRLCK) && lease(ours, libc::F_UNLCK)
}

/// Asks for a lease, or gives one back; says whether that was granted.
fn lease(ours: BorrowedFd<'_>, kind: libc::c_int) -> bool {
    // SAFETY: no memory is passed; the descriptor is open for as long as it is borrowed.
    unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
}

/// Lets the process live through SIGIO, whose default action ends it: a client that opens its buffer again and
/// again would sooner or later do so in the moment of our lease. A handler that only sets a flag, and not
/// `SIG_IGN`: the device process would inherit that.
pub(super) fn survive_broken_leases() -> std::io::Result<()> {
    signal_hook::flag::register(SIGIO, Arc::default()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    use virgld_runtime::memory::Memory;

    use super::*;

    const KEY: ExportKey = ExportKey(7);

    #[test]
    fn a_buffer_is_unused_when_the_last_copy_and_the_last_mapping_are_gone() {
        let memory = SharedMemory::new("buffer", 4096).unwrap();
        let mut exports = Exports::default();
        let given = exports.open_buffer(KEY, &memory).unwrap();
        let second = exports.open_buffer(KEY, &memory).unwrap();
        assert_eq!(exports.find_buffer(Identity::of(&given).unwrap().0), Some(KEY));
        assert!(exports.watch_buffer(KEY) && !exports.watch_buffer(ExportKey(8)));
        assert!(exports.watches() && exports.unused_buffers().is_empty());
        drop(second);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for.
        let mapped =
            unsafe { mmap(std::ptr::null_mut(), 4096, protection, MapFlags::SHARED, &given, 0) }.unwrap();
        drop(given);
        assert!(exports.unused_buffers().is_empty(), "it is still mapped");
        // SAFETY: the range mapped above, which nobody uses.
        unsafe { munmap(mapped, 4096) }.unwrap();
        memory.write(0, &[1]).unwrap();
        assert_eq!(exports.unused_buffers(), [KEY], "the daemon's own mapping does not count");
        assert!(exports.unused_buffers().is_empty() && !exports.watches());
        exports.forget_buffer(KEY);
        assert_eq!(exports.find_buffer(Identity::of(memory.fd()).unwrap().0), None);
    }

    #[test]
    fn whoever_breaks_a_lease_does_not_end_the_process() {
        survive_broken_leases().unwrap();
        let memory = SharedMemory::new("buffer", 4096).unwrap();
        let ours = reopen(memory.fd(), OFlags::RDWR).unwrap();
        assert!(lease(ours.as_fd(), libc::F_WRLCK));
        // It does not wait for the lease to be given back, but breaks it all the same.
        let second = reopen(memory.fd(), OFlags::RDWR | OFlags::NONBLOCK);
        assert_eq!(second.err(), Some(io::Errno::AGAIN));
        assert!(lease(ours.as_fd(), libc::F_UNLCK));
        assert!(reopen(memory.fd(), OFlags::RDWR).is_ok() && is_alone(ours.as_fd()));
    }

    #[test]
    fn a_synchronisation_object_is_reaped_when_its_last_descriptor_is_gone() {
        let reactor = crate::host::reactor::Reactor::new().unwrap();
        let registrar = reactor.registrar();
        let watch = |source: Arc<OwnedFd>| {
            use crate::host::reactor::{Interest, Trigger};
            registrar.register(source, Interest::Write, Trigger::Edge, 1, Box::new(|_| true))
        };
        let (mut exports, key) = (Exports::default(), SyncobjKey(1));
        let first = exports.open_syncobj(key, watch).unwrap();
        let second = exports.open_syncobj(key, |_| unreachable!("it is there already")).unwrap();
        let identity = Identity::of(&second).unwrap().0;
        assert_eq!(exports.find_syncobj(identity), Some(key));
        drop(first);
        assert!(!exports.reap_syncobj(key));
        drop(second);
        assert!(exports.reap_syncobj(key));
        assert_eq!(exports.find_syncobj(identity), None);
    }
}
