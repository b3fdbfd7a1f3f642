//! Slices of memory that the device can reach.
//!
//! A [`DmaSlice`] is a capability to bytes: it can be moved but not copied, it goes back to its pool when it
//! is dropped, and whoever publishes it to the device gives it up until the device has returned it. So a
//! buffer under DMA outlives the actor that asked for it.

use std::fmt;
use std::sync::Arc;

use crate::memory::{Memory, OutOfBounds, check};
use crate::queue::Queue;

/// A range of device-reachable bytes that one holder owns.
///
/// Only a [`DmaPool`] makes one, of bytes that nobody else has. Its holder cannot make another of the same bytes, nor reach
/// beyond them, nor tell the device of an address that is not its own.
///
/// ```compile_fail,E0451
/// # use virgld_runtime::dma::DmaSlice;
/// # fn forge() -> DmaSlice {
/// DmaSlice { memory: panic!(), offset: 0, size: usize::MAX, address: 0, class: 0, home: panic!() }
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::dma::DmaSlice;
/// fn must_copy<T: Clone>() {}
/// fn copy() { must_copy::<DmaSlice>() }
/// ```
///
/// ```compile_fail,E0616
/// # use virgld_runtime::dma::DmaSlice;
/// fn widen(slice: &mut DmaSlice) { slice.size = usize::MAX; }
/// ```
///
/// ```compile_fail,E0616
/// # use virgld_runtime::dma::DmaSlice;
/// fn move_elsewhere(slice: &mut DmaSlice) { slice.offset = 0; }
/// ```
///
/// ```compile_fail,E0616
/// # use virgld_runtime::dma::DmaSlice;
/// fn reach_the_whole(slice: &DmaSlice) -> usize { slice.memory.size() }
/// ```
///
/// Whoever gives it away, to the device for example, has it no more.
///
/// ```compile_fail,E0382
/// # use virgld_runtime::dma::DmaSlice;
/// fn publish(_: DmaSlice) {}
/// fn keep(slice: DmaSlice) {
///     publish(slice);
///     let _ = slice.write(0, &[1]);
/// }
/// ```
pub struct DmaSlice {
    memory: Arc<dyn Memory>,
    offset: usize,
    size: usize,
    address: u64,
    class: usize,
    home: Arc<Queue<(usize, usize)>>,
}

impl DmaSlice {
    /// Size in bytes. May be more than was asked for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where the device sees the first byte (a guest-physical address or an I/O virtual address).
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        check(offset, into.len(), self.size)?;
        self.memory.read(self.offset + offset, into)
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        check(offset, from.len(), self.size)?;
        self.memory.write(self.offset + offset, from)
    }
}

impl DmaSlice {
    /// Copies bytes from a memory, each of them once.
    pub fn fill(
        &self,
        offset: usize,
        from: &dyn Memory,
        start: usize,
        length: usize,
    ) -> Result<(), OutOfBounds> {
        check(offset, length, self.size)?;
        self.memory.fill(self.offset + offset, from, start, length)
    }
}

impl Drop for DmaSlice {
    fn drop(&mut self) {
        // The pool may be gone at shutdown; its memory is then gone with it.
        self.home.put((self.class, self.offset));
    }
}

impl fmt::Debug for DmaSlice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DmaSlice({:#x}+{:#x})", self.address, self.size)
    }
}

/// How many blocks of one size a pool holds.
#[derive(Debug, Clone, Copy)]
pub struct SizeClass {
    /// Size of each block in bytes.
    pub size: usize,
    /// How many there are.
    pub count: usize,
}

/// Blocks of fixed sizes cut from one range of device memory, recycled without any allocation.
///
/// A copy of a pool would give the same bytes to two.
///
/// ```compile_fail,E0277
/// # use virgld_runtime::dma::DmaPool;
/// fn must_copy<T: Clone>() {}
/// fn copy() { must_copy::<DmaPool>() }
/// ```
///
/// Nor can a block be put into it that it did not give.
///
/// ```compile_fail,E0616
/// # use virgld_runtime::dma::DmaPool;
/// fn smuggle(pool: &mut DmaPool) { let _ = pool.home.send((0, 0)); }
/// ```
pub struct DmaPool {
    memory: Arc<dyn Memory>,
    address: u64,
    classes: Vec<(usize, Vec<usize>)>,
    home: Arc<Queue<(usize, usize)>>,
}

impl DmaPool {
    /// Bytes that a pool of these classes needs.
    pub fn bytes(classes: &[SizeClass]) -> usize {
        classes.iter().map(|class| class.size * class.count).sum()
    }

    /// Cuts `memory`, from `offset` on, into the blocks of `classes`, which must ascend in size. `address` is
    /// where the device sees offset 0.
    pub fn new(
        memory: Arc<dyn Memory>,
        address: u64,
        offset: usize,
        classes: &[SizeClass],
    ) -> Result<Self, OutOfBounds> {
        check(offset, Self::bytes(classes), memory.size())?;
        let mut next = offset;
        let classes = classes
            .iter()
            .map(|class| {
                let mut free: Vec<usize> = (0..class.count).map(|index| next + index * class.size).collect();
                // The lowest block is handed out first, so a quiet system touches few pages.
                free.reverse();
                next += class.size * class.count;
                (class.size, free)
            })
            .collect();
        Ok(Self { memory, address, classes, home: Arc::default() })
    }

    /// The largest slice this pool can ever give.
    pub fn largest(&self) -> usize {
        self.classes.last().map_or(0, |(size, _)| *size)
    }

    /// A slice of at least `size` bytes, with whatever an earlier holder left in it, or nothing while all
    /// blocks that are large enough are in use.
    pub fn take(&mut self, size: usize) -> Option<DmaSlice> {
        while let Some((class, offset)) = self.home.take() {
            self.classes[class].1.push(offset);
        }
        let fits =
            |(_, (block, free)): &(usize, &mut (usize, Vec<usize>))| *block >= size && !free.is_empty();
        let (class, (block, free)) = self.classes.iter_mut().enumerate().find(fits)?;
        let offset = free.pop()?;
        Some(DmaSlice {
            memory: self.memory.clone(),
            offset,
            size: *block,
            address: self.address + offset as u64,
            class,
            home: self.home.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::HeapMemory;

    const CLASSES: [SizeClass; 2] = [SizeClass { size: 64, count: 2 }, SizeClass { size: 256, count: 1 }];

    fn pool() -> DmaPool {
        DmaPool::new(HeapMemory::new(1024), 0x1000, 128, &CLASSES).unwrap()
    }

    #[test]
    fn smallest_block_that_fits_is_given_first() {
        let mut pool = pool();
        let small = pool.take(10).unwrap();
        assert_eq!((small.size(), small.address()), (64, 0x1080));
        assert_eq!(pool.take(65).unwrap().size(), 256);
    }

    #[test]
    fn larger_blocks_serve_when_small_ones_are_out_and_come_back_when_dropped() {
        let mut pool = pool();
        let held: Vec<_> = (0..3).map(|_| pool.take(1).unwrap()).collect();
        assert_eq!(held[2].size(), 256);
        assert!(pool.take(1).is_none());
        drop(held);
        assert!((0..3).all(|_| pool.take(1).is_some()));
    }

    #[test]
    fn no_access_leaves_the_slice() {
        let slice = pool().take(64).unwrap();
        assert!(slice.write(60, &[0; 5]).is_err());
        assert!(slice.read(usize::MAX, &mut [0; 2]).is_err());
        assert!(slice.write(60, &[7; 4]).is_ok());
    }

    #[test]
    fn a_pool_must_fit_its_memory() {
        assert!(DmaPool::new(HeapMemory::new(256), 0, 0, &CLASSES).is_err());
    }
}
