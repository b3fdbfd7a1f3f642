//! Memory of the program: whether it is there.
//!
//! A driver in the kernel copies what a pointer names with care, and answers EFAULT to one that leads nowhere. Here a
//! copy from such an address would end the program. So each range is probed, a word of each page, by a system call that
//! reads or writes a word and does nothing else: the kernel, which knows, answers EFAULT in our place. A program that
//! unmaps memory in one thread while another passes it to an ioctl is not helped by this.

use std::hint::black_box;
use std::ptr;
use std::sync::atomic::AtomicU32;

use virgld_protocol::errno::Errno;

use crate::errno::Outcome;
use crate::sys;

/// EFAULT unless `length` bytes can be read at `start`.
pub(crate) fn check_readable(start: *const u8, length: usize) -> Outcome<()> {
    check(start.addr(), length, is_readable)
}

/// EFAULT unless `length` bytes can be read and written at `start`. What is there stays.
pub(crate) fn check_writable(start: *const u8, length: usize) -> Outcome<()> {
    check(start.addr(), length, is_writable)
}

fn check(start: usize, length: usize, is_there: fn(usize) -> bool) -> Outcome<()> {
    if length == 0 {
        return Ok(());
    }
    let last = start.checked_add(length - 1).ok_or(Errno::EFAULT)?;
    let mut pages = (page_of(start)..=page_of(last)).step_by(PAGE);
    if pages.all(is_there) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// A page of the stack that is in use, and so there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame(usize);

impl Frame {
    /// That of the function which this is inlined in.
    #[inline(always)]
    pub(crate) fn here() -> Self {
        let here = 0_u8;
        Self(page_of(ptr::from_ref(black_box(&here)).addr()))
    }

    /// Whether the range lies in this page.
    pub(crate) fn holds(self, start: *const u8, length: usize) -> bool {
        let offset = start.addr().wrapping_sub(self.0);
        offset < PAGE && length <= PAGE - offset
    }
}

/// Whether the page can be read. A set of signals is read and, as there is no such thing to do with it, ignored.
fn is_readable(page: usize) -> bool {
    let nothing = ptr::null::<u64>();
    // SAFETY: the kernel checks the address; nothing is changed.
    let outcome = sys::outcome(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, NO_SUCH_HOW, page + WORD, nothing, size_of::<u64>())
    });
    outcome != Err(Errno::EFAULT)
}

/// Whether the page can be written. 0 is added to a word, atomically.
fn is_writable(page: usize) -> bool {
    static NOBODY_WAITS: AtomicU32 = AtomicU32::new(0);
    let operation = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel checks the address. The word stays as it is, for whoever looks at any moment.
    let outcome = sys::outcome(unsafe {
        libc::syscall(libc::SYS_futex, NOBODY_WAITS.as_ptr(), operation, 0, 0_usize, page + WORD, ADD_NOTHING)
    });
    outcome != Err(Errno::EFAULT)
}

fn page_of(address: usize) -> usize {
    address & !(PAGE - 1)
}

/// The smallest that there is: a larger one is probed more often.
const PAGE: usize = 4096;
/// The word of a page that is probed. Not the first: address 0 means no address.
const WORD: usize = 8;
/// None of `SIG_BLOCK`, `SIG_UNBLOCK`, `SIG_SETMASK`.
const NO_SUCH_HOW: i32 = -1;
/// `FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0x5a5)`: those who wait for the word, if anybody does, are hardly ever woken.
const ADD_NOTHING: u32 = 1 << 28 | 0x5a5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pages: to be written, to be read, and none.
    fn pages() -> *mut u8 {
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a range that the kernel picks, and parts of it.
        unsafe {
            let start = sys::mmap(ptr::null_mut(), 3 * PAGE, protection, anonymous, -1, 0).cast::<u8>();
            assert_ne!(start.cast(), libc::MAP_FAILED);
            start.write(7);
            assert_eq!(libc::mprotect(start.add(PAGE).cast(), PAGE, libc::PROT_READ), 0);
            assert_eq!(libc::munmap(start.add(2 * PAGE).cast(), PAGE), 0);
            start
        }
    }

    #[test]
    fn each_page_of_a_range_counts() {
        let start = pages();
        let at = |offset: usize| start.wrapping_add(offset);
        for (offset, length, readable, writable) in [
            (0, PAGE, true, true),
            (1, 1, true, true),
            (PAGE - 1, 2, true, false),
            (PAGE, PAGE, true, false),
            (0, 2 * PAGE, true, false),
            (2 * PAGE - 1, 2, false, false),
            (0, 3 * PAGE, false, false),
            (2 * PAGE + 5, 1, false, false),
            (2 * PAGE, 0, true, true),
        ] {
            assert_eq!(check_readable(at(offset), length).is_ok(), readable, "{offset} {length}");
            assert_eq!(check_writable(at(offset), length).is_ok(), writable, "{offset} {length}");
        }
        // SAFETY: mapped above.
        assert_eq!(unsafe { start.read() }, 7, "it was not changed");
    }

    #[test]
    fn nowhere_is_nowhere() {
        for address in [0, 8, usize::MAX - 3, usize::MAX / 2 + 1] {
            let address = ptr::without_provenance::<u8>(address);
            assert_eq!(check_readable(address, 4), Err(Errno::EFAULT), "{address:?}");
            assert_eq!(check_writable(address, 4), Err(Errno::EFAULT), "{address:?}");
        }
        assert_eq!(check_readable(ptr::without_provenance(16), usize::MAX), Err(Errno::EFAULT));
        assert_eq!(check_readable(ptr::null(), 0), Ok(()));
    }

    #[test]
    fn a_frame_is_one_page() {
        let frame = Frame(3 * PAGE);
        let at = ptr::without_provenance;
        assert!(frame.holds(at(3 * PAGE), PAGE) && frame.holds(at(4 * PAGE - 1), 1));
        assert!(!frame.holds(at(3 * PAGE - 1), 1) && !frame.holds(at(4 * PAGE - 1), 2));
        assert!(!frame.holds(at(3 * PAGE), PAGE + 1) && !frame.holds(at(3 * PAGE + 1), usize::MAX));
        let here = 0_u8;
        assert_eq!(check_writable(&raw const here, 1), Ok(()));
        assert!(Frame::here().0.abs_diff((&raw const here).addr()) < 2 * PAGE);
    }
}
