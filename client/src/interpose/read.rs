//! `read`: events ([`crate::event`]). Whatever is no DRM file costs a comparison.

use std::ffi::{c_int, c_void};

use virgld_protocol::errno::Errno;

use super::next::next;
use crate::errno::answer;
use crate::event::{self, EVENT};
use crate::sys;

type Read = unsafe extern "C" fn(c_int, *mut c_void, usize) -> isize;

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn read(fd: c_int, into: *mut c_void, room: usize) -> isize {
    if (1..EVENT).contains(&room) && event::may_come_from(fd) {
        return answer(-1, || event::without_room(fd).map(usize::cast_signed));
    }
    // glibc's own, because a thread that waits in it can be cancelled.
    let got = next!(read(fd, into, room) as Read, else -1);
    let errno = sys::errno();
    let one = got == EVENT.cast_signed() && room >= 2 * EVENT;
    let end = room > 0 && (got == 0 || got == -1 && errno.0 == libc::ECONNRESET);
    if !one && !end {
        return got;
    }
    let ours = event::may_come_from(fd);
    sys::set_errno(errno);
    if !ours {
        return got;
    }
    if end {
        sys::set_errno(Errno::ENODEV);
        return -1;
    }
    // SAFETY: the program's promise; one event was read.
    let got = unsafe { event::more(fd, into.cast(), EVENT, room) };
    sys::set_errno(errno);
    got.cast_signed()
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __read_chk(
    fd: c_int,
    into: *mut c_void,
    wanted: usize,
    room: usize,
) -> isize {
    // SAFETY: the program's promise. glibc would abort where the room is smaller than was claimed.
    unsafe { read(fd, into, wanted.min(room)) }
}
