//! libudev's monitors: those that ask for `drm` alone hear of our displays ([`crate::hotplug`]).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use virgld_protocol::errno::Errno;

use super::next::{Next, next};
use crate::errno::answer;
use crate::settings::settings;
use crate::{hotplug, sys};

type NewFromNetlink = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type AddFilter = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> c_int;
type OfMonitor = unsafe extern "C" fn(*mut c_void) -> c_int;
type Recv = unsafe extern "C" fn(c_int, *mut c_void, usize, c_int) -> isize;
type Recvmsg = unsafe extern "C" fn(c_int, *mut libc::msghdr, c_int) -> isize;

/// As in libudev.
///
/// # Safety
///
/// As in libudev.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn udev_monitor_new_from_netlink(
    udev: *mut c_void,
    name: *const c_char,
) -> *mut c_void {
    static NEXT: Next = Next::of(LIBUDEV, c"udev_monitor_new_from_netlink");
    let address = NEXT.address();
    if address.is_null() {
        sys::set_errno(Errno::ENOSYS);
        return std::ptr::null_mut();
    }
    // SAFETY: the symbol of this name has this type, by the manual.
    let function = unsafe { std::mem::transmute::<*mut c_void, NewFromNetlink>(address) };
    // SAFETY: the program's promise.
    let monitor = unsafe { function(udev, name) };
    // One that was there before and has gone may have been the same place's.
    for place in &BUSY {
        let _ = place.compare_exchange(monitor.addr(), 0, Ordering::AcqRel, Ordering::Relaxed);
    }
    monitor
}

/// As in libudev.
///
/// # Safety
///
/// As in libudev.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn udev_monitor_filter_add_match_subsystem_devtype(
    monitor: *mut c_void,
    subsystem: *const c_char,
    kind: *const c_char,
) -> c_int {
    static NEXT: Next = Next::of(LIBUDEV, c"udev_monitor_filter_add_match_subsystem_devtype");
    let address = NEXT.address();
    if address.is_null() {
        return -libc::ENOSYS;
    }
    // SAFETY: the symbol of this name has this type, by the manual.
    let function = unsafe { std::mem::transmute::<*mut c_void, AddFilter>(address) };
    // SAFETY: the program's promise.
    let result = unsafe { function(monitor, subsystem, kind) };
    if result >= 0 && settings().is_some() && !subsystem.is_null() {
        // SAFETY: the program's promise.
        let subsystem = unsafe { CStr::from_ptr(subsystem) };
        // SAFETY: libudev took it for a monitor.
        unsafe { asked_for(monitor, subsystem) };
    }
    result
}

/// A monitor is to hear of this subsystem. One that hears of others keeps its socket, for their sake.
///
/// # Safety
///
/// `monitor` is one of libudev's.
unsafe fn asked_for(monitor: *mut c_void, subsystem: &CStr) {
    let busy = |place: &AtomicUsize| place.load(Ordering::Acquire) == monitor.addr();
    if subsystem != c"drm" {
        if !BUSY.iter().any(busy) {
            let take = |place: &AtomicUsize| {
                place.compare_exchange(0, monitor.addr(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
            };
            let _ = BUSY.iter().any(take);
        }
    } else if !BUSY.iter().any(busy) {
        // Before the program is told the descriptor: it may put it into an epoll set before it has it receive.
        // SAFETY: the caller's promise.
        if let Some(fd) = unsafe { descriptor(monitor) }
            && !hotplug::is_taken_over(fd)
        {
            // Without a daemon that tells, it is left as it is.
            answer((), || hotplug::take_over(fd));
        }
    }
}

/// As in libudev.
///
/// # Safety
///
/// As in libudev.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn udev_monitor_enable_receiving(monitor: *mut c_void) -> c_int {
    static NEXT: Next = Next::of(LIBUDEV, c"udev_monitor_enable_receiving");
    // SAFETY: the program's promise.
    if settings().is_some() && unsafe { descriptor(monitor) }.is_some_and(hotplug::is_taken_over) {
        // There is no socket to bind.
        return 0;
    }
    // SAFETY: the program's promise.
    unsafe { of_monitor(&NEXT, monitor) }.unwrap_or(-libc::ENOSYS)
}

/// The descriptor of a monitor.
///
/// # Safety
///
/// `monitor` is null or one of libudev's.
unsafe fn descriptor(monitor: *mut c_void) -> Option<c_int> {
    static NEXT: Next = Next::of(LIBUDEV, c"udev_monitor_get_fd");
    // SAFETY: the caller's promise.
    unsafe { of_monitor(&NEXT, monitor) }.filter(|fd| *fd >= 0)
}

/// # Safety
///
/// `monitor` is null or one of libudev's, and the function takes a monitor and gives a number.
unsafe fn of_monitor(next: &Next, monitor: *mut c_void) -> Option<c_int> {
    let address = next.address();
    if address.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let function = unsafe { std::mem::transmute::<*mut c_void, OfMonitor>(address) };
    // SAFETY: the caller's promise.
    Some(unsafe { function(monitor) })
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recvmsg(fd: c_int, message: *mut libc::msghdr, flags: c_int) -> isize {
    // glibc's own, because a thread that waits in it can be cancelled.
    let got = next!(recvmsg(fd, message, flags) as Recvmsg, else -1);
    if got == -1 && sys::errno().0 == libc::ENOTSOCK && settings().is_some() {
        // SAFETY: the program's promise.
        return answer(-1, || unsafe { hotplug::receive(fd, message) }.map(usize::cast_signed));
    }
    got
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recv(fd: c_int, into: *mut c_void, room: usize, flags: c_int) -> isize {
    let got = next!(recv(fd, into, room, flags) as Recv, else -1);
    let asked = flags & libc::MSG_PEEK != 0 && room == 0;
    if asked && got == -1 && sys::errno().0 == libc::ENOTSOCK && settings().is_some() {
        return answer(-1, || hotplug::length(fd).map(usize::cast_signed));
    }
    got
}

const LIBUDEV: &CStr = c"libudev.so.1";

/// The monitors that hear of other subsystems: programs have two or three. One that finds no place here is not noted.
static BUSY: [AtomicUsize; 16] = [const { AtomicUsize::new(0) }; 16];
