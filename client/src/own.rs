//! The library's own descriptors: out of the program's way, and closed in a child of `fork`.
//!
//! A child must not hold the parent's channels open: the daemon learns from their closing that the parent died.
//! What a program opens gets the lowest free number; so ours begin at 200, where few programs come to look.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::sys;

/// A descriptor of the library; closed when dropped.
#[derive(Debug)]
pub(crate) struct OwnFd {
    fd: RawFd,
    /// Where in [`OPEN`] it is noted; nowhere if there was no room.
    place: Option<usize>,
    inode: u64,
    pipe: bool,
}

impl OwnFd {
    /// Takes over `fd`, which nobody else knows.
    pub(crate) fn adopt(fd: RawFd) -> Self {
        let fd = match sys::duplicate_above(fd, FIRST) {
            Ok(above) => {
                sys::close(fd);
                above
            }
            // A limit below 200: it stays where it is.
            Err(_) => fd,
        };
        let note = |place: &usize| {
            OPEN[*place].compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let (inode, kind) =
            sys::fstat(fd).map_or((0, 0), |status| (status.st_ino, status.st_mode & libc::S_IFMT));
        Self { fd, place: (0..OPEN.len()).find(note), inode, pipe: kind == libc::S_IFIFO }
    }

    /// The inode of the pipe that it is an end of.
    pub(crate) fn pipe(&self) -> Option<u64> {
        self.pipe.then_some(self.inode)
    }

    /// Its number.
    pub(crate) fn raw(&self) -> RawFd {
        self.fd
    }

    /// Gives it to the program: it is not ours any more.
    pub(crate) fn release(self) -> RawFd {
        let fd = self.fd;
        self.forget();
        std::mem::forget(self);
        fd
    }

    fn forget(&self) {
        if let Some(place) = self.place {
            OPEN[place].store(-1, Ordering::Release);
        }
    }
}

impl Drop for OwnFd {
    fn drop(&mut self) {
        self.forget();
        // A program that closed every descriptor it could find may have this number in use for its own.
        if sys::fstat(self.fd).is_ok_and(|status| status.st_ino == self.inode) {
            sys::close(self.fd);
        }
    }
}

/// In a child of `fork`: closes what the parent had. Calls nothing but the kernel.
pub(crate) fn close_all() {
    for place in &OPEN {
        let fd = place.swap(-1, Ordering::AcqRel);
        if fd >= 0 {
            sys::close(fd);
        }
    }
}

const FIRST: RawFd = 200;

static OPEN: [AtomicI32; 1024] = [const { AtomicI32::new(-1) }; 1024];
