//! Memory in a memfd: shared with the device and, an arena, with one client.
//!
//! The file is sealed: whoever receives its descriptor can read and write it but can neither truncate it,
//! which would turn our next access into a SIGBUS, nor add seals of its own.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::param::page_size;
use rustix::thread::futex;
use virgld_runtime::memory::{self, Memory, OutOfBounds, check};

use super::mapping::{Mapping, Word};

/// The system could not provide memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {doing} of {bytes} bytes for {name:?}: {source}; check the memory limit of this service and free space in tmpfs"
)]
pub struct MemoryError {
    name: String,
    bytes: usize,
    doing: &'static str,
    source: Errno,
}

/// A refused access to a single word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// It is not inside the memory.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// Its offset is not a multiple of its size.
    #[error("a word at offset {offset} is not aligned to its size")]
    Misaligned {
        /// Where, in bytes.
        offset: usize,
    },
}

/// A sealed memfd, mapped for reading and writing until it is dropped.
pub struct SharedMemory {
    file: OwnedFd,
    mapping: Mapping,
}

impl SharedMemory {
    /// Zeroed memory of at least `bytes`, rounded up to whole pages. No page is used before it is touched.
    /// `name` is what /proc shows; it is cut at 200 bytes.
    pub fn new(name: &str, bytes: usize) -> Result<Arc<Self>, MemoryError> {
        let fail = |doing| move |source| MemoryError { name: name.to_owned(), bytes, doing, source };
        let size = bytes
            .max(1)
            .checked_next_multiple_of(page_size())
            .filter(|size| isize::try_from(*size).is_ok())
            .ok_or(Errno::OVERFLOW)
            .map_err(fail("make a file"))?;
        let short: String = name.chars().filter(|letter| letter.is_ascii_graphic()).take(200).collect();
        let file = memfd_create(short.as_str(), MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(fail("make a file"))?;
        ftruncate(&file, size as u64).map_err(fail("set a size"))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(fail("seal a file"))?;
        let mapping = Mapping::map(&file, size).map_err(fail("make a mapping"))?;
        Ok(Arc::new(Self { file, mapping }))
    }

    /// The file, to pass on to the device or to the one client whose memory this is. It gives away all of it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The 32-bit word at `offset`, a multiple of 4 bytes, for lock-free exchange with another process.
    pub fn word_32(&self, offset: usize) -> Result<&AtomicU32, WordError> {
        self.word(offset)
    }

    /// The 64-bit word at `offset`, a multiple of 8 bytes, for lock-free exchange with another process.
    pub fn word_64(&self, offset: usize) -> Result<&AtomicU64, WordError> {
        self.word(offset)
    }

    /// Wakes up to `count` threads, of any process, that wait by futex for the 32-bit word at `offset`.
    /// Returns how many there were.
    pub fn wake_waiters(&self, offset: usize, count: u32) -> Result<usize, WordError> {
        // FUTEX_WAKE can only fail for an address that is bad, and this one is not.
        Ok(futex::wake(self.word_32(offset)?, futex::Flags::empty(), count).unwrap_or(0))
    }

    /// The address of a range, for the system only.
    pub(super) fn pointer(&self, offset: usize, length: usize) -> Result<*mut u8, OutOfBounds> {
        self.mapping.pointer(offset, length)
    }

    /// Has the system put into huge pages what of a range can fill them, if it can.
    pub(super) fn gather(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        self.mapping.gather(offset, length)
    }

    fn word<W: Word>(&self, offset: usize) -> Result<&W, WordError> {
        self.mapping.word(offset)?.ok_or(WordError::Misaligned { offset })
    }
}

impl Memory for SharedMemory {
    fn size(&self) -> usize {
        self.mapping.size()
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.mapping.read(offset, into)
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.mapping.write(offset, from)
    }

    fn load_u16(&self, offset: usize) -> Result<u16, OutOfBounds> {
        if let Some(word) = self.mapping.word::<AtomicU16>(offset)? {
            return Ok(u16::from_le(word.load(Ordering::Acquire)));
        }
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes)?;
        fence(Ordering::Acquire);
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, offset: usize, value: u16) -> Result<(), OutOfBounds> {
        if let Some(word) = self.mapping.word::<AtomicU16>(offset)? {
            word.store(value.to_le(), Ordering::Release);
            return Ok(());
        }
        fence(Ordering::Release);
        self.write(offset, &value.to_le_bytes())
    }

    fn fill(&self, offset: usize, from: &dyn Memory, start: usize, length: usize) -> Result<(), OutOfBounds> {
        if let Some(from) = (from as &dyn Any).downcast_ref::<Self>() {
            return self.mapping.fill(offset, &from.mapping, start, length);
        }
        memory::copy(self, offset, from, start, length)
    }

    fn zero(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        self.mapping.zero(offset, length)
    }

    fn discard(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        check(offset, length, self.size())?;
        let end = offset + length;
        let first_page = offset.next_multiple_of(page_size());
        let last_page = end - end % page_size();
        if first_page >= last_page {
            return self.mapping.zero(offset, length);
        }
        self.mapping.zero(offset, first_page - offset)?;
        self.mapping.zero(last_page, end - last_page)?;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, punch, first_page as u64, (last_page - first_page) as u64) {
            Ok(()) => Ok(()),
            // The promise is zeroes; giving the pages back is only thrift.
            Err(_) => self.mapping.zero(first_page, last_page - first_page),
        }
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::fs::fstat;
    use virgld_protocol::channel::HUGE_PAGE as HUGE;

    use super::*;

    #[test]
    fn bytes_come_back_and_bounds_hold() {
        let memory = SharedMemory::new("test", 5000).unwrap();
        assert_eq!(memory.size(), 8192);
        memory.write(8189, &[1, 2, 3]).unwrap();
        let mut bytes = [9; 3];
        memory.read(8189, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3]);
        assert!(memory.write(8190, &[0; 3]).is_err());
        assert!(memory.read(usize::MAX, &mut bytes).is_err());
        assert!(memory.load_u16(8191).is_err());
        assert!(memory.discard(1, 8192).is_err());
        assert!(memory.write(8192, &[]).is_ok());
    }

    #[test]
    fn counters_are_little_endian_wherever_they_lie() {
        let memory = SharedMemory::new("test", 1).unwrap();
        for offset in [0, 3] {
            memory.store_u16(offset, 0x1234).unwrap();
            let mut bytes = [0; 2];
            memory.read(offset, &mut bytes).unwrap();
            assert_eq!((bytes, memory.load_u16(offset).unwrap()), ([0x34, 0x12], 0x1234));
        }
    }

    #[test]
    fn discard_zeroes_the_range_alone_and_frees_its_pages() {
        let memory = SharedMemory::new("test", 16 * 4096).unwrap();
        memory.write(0, &[7; 16 * 4096]).unwrap();
        let before = fstat(memory.fd()).unwrap().st_blocks;
        memory.discard(100, 10 * 4096).unwrap();
        // Before anything is read: reading a hole fills it.
        assert!(fstat(memory.fd()).unwrap().st_blocks < before);
        let mut bytes = vec![0; 16 * 4096];
        memory.read(0, &mut bytes).unwrap();
        assert!(bytes[..100].iter().all(|byte| *byte == 7));
        assert!(bytes[100..100 + 10 * 4096].iter().all(|byte| *byte == 0));
        assert!(bytes[100 + 10 * 4096..].iter().all(|byte| *byte == 7));
        memory.discard(16 * 4096 - 8, 8).unwrap();
        memory.discard(0, 0).unwrap();
    }

    #[test]
    fn zero_zeroes_the_range_alone_and_keeps_its_pages() {
        let memory = SharedMemory::new("test", 4 * 4096).unwrap();
        memory.write(0, &[7; 4 * 4096]).unwrap();
        let before = fstat(memory.fd()).unwrap().st_blocks;
        memory.zero(4096, 2 * 4096).unwrap();
        assert_eq!(fstat(memory.fd()).unwrap().st_blocks, before);
        let mut bytes = vec![1; 4 * 4096];
        memory.read(0, &mut bytes).unwrap();
        let zeroes: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == 0).collect();
        assert!(zeroes.iter().copied().eq(4096..3 * 4096));
        assert!(memory.zero(4096, 4 * 4096).is_err());
    }

    #[test]
    fn what_is_gathered_keeps_its_bytes_and_can_be_given_back_in_part() {
        let memory = SharedMemory::new("test", 4 * HUGE + 4096).unwrap();
        let filled: Vec<u8> = (0..3 * HUGE).map(|at| u8::try_from(at / 4096 % 255).unwrap() | 1).collect();
        memory.write(4096, &filled).unwrap();
        memory.gather(4096, 3 * HUGE).unwrap();
        let mut bytes = vec![0; 3 * HUGE];
        memory.read(4096, &mut bytes).unwrap();
        assert!(bytes == filled, "they are what they were");
        memory.discard(HUGE + 4096, HUGE).unwrap();
        memory.read(4096, &mut bytes).unwrap();
        assert!(bytes[..HUGE] == filled[..HUGE] && bytes[2 * HUGE..] == filled[2 * HUGE..]);
        assert!(bytes[HUGE..2 * HUGE].iter().all(|byte| *byte == 0));
        assert!(memory.gather(0, 0).is_ok() && memory.gather(4096, 2 * HUGE - 8192).is_ok());
        assert!(memory.gather(4 * HUGE, 8192).is_err());
    }

    #[test]
    fn a_large_memory_begins_where_a_huge_page_can() {
        let memories: Vec<_> =
            [HUGE, HUGE + 4096, 5 * HUGE].map(|size| SharedMemory::new("test", size).unwrap()).into();
        for memory in memories {
            assert!(memory.pointer(0, 1).unwrap().addr().is_multiple_of(HUGE));
        }
        assert!(SharedMemory::new("test", isize::MAX as usize - 8191).is_err());
    }

    #[test]
    fn nobody_can_resize_or_seal_it() {
        let memory = SharedMemory::new("test", 4096).unwrap();
        let copy = memory.fd().try_clone_to_owned().unwrap();
        assert_eq!(ftruncate(&copy, 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&copy, 8192), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&copy, SealFlags::WRITE), Err(Errno::PERM));
    }

    #[test]
    fn words_are_shared_between_mappings_and_must_be_aligned() {
        let memory = SharedMemory::new("test", 4096).unwrap();
        let other = Mapping::map(memory.fd(), 4096).unwrap();
        memory.word_64(8).unwrap().store(u64::MAX - 1, Ordering::Release);
        let seen = other.word::<AtomicU64>(8).unwrap().unwrap();
        assert_eq!(seen.swap(3, Ordering::AcqRel), u64::MAX - 1);
        assert_eq!(memory.word_64(8).unwrap().load(Ordering::Acquire), 3);
        assert_eq!(memory.word_32(2).unwrap_err(), WordError::Misaligned { offset: 2 });
        assert!(matches!(memory.word_64(4096), Err(WordError::OutOfBounds(_))));
    }

    #[test]
    fn a_waiter_on_another_mapping_is_woken() {
        let memory = SharedMemory::new("test", 4096).unwrap();
        let other = Mapping::map(memory.fd(), 4096).unwrap();
        let waiter = std::thread::spawn(move || {
            let word = other.word::<AtomicU32>(16).unwrap().unwrap();
            while word.load(Ordering::Acquire) == 0 {
                let _ = futex::wait(word, futex::Flags::empty(), 0, None);
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        memory.word_32(16).unwrap().store(1, Ordering::Release);
        memory.wake_waiters(16, u32::MAX).unwrap();
        waiter.join().unwrap();
    }

    #[test]
    fn too_much_is_refused_with_the_name() {
        let error = SharedMemory::new("arena of client 7", usize::MAX).err().unwrap();
        assert!(error.to_string().contains("arena of client 7"), "{error}");
    }
}
