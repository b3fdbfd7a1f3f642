//! The three parts of a split virtqueue in memory: where each field lies (virtio 1.2, sections 2.7.5 to 2.7.8).
//!
//! Nothing is decided here. What is read comes from the device and is believed nowhere in this file.

use std::sync::Arc;

use virgld_runtime::link::QueueArea;
use virgld_runtime::memory::{Memory, OutOfBounds, check};

use super::RingFault;
use super::chain::Segment;

/// Bytes of one descriptor.
pub(super) const DESCRIPTOR_SIZE: usize = 16;

const AVAILABLE_ENTRY_SIZE: usize = 2;
const USED_ELEMENT_SIZE: usize = 8;
/// Both rings begin with 16 bits of flags and the 16 bits of their index.
const RING_HEADER_SIZE: usize = 4;
const INDEX_OFFSET: usize = 2;
/// Both rings end with the 16 bits of an event index.
const EVENT_SIZE: usize = 2;
/// The largest queue (section 2.7).
const SIZE_LIMIT: u16 = 1 << 15;

/// VIRTQ_DESC_F_NEXT: the chain goes on.
pub(super) const NEXT: u16 = 1;
/// VIRTQ_DESC_F_WRITE: the device writes here.
pub(super) const WRITE: u16 = 2;
/// VIRTQ_DESC_F_INDIRECT: the segment is a table of descriptors.
pub(super) const INDIRECT: u16 = 4;

/// A descriptor as the device reads it.
pub(super) struct Descriptor {
    pub(super) segment: Segment,
    pub(super) flags: u16,
    pub(super) next: u16,
}

impl Descriptor {
    pub(super) fn encode(&self) -> [u8; DESCRIPTOR_SIZE] {
        let mut bytes = [0; DESCRIPTOR_SIZE];
        bytes[0..8].copy_from_slice(&self.segment.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.segment.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// A checked area: a power of two in size, its parts aligned, apart, and inside their memory.
pub(super) struct Layout {
    area: QueueArea,
}

impl Layout {
    pub(super) fn check(area: &QueueArea) -> Result<Self, RingFault> {
        if !area.size.is_power_of_two() || area.size > SIZE_LIMIT {
            return Err(RingFault::ImpossibleSize { size: area.size });
        }
        let layout = Self { area: area.clone() };
        let mut parts = layout.parts();
        for part in &parts {
            check(part.offset, part.size, area.memory.size())?;
            if !part.offset.is_multiple_of(part.alignment) {
                let Part { name, offset, alignment, .. } = *part;
                return Err(RingFault::Misaligned { part: name, offset, alignment });
            }
        }
        parts.sort_by_key(|part| part.offset);
        for (first, second) in parts.iter().zip(&parts[1..]) {
            if first.offset + first.size > second.offset {
                return Err(RingFault::Overlapping { first: first.name, second: second.name });
            }
        }
        Ok(layout)
    }

    pub(super) fn size(&self) -> u16 {
        self.area.size
    }

    /// Zeroes all three parts. Not by [`Memory::discard`]: pages that a device has pinned must stay the same
    /// pages.
    pub(super) fn zero(&self) -> Result<(), OutOfBounds> {
        const ZEROES: [u8; 256] = [0; 256];
        for part in self.parts() {
            for start in (0..part.size).step_by(ZEROES.len()) {
                let length = ZEROES.len().min(part.size - start);
                self.memory().write(part.offset + start, &ZEROES[..length])?;
            }
        }
        Ok(())
    }

    pub(super) fn write_descriptor(&self, index: u16, descriptor: &Descriptor) -> Result<(), OutOfBounds> {
        let offset = self.area.descriptors + usize::from(index) * DESCRIPTOR_SIZE;
        self.memory().write(offset, &descriptor.encode())
    }

    /// Puts the head of a chain where the available index will show it once it has passed `position`.
    pub(super) fn write_available(&self, position: u16, head: u16) -> Result<(), OutOfBounds> {
        let offset = self.area.available + RING_HEADER_SIZE + self.slot(position) * AVAILABLE_ENTRY_SIZE;
        self.memory().write(offset, &head.to_le_bytes())
    }

    pub(super) fn store_available_index(&self, index: u16) -> Result<(), OutOfBounds> {
        self.memory().store_u16(self.area.available + INDEX_OFFSET, index)
    }

    pub(super) fn store_available_flags(&self, flags: u16) -> Result<(), OutOfBounds> {
        self.memory().store_u16(self.area.available, flags)
    }

    /// The used index at which the device is to interrupt.
    pub(super) fn store_used_event(&self, index: u16) -> Result<(), OutOfBounds> {
        let ring = RING_HEADER_SIZE + usize::from(self.size()) * AVAILABLE_ENTRY_SIZE;
        self.memory().store_u16(self.area.available + ring, index)
    }

    pub(super) fn load_used_index(&self) -> Result<u16, OutOfBounds> {
        self.memory().load_u16(self.area.used + INDEX_OFFSET)
    }

    pub(super) fn load_used_flags(&self) -> Result<u16, OutOfBounds> {
        self.memory().load_u16(self.area.used)
    }

    /// The available index at which the device wants a kick.
    pub(super) fn load_available_event(&self) -> Result<u16, OutOfBounds> {
        let ring = RING_HEADER_SIZE + usize::from(self.size()) * USED_ELEMENT_SIZE;
        self.memory().load_u16(self.area.used + ring)
    }

    /// The id and the length of a used element, copied once.
    pub(super) fn read_used(&self, position: u16) -> Result<(u32, u32), OutOfBounds> {
        let offset = self.area.used + RING_HEADER_SIZE + self.slot(position) * USED_ELEMENT_SIZE;
        let mut bytes = [0; USED_ELEMENT_SIZE];
        self.memory().read(offset, &mut bytes)?;
        let [a, b, c, d, e, f, g, h] = bytes;
        Ok((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
    }

    fn memory(&self) -> &dyn Memory {
        Arc::as_ref(&self.area.memory)
    }

    fn slot(&self, position: u16) -> usize {
        usize::from(position & (self.size() - 1))
    }

    fn parts(&self) -> [Part; 3] {
        let entries = usize::from(self.size());
        let ring = |entry: usize| RING_HEADER_SIZE + entries * entry + EVENT_SIZE;
        let part = |name, offset, size, alignment| Part { name, offset, size, alignment };
        [
            part("descriptor table", self.area.descriptors, entries * DESCRIPTOR_SIZE, 16),
            part("available ring", self.area.available, ring(AVAILABLE_ENTRY_SIZE), 2),
            part("used ring", self.area.used, ring(USED_ELEMENT_SIZE), 4),
        ]
    }
}

/// One of the three parts (the table in section 2.7).
struct Part {
    name: &'static str,
    offset: usize,
    size: usize,
    alignment: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use virgld_runtime::memory::HeapMemory;

    fn area(size: u16, available: usize, used: usize) -> QueueArea {
        QueueArea { memory: HeapMemory::new(512), size, descriptors: 0, available, used }
    }

    #[test]
    fn sizes_must_be_powers_of_two() {
        for size in [0, 3, 24, u16::MAX] {
            let fault = Layout::check(&area(size, 128, 256)).err();
            assert_eq!(fault, Some(RingFault::ImpossibleSize { size }));
        }
        assert!(Layout::check(&area(1, 128, 256)).is_ok());
    }

    #[test]
    fn parts_must_be_aligned() {
        assert!(matches!(Layout::check(&area(8, 129, 256)), Err(RingFault::Misaligned { alignment: 2, .. })));
        assert!(matches!(Layout::check(&area(8, 128, 254)), Err(RingFault::Misaligned { alignment: 4, .. })));
        let mut shifted = area(8, 160, 256);
        shifted.descriptors = 8;
        assert!(matches!(Layout::check(&shifted), Err(RingFault::Misaligned { alignment: 16, .. })));
    }

    #[test]
    fn parts_must_not_overlap() {
        // Eight entries: a table of 128 bytes, an available ring of 22, a used ring of 70.
        assert!(Layout::check(&area(8, 128, 152)).is_ok());
        let table_first = RingFault::Overlapping { first: "descriptor table", second: "available ring" };
        assert_eq!(Layout::check(&area(8, 126, 152)).err(), Some(table_first));
        let available_first = RingFault::Overlapping { first: "available ring", second: "used ring" };
        assert_eq!(Layout::check(&area(8, 128, 148)).err(), Some(available_first));
        let used_first = RingFault::Overlapping { first: "used ring", second: "available ring" };
        assert_eq!(Layout::check(&area(8, 196, 128)).err(), Some(used_first));
    }

    #[test]
    fn the_last_byte_must_lie_inside() {
        assert!(Layout::check(&area(8, 128, 512 - 70 - 2)).is_ok());
        assert!(matches!(Layout::check(&area(8, 128, 512 - 68)), Err(RingFault::Outside(_))));
        assert!(matches!(Layout::check(&area(8, usize::MAX - 1, 152)), Err(RingFault::Outside(_))));
        assert!(matches!(Layout::check(&area(1 << 15, 128, 152)), Err(RingFault::Outside(_))));
    }

    #[test]
    fn zeroing_leaves_the_bytes_around_alone() {
        let area = area(8, 128, 152);
        area.memory.write(0, &[0xff; 512]).unwrap();
        Layout::check(&area).unwrap().zero().unwrap();
        let mut bytes = [0; 512];
        area.memory.read(0, &mut bytes).unwrap();
        let touched: Vec<usize> = (0..512).filter(|at| bytes[*at] == 0).collect();
        assert_eq!(touched, (0..150).chain(152..222).collect::<Vec<_>>());
    }

    #[test]
    fn a_descriptor_is_little_endian() {
        let segment = Segment { address: 0x0102_0304_0506_0708, length: 0x0a0b_0c0d };
        let bytes = Descriptor { segment, flags: NEXT | WRITE, next: 0x1112 }.encode();
        assert_eq!(bytes, [8, 7, 6, 5, 4, 3, 2, 1, 0xd, 0xc, 0xb, 0xa, 3, 0, 0x12, 0x11]);
    }
}
