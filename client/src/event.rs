//! Events read from a DRM file.
//!
//! Each is a packet that the daemon sends on the connection which the file is, so that `poll` and `read` work by
//! themselves. What is left is where packets differ from the events of Linux: a read that is too small for one must
//! leave it where it is, a large one takes several, and a device that is gone is an error and not an end.

use std::os::fd::RawFd;

use virgld_protocol::client::kms::EventVblank;
use virgld_protocol::errno::Errno;

use crate::errno::Outcome;
use crate::patience::GLANCE;
use crate::{nodes, process, sys};

/// Bytes of an event.
pub(crate) const EVENT: usize = size_of::<EventVblank>();

/// Whether `fd` is a DRM file that may have events. One on which nothing was asked has none.
pub(crate) fn may_come_from(fd: RawFd) -> bool {
    process::uses_any()
        && sys::fstat(fd).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFSOCK)
        && nodes::recognise(fd).is_some()
}

/// What Linux does when there is no room for an event: it waits for one all the same, and then gives nothing.
pub(crate) fn without_room(fd: RawFd) -> Outcome<usize> {
    let waits = sys::status_flags(fd)? & libc::O_NONBLOCK == 0;
    let channel = process::channel_of(fd)?.ok_or(Errno::ENODEV)?;
    let mut patience = channel.patience();
    loop {
        let seen = sys::poll(fd, libc::POLLIN, if waits { GLANCE.cast_signed() } else { 0 });
        if seen & (libc::POLLHUP | libc::POLLERR) != 0 {
            return Err(Errno::ENODEV);
        }
        if seen & libc::POLLIN != 0 {
            return Ok(0);
        }
        if !waits {
            return Err(Errno::EAGAIN);
        }
        channel.look(&mut patience).map_err(|_| Errno::ENODEV)?;
    }
}

/// More events that are there already, behind the one that was read. Gives how many bytes there are now.
///
/// # Safety
///
/// `room` bytes can be written to `into`, and the first `got` of them hold an event.
pub(crate) unsafe fn more(fd: RawFd, into: *mut u8, mut got: usize, room: usize) -> usize {
    while room - got >= EVENT {
        // SAFETY: inside the room that the caller promised.
        let next = unsafe { libc::recv(fd, into.add(got).cast(), EVENT, libc::MSG_DONTWAIT) };
        match usize::try_from(next) {
            Ok(bytes) if bytes > 0 => got += bytes,
            _ => break,
        }
    }
    got
}
