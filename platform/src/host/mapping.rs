//! The raw mapping behind [`super::memory::SharedMemory`]: every pointer into shared memory is made here.
//!
//! Invariant: `start` is page-aligned and `size` bytes from it stay mapped, readable and writable, for as long
//! as the value lives. The file behind it is sealed against shrinking, so no access can fault.

use std::ffi::c_void;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use virgld_protocol::channel::HUGE_PAGE;
use virgld_runtime::memory::{OutOfBounds, check};

/// A mapped range of a file.
pub(super) struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping is plain memory and belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: no Rust reference is ever made to the bytes but to atomics; concurrent copies may mix old and new
// bytes, which its users expect anyway, because another process writes there too.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `size` bytes of `file`, which must be at least that long and must not shrink. A large file begins at
    /// a multiple of [`HUGE_PAGE`]: only so are huge pages of it mapped whole.
    pub(super) fn map(file: impl AsFd, size: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        let start = if size < HUGE_PAGE {
            // SAFETY: no address is asked for, so the kernel picks a range that nothing else uses.
            unsafe { mmap(ptr::null_mut(), size, protection, flags, file, 0) }?
        } else {
            let room = Room::reserve(size)?;
            // SAFETY: nothing else uses the room.
            let start = unsafe { mmap(room.start, size, protection, flags | MapFlags::FIXED, file, 0) }?;
            std::mem::forget(room);
            start
        };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, size })
    }

    /// Has the system put into huge pages what of a range can fill them: what was scattered in physical memory is in pieces of
    /// [`HUGE_PAGE`] then. A system that cannot (Linux before 6.1), or has none, leaves it as it is.
    pub(super) fn gather(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        check(offset, length, self.size)?;
        let (first, end) = (offset.next_multiple_of(HUGE_PAGE), offset + length);
        let blocks = end.saturating_sub(first) / HUGE_PAGE;
        if blocks == 0 {
            return Ok(());
        }
        let advise = |offset: usize, length, advice| {
            // SAFETY: the range lies in the mapping, and holds afterwards what it held before.
            unsafe { libc::madvise(self.start.as_ptr().add(offset).cast(), length, advice) }
        };
        // Where a huge page would hold no page at all yet, Linux makes none.
        for block in 0..blocks {
            advise(first + block * HUGE_PAGE, 1, libc::MADV_POPULATE_READ);
        }
        advise(first, blocks * HUGE_PAGE, libc::MADV_COLLAPSE);
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The address of a range, for the system only: what lies there is never borrowed.
    pub(super) fn pointer(&self, offset: usize, length: usize) -> Result<*mut u8, OutOfBounds> {
        check(offset, length, self.size)?;
        // SAFETY: the range was checked to lie in the mapping.
        Ok(unsafe { self.start.as_ptr().add(offset) })
    }

    pub(super) fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        check(offset, into.len(), self.size)?;
        // SAFETY: the range was checked to lie in the mapping; `into` is ours alone, and Rust memory never
        // overlaps the mapping.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    pub(super) fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        check(offset, from.len(), self.size)?;
        // SAFETY: the range was checked to lie in the mapping; Rust memory never overlaps the mapping.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.start.as_ptr().add(offset), from.len()) };
        Ok(())
    }

    /// Copies bytes from another mapping, or from elsewhere in this one.
    pub(super) fn fill(
        &self,
        offset: usize,
        from: &Self,
        start: usize,
        length: usize,
    ) -> Result<(), OutOfBounds> {
        check(offset, length, self.size)?;
        check(start, length, from.size)?;
        // SAFETY: both ranges lie in their mappings, which outlive the borrows; no reference to either exists,
        // and `copy` allows them to overlap. What another process writes meanwhile may or may not be copied.
        unsafe { ptr::copy(from.start.as_ptr().add(start), self.start.as_ptr().add(offset), length) };
        Ok(())
    }

    pub(super) fn zero(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        check(offset, length, self.size)?;
        // SAFETY: the range was checked to lie in the mapping.
        unsafe { ptr::write_bytes(self.start.as_ptr().add(offset), 0, length) };
        Ok(())
    }

    /// The atomic word at `offset`; nothing if the offset is not a multiple of its size.
    pub(super) fn word<W: Word>(&self, offset: usize) -> Result<Option<&W>, OutOfBounds> {
        check(offset, size_of::<W>(), self.size)?;
        if !offset.is_multiple_of(size_of::<W>()) {
            return Ok(None);
        }
        // SAFETY: the word lies in the mapping and is aligned (the mapping begins at a page); `Word` promises
        // that any bytes are a legal value and that shared access is fine. It lives as long as `self`.
        Ok(Some(unsafe { self.start.add(offset).cast::<W>().as_ref() }))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and every reference into it borrowed `self`. Unmapping a range that was
        // mapped in one piece cannot fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Addresses that nothing uses, from a multiple of [`HUGE_PAGE`] on; given back when dropped.
struct Room {
    start: *mut c_void,
    size: usize,
}

impl Room {
    /// Addresses of `size` bytes, in whole pages.
    fn reserve(size: usize) -> Result<Self, Errno> {
        let wider = size.checked_add(HUGE_PAGE).ok_or(Errno::NOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: no address is asked for, so the kernel picks a range that nothing else uses.
        let reserved = unsafe { mmap_anonymous(ptr::null_mut(), wider, ProtFlags::empty(), flags) }?;
        let before = reserved.align_offset(HUGE_PAGE);
        let start = reserved.wrapping_byte_add(before);
        drop(Self { start: reserved, size: before });
        drop(Self { start: start.wrapping_byte_add(size), size: HUGE_PAGE - before });
        Ok(Self { start, size })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.size > 0 {
            // SAFETY: the range is ours, and nothing uses it.
            let _ = unsafe { munmap(self.start, self.size) };
        }
    }
}

/// A type that may lie in memory which another process writes.
///
/// # Safety
///
/// The type must be an atomic integer, aligned to its size.
pub(super) unsafe trait Word {}

// SAFETY: an atomic integer; its alignment is its size.
unsafe impl Word for AtomicU16 {}
// SAFETY: as above.
unsafe impl Word for AtomicU32 {}
// SAFETY: as above; on targets where it is aligned to less, it does not exist.
unsafe impl Word for AtomicU64 {}
