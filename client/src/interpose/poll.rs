//! `poll`, by which Mesa waits for a fence.
//!
//! A fence is a pipe, and the kernel says when it signals. The kernel does not know that a daemon hangs: the pipe of its
//! fence stays open. So a wait for a single descriptor that lasts is looked after if that is a fence of ours, and a fence
//! of a file that is given up ends as it would had the daemon died.

use std::ffi::c_int;

use virgld_protocol::errno::Errno;

use super::next::next;
use crate::patience::GLANCE;
use crate::{channel, foreign, process, sys};

type Poll = unsafe extern "C" fn(*mut libc::pollfd, libc::nfds_t, c_int) -> c_int;

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn poll(
    entries: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: c_int,
) -> c_int {
    let lasts = !(0..=AT_ONCE).contains(&timeout);
    if count != 1 || !(lasts || channel::any_lost()) || !process::uses_any() {
        return wait(entries, count, timeout);
    }
    let mut rest = timeout;
    if lasts && !channel::any_lost() {
        // Most fences signal soon. What is no fence costs one more call.
        let got = wait(entries, 1, AT_ONCE);
        if got != 0 {
            return got;
        }
        rest -= if rest < 0 { 0 } else { AT_ONCE };
    }
    let errno = sys::errno();
    let got = look_after(entries, rest);
    if got >= 0 {
        sys::set_errno(errno);
    }
    got
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __poll_chk(
    entries: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: c_int,
    room: usize,
) -> c_int {
    let fits = room / size_of::<libc::pollfd>();
    if usize::try_from(count).is_ok_and(|count| count <= fits) {
        // SAFETY: the program's promise.
        return unsafe { poll(entries, count, timeout) };
    }
    // It says what is wrong, and aborts.
    type PollChecked = unsafe extern "C" fn(*mut libc::pollfd, libc::nfds_t, c_int, usize) -> c_int;
    next!(__poll_chk(entries, count, timeout, room) as PollChecked, else -1)
}

/// glibc's own, because a thread that waits in it can be cancelled.
fn wait(entries: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
    next!(poll(entries, count, timeout) as Poll, else -1)
}

/// Waits on, for one descriptor, and if it is a fence of ours no longer than its daemon lives.
fn look_after(entry: *mut libc::pollfd, timeout: c_int) -> c_int {
    let known = foreign::check_writable(entry.cast(), size_of::<libc::pollfd>());
    // SAFETY: it can be read; the program's own other threads leave it alone during the call.
    let channel = known.ok().and_then(|()| process::channel_of_fence(unsafe { (*entry).fd }));
    let Some(channel) = channel else { return wait(entry, 1, timeout) };
    let (mut rest, mut patience) = (timeout, channel.patience());
    loop {
        let glance = GLANCE.cast_signed();
        let slice = match rest {
            _ if channel.is_gone() => 0,
            0.. => rest.min(glance),
            _ => glance,
        };
        let got = wait(entry, 1, slice);
        if got != 0 || (rest >= 0 && slice == rest && !channel.is_gone()) {
            return got;
        }
        rest -= if rest < 0 { 0 } else { slice };
        if channel.look(&mut patience) == Err(Errno::EIO) {
            // SAFETY: it can be written, as the kernel just did.
            unsafe { (*entry).revents = libc::POLLHUP };
            return 1;
        }
    }
}

/// How long a wait may be, in milliseconds, that is left to the kernel.
const AT_ONCE: c_int = 1000;
