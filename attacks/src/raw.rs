//! DRM files as a program has them, by the C library and whatever is preloaded before it; and processes that share them.
//!
//! All unsafe code of this program: calls by a C interface, and `fork`.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::wire::{Failed, Outcome};

/// Opens the render node; closed at exec only if that is asked.
pub(crate) fn open_node(closed_at_exec: bool) -> Outcome<OwnedFd> {
    const NODE: &CStr = c"/dev/dri/renderD128";
    let flags = libc::O_RDWR | if closed_at_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: a C string.
    let fd = unsafe { libc::open(NODE.as_ptr(), flags) };
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: it was opened here.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A DRM ioctl; `T` has the layout of its structure.
pub(crate) fn drm<T>(fd: BorrowedFd<'_>, number: u8, argument: &mut T) -> Outcome<()> {
    let size = size_of::<T>() as c_ulong;
    let request = 3 << 30 | size << 16 | c_ulong::from(b'd') << 8 | c_ulong::from(number);
    // SAFETY: the argument is of the size that the request tells, and holds no pointers in the calls made here.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// A descriptor that was there before this program began.
pub(crate) fn inherited(fd: c_int) -> OwnedFd {
    // SAFETY: nothing else here has it. If there is none, all that is done with it fails.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The first byte behind an offset that MAP gave.
pub(crate) fn peek(fd: BorrowedFd<'_>, offset: u64) -> Outcome<u8> {
    // SAFETY: the page is there.
    in_page(fd, offset, |page| unsafe { page.read_volatile() })
}

/// Writes that byte.
pub(crate) fn poke(fd: BorrowedFd<'_>, offset: u64, value: u8) -> Outcome<()> {
    // SAFETY: the page is there.
    in_page(fd, offset, |page| unsafe { page.write_volatile(value) })
}

fn in_page<T>(fd: BorrowedFd<'_>, offset: u64, touch: impl FnOnce(*mut u8) -> T) -> Outcome<T> {
    const PAGE: usize = 4096;
    let (protection, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    // SAFETY: no address is asked for; what is mapped is a page that nothing else here refers to.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), PAGE, protection, shared, fd.as_raw_fd(), offset);
        if page == libc::MAP_FAILED {
            return Err(last());
        }
        let touched = touch(page.cast());
        libc::munmap(page, PAGE);
        Ok(touched)
    }
}

/// What the kernel says to a call that is to be refused; nothing if it was not.
pub(crate) fn refusal(call: i64, [first, second]: [u64; 2]) -> Option<i32> {
    // SAFETY: where it is let through it fails for its arguments, which name no memory, or makes a child that ends at once.
    match unsafe { libc::syscall(call, first, second, 0, 0, 0, 0) } {
        // SAFETY: this is the child of a clone that was let through.
        0 if call == libc::SYS_clone => unsafe { libc::_exit(0) },
        -1 => io::Error::last_os_error().raw_os_error(),
        _ => None,
    }
}

/// A process that was started here.
pub(crate) struct Child(libc::pid_t);

impl Child {
    /// Runs `task` in a child of `fork`, in a copy of this program with this thread alone; it ends with whether all was well.
    pub(crate) fn fork(task: impl FnOnce() -> bool) -> Outcome<Self> {
        // SAFETY: the child makes calls of the C library, which has itself put right by fork, and ends without coming back.
        match unsafe { libc::fork() } {
            -1 => Err(last()),
            0 => {
                let well = task();
                // SAFETY: ends the child.
                unsafe { libc::_exit(i32::from(!well)) }
            }
            pid => Ok(Self(pid)),
        }
    }

    /// The same in a child that shares this program's memory, while this thread waits for its end: as of `vfork`.
    pub(crate) fn share_memory(mut task: impl FnMut() -> bool) -> Outcome<Self> {
        extern "C" fn run(task: *mut c_void) -> c_int {
            // SAFETY: it is the pointer that was given to clone below, and lives as long as that waits.
            let task = unsafe { &mut *task.cast::<&mut dyn FnMut() -> bool>() };
            i32::from(!task())
        }
        let mut stack = vec![0_u8; 1 << 20];
        let mut task: &mut dyn FnMut() -> bool = &mut task;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the stack is the child's alone, aligned at its end, and outlives it: this thread waits for its end, which
        // is what CLONE_VFORK says.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(stack.len()).map_addr(|address| address & !63);
            libc::clone(run, top.cast(), flags, std::ptr::from_mut(&mut task).cast())
        };
        if pid < 0 { Err(last()) } else { Ok(Self(pid)) }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.0.unsigned_abs()
    }

    /// Waits for its end, and says whether all was well. One that does not come to an end is ended.
    pub(crate) fn ends_well(self) -> Outcome<bool> {
        let begin = Instant::now();
        loop {
            let mut status = 0;
            // SAFETY: room for one status.
            match unsafe { libc::waitpid(self.0, &raw mut status, libc::WNOHANG) } {
                -1 => return Err(last()),
                0 if begin.elapsed() > PATIENCE => {
                    // SAFETY: no memory; it is a child of ours that has not been waited for.
                    unsafe { libc::kill(self.0, libc::SIGKILL) };
                }
                0 => sleep(Duration::from_micros(200)),
                _ => return Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0),
            }
        }
    }
}

/// No child has to do for as long.
const PATIENCE: Duration = Duration::from_secs(20);

fn last() -> Failed {
    let error = io::Error::last_os_error();
    Failed::Errno(Errno::from_io_error(&error).unwrap_or(Errno::IO).raw_os_error())
}
