//! What a caller publishes: segments of device memory, and where to put the table that lists them.

use virgld_runtime::dma::DmaSlice;
use virgld_runtime::memory::{OutOfBounds, check};

use super::layout::DESCRIPTOR_SIZE;
use super::{Refused, RingFeatures};

/// A run of bytes that the device can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where the device sees the first byte.
    pub address: u64,
    /// How many bytes; at least one.
    pub length: u32,
}

impl Segment {
    /// A part of a slice.
    pub fn of(slice: &DmaSlice, offset: usize, length: usize) -> Result<Self, OutOfBounds> {
        check(offset, length, slice.size())?;
        let outside = OutOfBounds { offset, length, size: slice.size() };
        let length = u32::try_from(length).map_err(|_| outside)?;
        Ok(Self { address: slice.address() + offset as u64, length })
    }
}

/// Where the table of a chain is written (section 2.7.5.3): usually a part of the command's own slice. It takes
/// 16 bytes for each segment, at any address.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The slice.
    pub slice: &'a DmaSlice,
    /// The table's first byte in it.
    pub offset: usize,
}

impl Table<'_> {
    /// How many bytes the table of a chain takes.
    pub const fn bytes(segments: usize) -> usize {
        segments * DESCRIPTOR_SIZE
    }
}

/// One buffer for the device.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// What the device reads, in order.
    pub readable: &'a [Segment],
    /// What the device writes, in order.
    pub writable: &'a [Segment],
    /// Memory for a table, so that the chain takes one descriptor however many segments it has. Not used
    /// without [`RingFeatures::INDIRECT_DESC`], or where a chain has one segment and gains nothing.
    pub table: Option<Table<'a>>,
}

impl<'a> Chain<'a> {
    /// How many of the ring's descriptors the chain takes.
    pub fn descriptors(&self, features: RingFeatures) -> usize {
        if self.table(features).is_some() { 1 } else { self.segment_count() }
    }

    pub(super) fn table(&self, features: RingFeatures) -> Option<Table<'a>> {
        self.table.filter(|_| features.contains(RingFeatures::INDIRECT_DESC) && self.segment_count() > 1)
    }

    pub(super) fn segment_count(&self) -> usize {
        self.readable.len() + self.writable.len()
    }

    /// Each segment with whether the device writes it.
    pub(super) fn segments(&self) -> impl Iterator<Item = (Segment, bool)> + '_ {
        let readable = self.readable.iter().map(|segment| (*segment, false));
        readable.chain(self.writable.iter().map(|segment| (*segment, true)))
    }

    /// Checks what a device may rely on. The answer is how many segments there are, and how many bytes the
    /// device can write.
    pub(super) fn check(&self, limit: u16) -> Result<(u16, u32), Refused> {
        let segments = self.segment_count();
        let count = u16::try_from(segments).ok().filter(|count| *count <= limit);
        let count = count.ok_or(Refused::TooManySegments { segments, limit })?;
        if count == 0 {
            return Err(Refused::NoSegments);
        }
        if let Some(index) = self.segments().position(|(segment, _)| segment.length == 0) {
            return Err(Refused::EmptySegment { index });
        }
        let readable = total(self.readable);
        let writable = total(self.writable);
        u32::try_from(readable + writable).map_err(|_| Refused::TooLong)?;
        let writable = u32::try_from(writable).map_err(|_| Refused::TooLong)?;
        Ok((count, writable))
    }
}

/// No sum of at most 32768 lengths overflows 64 bits.
fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.length)).sum()
}
