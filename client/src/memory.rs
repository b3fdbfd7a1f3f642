//! The channel's memory, mapped.
//!
//! Invariant: `start` is page-aligned and [`CHANNEL_BYTES`] from it stay mapped for as long as the value lives.
//! The daemon writes there too: bytes are copied, counters are atomics, nothing is borrowed.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use virgld_protocol::channel::CHANNEL_BYTES;
use virgld_protocol::errno::Errno;

use crate::errno::Outcome;
use crate::own::OwnFd;
use crate::sys;

/// The mapping.
pub(crate) struct Memory {
    start: NonNull<u8>,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl Send for Memory {}
// SAFETY: shared access is by atomics, or by copies into places that the channel's rules give to one side.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `file`, which must be large enough. A child of `fork` does not get the mapping.
    pub(crate) fn map(file: &OwnFd) -> Outcome<Self> {
        let size = sys::fstat(file.raw())?.st_size;
        if usize::try_from(size).map_or(true, |size| size < CHANNEL_BYTES) {
            return Err(Errno::EIO);
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is asked for, so the kernel picks a range that nothing else uses.
        let start =
            unsafe { sys::mmap(ptr::null_mut(), CHANNEL_BYTES, protection, libc::MAP_SHARED, file.raw(), 0) };
        if start == libc::MAP_FAILED {
            return Err(sys::errno());
        }
        // SAFETY: the range is the one just mapped.
        unsafe { libc::madvise(start, CHANNEL_BYTES, libc::MADV_DONTFORK) };
        NonNull::new(start.cast()).map(|start| Self { start }).ok_or(Errno::EIO)
    }

    /// The 32-bit word at `offset`.
    pub(crate) fn word_32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset <= CHANNEL_BYTES - 4);
        // SAFETY: inside the mapping and aligned; any bits are a legal value.
        unsafe { self.start.add(offset).cast().as_ref() }
    }

    /// The 64-bit word at `offset`.
    pub(crate) fn word_64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset <= CHANNEL_BYTES - 8);
        // SAFETY: inside the mapping and aligned; any bits are a legal value.
        unsafe { self.start.add(offset).cast().as_ref() }
    }

    /// Copies bytes in.
    ///
    /// # Safety
    ///
    /// `length` bytes can be read from `from`.
    pub(crate) unsafe fn copy_in(&self, offset: usize, from: *const u8, length: usize) {
        assert!(length <= CHANNEL_BYTES && offset <= CHANNEL_BYTES - length);
        // SAFETY: the target is in the mapping, the source is the caller's promise. `copy` and not
        // `copy_nonoverlapping`: nobody can promise that the program does not pass the mapping itself.
        unsafe { ptr::copy(from, self.start.as_ptr().add(offset), length) };
    }

    /// Copies bytes out.
    ///
    /// # Safety
    ///
    /// `length` bytes can be written to `into`.
    pub(crate) unsafe fn copy_out(&self, offset: usize, into: *mut u8, length: usize) {
        assert!(length <= CHANNEL_BYTES && offset <= CHANNEL_BYTES - length);
        // SAFETY: as for `copy_in`.
        unsafe { ptr::copy(self.start.as_ptr().add(offset), into, length) };
    }

    /// Copies bytes in from memory of our own.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        // SAFETY: a slice can be read.
        unsafe { self.copy_in(offset, from.as_ptr(), from.len()) };
    }

    /// Copies bytes out to memory of our own.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        // SAFETY: a mutable slice can be written.
        unsafe { self.copy_out(offset, into.as_mut_ptr(), into.len()) };
    }

    /// Sleeps until the daemon wakes the word at `offset`, it is not `value`, or `milliseconds` (below a second)
    /// have passed.
    pub(crate) fn sleep(&self, offset: usize, value: u32, milliseconds: u32) {
        let word = self.word_32(offset);
        let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(milliseconds) * 1_000_000 };
        // SAFETY: the word lives as long as `self`; the time is copied.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const time);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range is ours and every borrow of it has ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), CHANNEL_BYTES) };
    }
}
