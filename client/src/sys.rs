//! The kernel, called directly: what glibc offers under these names are the library's own wrappers.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::fd::RawFd;
use std::time::Duration;

use virgld_protocol::errno::Errno;

use crate::errno::Outcome;

/// The calling thread's `errno`.
pub(crate) fn errno() -> Errno {
    // SAFETY: glibc gives every thread its own, valid for the thread's life.
    Errno(unsafe { *libc::__errno_location() })
}

/// Sets the calling thread's `errno`.
pub(crate) fn set_errno(errno: Errno) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno.0 };
}

/// The outcome of a system call that returned `value`.
pub(crate) fn outcome(value: c_long) -> Outcome<c_long> {
    if value == -1 { Err(errno()) } else { Ok(value) }
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel returns an int in these calls")]
fn int(value: c_long) -> c_int {
    value as c_int
}

/// # Safety
///
/// `path` is what the program gave; the kernel checks it.
pub(crate) unsafe fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the kernel answers EFAULT for a bad pointer.
    int(unsafe { libc::syscall(libc::SYS_openat, directory, path, flags, mode) })
}

/// # Safety
///
/// As the ioctl demands.
pub(crate) unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: passed on as it came.
    int(unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) })
}

/// # Safety
///
/// As `mmap` demands.
pub(crate) unsafe fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: passed on as it came.
    let mapped = unsafe { libc::syscall(libc::SYS_mmap, address, length, protection, flags, fd, offset) };
    mapped as *mut c_void
}

/// # Safety
///
/// `status` is writable, as the program promised.
pub(crate) unsafe fn fstatat(
    directory: c_int,
    path: *const c_char,
    status: *mut libc::stat,
    flags: c_int,
) -> c_int {
    // SAFETY: the kernel checks the pointers; its structure is glibc's on 64-bit targets.
    int(unsafe { libc::syscall(libc::SYS_newfstatat, directory, path, status, flags) })
}

/// # Safety
///
/// As for [`fstatat`].
pub(crate) unsafe fn fstatfs(fd: c_int, status: *mut libc::statfs) -> c_int {
    // SAFETY: the kernel checks the pointer; its structure is glibc's on 64-bit targets.
    int(unsafe { libc::syscall(libc::SYS_fstatfs, fd, status) })
}

/// Whether there is a directory at `path`.
pub(crate) fn is_directory(path: &CStr) -> bool {
    // SAFETY: all bytes zero is a legal value of this structure of integers.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a C string and room of ours.
    let found = unsafe { fstatat(libc::AT_FDCWD, path.as_ptr(), &raw mut status, 0) } == 0;
    found && status.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// # Safety
///
/// As for [`fstatat`].
pub(crate) unsafe fn statx(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    status: *mut libc::statx,
) -> c_int {
    // SAFETY: the kernel checks the pointers.
    int(unsafe { libc::syscall(libc::SYS_statx, directory, path, flags, mask, status) })
}

/// # Safety
///
/// `into` has room for `size` bytes.
pub(crate) unsafe fn readlinkat(
    directory: c_int,
    path: *const c_char,
    into: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: the kernel checks the pointers.
    let length = unsafe { libc::syscall(libc::SYS_readlinkat, directory, path, into, size) };
    isize::try_from(length).unwrap_or(-1)
}

/// # Safety
///
/// `path` is what the program gave; the kernel checks it.
pub(crate) unsafe fn faccessat(directory: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
    if flags == 0 {
        // SAFETY: the kernel checks the pointer.
        return int(unsafe { libc::syscall(libc::SYS_faccessat, directory, path, mode) });
    }
    // SAFETY: the kernel checks the pointer.
    int(unsafe { libc::syscall(libc::SYS_faccessat2, directory, path, mode, flags) })
}

/// What a descriptor refers to.
pub(crate) fn fstat(fd: RawFd) -> Outcome<libc::stat> {
    // SAFETY: all bytes zero is a legal value of this structure of integers.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is ours and of the kernel's layout.
    outcome(unsafe { libc::syscall(libc::SYS_fstat, fd, &raw mut status) })?;
    Ok(status)
}

/// Closes a descriptor that is ours.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: closing harms no memory; that nobody else uses the descriptor is the caller's word.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// A copy of `fd` numbered `from` or higher, closed at exec.
pub(crate) fn duplicate_above(fd: RawFd, from: RawFd) -> Outcome<RawFd> {
    // SAFETY: no memory is passed.
    outcome(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, from) }).map(int)
}

/// Sets the descriptor's flags (`FD_CLOEXEC` or none).
pub(crate) fn set_close_on_exec(fd: RawFd, close: bool) {
    // SAFETY: no memory is passed.
    unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, if close { libc::FD_CLOEXEC } else { 0 }) };
}

/// The status flags of the open file (`O_*`).
pub(crate) fn status_flags(fd: RawFd) -> Outcome<c_int> {
    // SAFETY: no memory is passed.
    outcome(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) }).map(int)
}

/// Sets the status flags of the open file.
pub(crate) fn set_status_flags(fd: RawFd, flags: c_int) -> Outcome<()> {
    // SAFETY: no memory is passed.
    outcome(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFL, flags) }).map(drop)
}

/// Writes all of `bytes`, which is few.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Outcome<()> {
    // SAFETY: the bytes are ours to read.
    outcome(unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) }).map(drop)
}

/// A copy of up to `into.len()` bytes that wait in a pipe; they stay there.
pub(crate) fn peek_pipe(fd: RawFd, into: &mut [u8]) -> Outcome<usize> {
    let mut ends = [0; 2];
    // SAFETY: `ends` is ours and two ints long.
    outcome(unsafe { libc::syscall(libc::SYS_pipe2, &raw mut ends, libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: no memory is passed.
    let copied = unsafe { libc::syscall(libc::SYS_tee, fd, ends[1], into.len(), libc::SPLICE_F_NONBLOCK) };
    let copied = match outcome(copied) {
        // Nothing there, but somebody could still write.
        Err(Errno(libc::EAGAIN)) => Ok(0),
        other => other,
    };
    let copied = copied.and_then(|count| match count {
        0 => Ok(0),
        // SAFETY: `into` is ours; no more than its length is read.
        _ => outcome(unsafe { libc::syscall(libc::SYS_read, ends[0], into.as_mut_ptr(), into.len()) }),
    });
    ends.into_iter().for_each(close);
    Ok(usize::try_from(copied?).unwrap_or(0))
}

/// The time since some moment of the past. It stands still while the machine sleeps.
pub(crate) fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the room is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Events of one descriptor, waited for up to `timeout` milliseconds. A signal ends the wait.
pub(crate) fn poll(fd: RawFd, events: i16, timeout: c_int) -> i16 {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let time =
        libc::timespec { tv_sec: i64::from(timeout / 1000), tv_nsec: i64::from(timeout % 1000) * 1_000_000 };
    let no_mask = std::ptr::null::<c_void>();
    // SAFETY: one entry, ours; the timeout is copied.
    let count = unsafe { libc::syscall(libc::SYS_ppoll, &raw mut entry, 1, &raw const time, no_mask, 8) };
    if count > 0 { entry.revents } else { 0 }
}

/// Where the directory `path` really is.
pub(crate) fn real_directory(path: &CStr) -> Option<Vec<u8>> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let fd = unsafe { openat(libc::AT_FDCWD, path.as_ptr(), flags, 0) };
    if fd < 0 {
        return None;
    }
    let found = path_of(fd);
    close(fd);
    found
}

/// The path by which an open file is known.
pub(crate) fn path_of(fd: RawFd) -> Option<Vec<u8>> {
    let name = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).ok()?;
    let mut bytes = vec![0_u8; 4096];
    // SAFETY: the name is a C string; the room is ours.
    let length = unsafe { readlinkat(libc::AT_FDCWD, name.as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes.truncate(usize::try_from(length).ok()?);
    Some(bytes)
}

/// A descriptor that becomes readable when something is written to a file.
pub(crate) fn watch_file(path: &CStr) -> Outcome<RawFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: the path is a C string.
    if unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_MODIFY) } < 0 {
        let why = errno();
        close(fd);
        return Err(why);
    }
    Ok(fd)
}

/// Takes all that a non-blocking descriptor of events has; EAGAIN if that is nothing.
pub(crate) fn drain(fd: RawFd) -> Outcome<()> {
    let mut bytes = [0_u8; 4096];
    let mut any = false;
    loop {
        // SAFETY: the room is ours. The kernel itself: `read` is one of our own.
        let got = unsafe { libc::syscall(libc::SYS_read, fd, bytes.as_mut_ptr(), bytes.len()) };
        match outcome(got) {
            Ok(_) => any = true,
            Err(Errno::EAGAIN) if any => return Ok(()),
            Err(why) => return Err(why),
        }
    }
}

/// Makes `place` a second number of what `fd` is, in place of what it was.
pub(crate) fn put_in_place(fd: RawFd, place: RawFd) -> Outcome<()> {
    // SAFETY: no memory is involved.
    let put = unsafe { libc::dup3(fd, place, libc::O_CLOEXEC) };
    if put < 0 { Err(errno()) } else { Ok(()) }
}
