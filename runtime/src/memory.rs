//! Memory that another party reads and writes while we do.
//!
//! Nothing behind this trait is ever borrowed as a Rust reference: the device, or a client, may change it
//! at any moment, so bytes are copied in and out and counters are loaded and stored whole. That keeps every
//! user of shared memory safe code; only the implementation in the platform crate is not.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

/// An access outside the memory it was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("access of {length} bytes at offset {offset} is outside a memory of {size} bytes")]
pub struct OutOfBounds {
    /// Where the access began, in bytes.
    pub offset: usize,
    /// How many bytes it wanted.
    pub length: usize,
    /// How many bytes there are.
    pub size: usize,
}

/// Bytes shared with another party that is not trusted to leave them alone.
pub trait Memory: Send + Sync + Any {
    /// Size in bytes; never changes.
    fn size(&self) -> usize;

    /// Copies bytes out.
    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds>;

    /// Copies bytes in.
    fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds>;

    /// Loads a little-endian 16-bit counter; what the other party wrote before it stored is visible after.
    fn load_u16(&self, offset: usize) -> Result<u16, OutOfBounds>;

    /// Stores a little-endian 16-bit counter after all that was written before.
    fn store_u16(&self, offset: usize, value: u16) -> Result<(), OutOfBounds>;

    /// Copies bytes from another memory, each of them once.
    fn fill(&self, offset: usize, from: &dyn Memory, start: usize, length: usize) -> Result<(), OutOfBounds> {
        copy(self, offset, from, start, length)
    }

    /// Zeroes a range and keeps its pages.
    fn zero(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        self.discard(offset, length)
    }

    /// Zeroes a range and gives its pages back to the system where that is possible.
    fn discard(&self, offset: usize, length: usize) -> Result<(), OutOfBounds>;

    /// For the platform, which needs its own type back to map or pass on the memory.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Checks a range against a size.
pub fn check(offset: usize, length: usize, size: usize) -> Result<(), OutOfBounds> {
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        _ => Err(OutOfBounds { offset, length, size }),
    }
}

/// Copies bytes from one memory to another through the stack, each of them once: for implementations of
/// [`Memory::fill`] that know nothing better.
pub fn copy<M: Memory + ?Sized>(
    to: &M,
    offset: usize,
    from: &dyn Memory,
    start: usize,
    length: usize,
) -> Result<(), OutOfBounds> {
    check(start, length, from.size())?;
    check(offset, length, to.size())?;
    let mut piece = [0; 4096];
    for done in (0..length).step_by(piece.len()) {
        let piece = &mut piece[..(length - done).min(4096)];
        from.read(start + done, piece)?;
        to.write(offset + done, piece)?;
    }
    Ok(())
}

/// A full barrier: a store before it and a load after it are seen in that order by the other party.
///
/// The kick and interrupt suppression of virtio 1.2, section 2.7.7, needs exactly this one.
pub fn full_barrier() {
    fence(Ordering::SeqCst);
}

/// Memory on the heap, for simulation and tests: the same interface with no other process behind it.
pub struct HeapMemory {
    bytes: Box<[AtomicU8]>,
}

impl HeapMemory {
    /// Zeroed memory of `size` bytes.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { bytes: (0..size).map(|_| AtomicU8::new(0)).collect() })
    }
}

impl Memory for HeapMemory {
    fn size(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        check(offset, into.len(), self.size())?;
        for (byte, cell) in into.iter_mut().zip(&self.bytes[offset..]) {
            *byte = cell.load(Ordering::Acquire);
        }
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        check(offset, from.len(), self.size())?;
        for (byte, cell) in from.iter().zip(&self.bytes[offset..]) {
            cell.store(*byte, Ordering::Release);
        }
        Ok(())
    }

    fn load_u16(&self, offset: usize) -> Result<u16, OutOfBounds> {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, offset: usize, value: u16) -> Result<(), OutOfBounds> {
        self.write(offset, &value.to_le_bytes())
    }

    fn discard(&self, offset: usize, length: usize) -> Result<(), OutOfBounds> {
        check(offset, length, self.size())?;
        for cell in &self.bytes[offset..offset + length] {
            cell.store(0, Ordering::Release);
        }
        Ok(())
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
