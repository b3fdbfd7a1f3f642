//! A chain as the device finds it.

use virgld_runtime::link::QueueArea;

use super::{AddressSpace, Offence, Unmapped};

const DESCRIPTOR_SIZE: usize = 16;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A run of bytes by the device's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub address: u64,
    /// How many bytes.
    pub length: u32,
}

/// A chain that the device holds. It can be given back once: pushing it consumes it.
#[derive(Debug)]
pub struct Request {
    pub(super) head: u16,
    /// The ring's descriptors that it takes; one where it has a table.
    pub(super) descriptors: Vec<u16>,
    readable: Vec<Span>,
    writable: Vec<Span>,
}

impl Request {
    /// The id under which it is given back.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// How many of the ring's descriptors it takes.
    pub fn descriptor_count(&self) -> usize {
        self.descriptors.len()
    }

    /// What the device is to read.
    pub fn readable(&self) -> &[Span] {
        &self.readable
    }

    /// What the device may write.
    pub fn writable(&self) -> &[Span] {
        &self.writable
    }

    /// How many bytes the device may write.
    pub fn room(&self) -> u64 {
        self.writable.iter().map(|span| u64::from(span.length)).sum()
    }

    /// All bytes that the device is to read, as they are now.
    pub fn read(&self, space: &AddressSpace) -> Result<Vec<u8>, Unmapped> {
        let mut bytes = Vec::new();
        for span in &self.readable {
            space.append(span.address, span.length as usize, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Writes an answer, as much of it as there is room for, and says how much that was.
    pub fn write(&self, space: &AddressSpace, answer: &[u8]) -> Result<u32, Unmapped> {
        let mut written = 0;
        let mut rest = answer;
        for span in &self.writable {
            let (now, later) = rest.split_at(rest.len().min(span.length as usize));
            space.write(span.address, now)?;
            written += u32::try_from(now.len()).unwrap_or(span.length);
            rest = later;
        }
        Ok(written)
    }

    /// Walks the chain from its head, as strictly as the specification allows.
    pub(super) fn collect(
        area: &QueueArea,
        indirect: bool,
        space: &AddressSpace,
        head: u16,
    ) -> Result<Self, Offence> {
        let mut request = Self { head, descriptors: Vec::new(), readable: Vec::new(), writable: Vec::new() };
        let mut at = Some(head);
        while let Some(index) = at {
            if request.descriptors.len() == usize::from(area.size) {
                return Err(Offence::Endless);
            }
            let descriptor = Descriptor::of_ring(area, index)?;
            request.descriptors.push(index);
            at = descriptor.next();
            if descriptor.flags & INDIRECT == 0 {
                request.add(&descriptor)?;
            } else if indirect && at.is_none() {
                request.add_table(space, descriptor.span, area.size)?;
            } else {
                return Err(Offence::Indirect);
            }
        }
        Ok(request)
    }

    fn add_table(&mut self, space: &AddressSpace, table: Span, limit: u16) -> Result<(), Offence> {
        let entries = table.length as usize / DESCRIPTOR_SIZE;
        if entries == 0 || !(table.length as usize).is_multiple_of(DESCRIPTOR_SIZE) {
            return Err(Offence::Indirect);
        }
        let size = u16::try_from(entries).ok().filter(|size| *size <= limit).ok_or(Offence::Endless)?;
        let mut at = Some(0);
        for _ in 0..size {
            let Some(index) = at else { return Ok(()) };
            let descriptor = Descriptor::of_table(space, table, index, size)?;
            if descriptor.flags & INDIRECT != 0 {
                return Err(Offence::Indirect);
            }
            self.add(&descriptor)?;
            at = descriptor.next();
        }
        if at.is_none() { Ok(()) } else { Err(Offence::Endless) }
    }

    fn add(&mut self, descriptor: &Descriptor) -> Result<(), Offence> {
        if descriptor.span.length == 0 {
            return Err(Offence::EmptySegment);
        }
        if descriptor.flags & WRITE != 0 {
            self.writable.push(descriptor.span);
        } else if self.writable.is_empty() {
            self.readable.push(descriptor.span);
        } else {
            return Err(Offence::OutOfOrder);
        }
        Ok(())
    }
}

/// A descriptor, decoded (section 2.7.5).
struct Descriptor {
    span: Span,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn of_ring(area: &QueueArea, index: u16) -> Result<Self, Offence> {
        if index >= area.size {
            return Err(Offence::NoSuchDescriptor { index, size: area.size });
        }
        let mut bytes = [0; DESCRIPTOR_SIZE];
        area.memory.read(area.descriptors + usize::from(index) * DESCRIPTOR_SIZE, &mut bytes)?;
        Ok(Self::decode(bytes))
    }

    fn of_table(space: &AddressSpace, table: Span, index: u16, size: u16) -> Result<Self, Offence> {
        if index >= size {
            return Err(Offence::NoSuchDescriptor { index, size });
        }
        let mut bytes = [0; DESCRIPTOR_SIZE];
        let address = table.address.wrapping_add(u64::from(index) * DESCRIPTOR_SIZE as u64);
        space.read(address, &mut bytes)?;
        Ok(Self::decode(bytes))
    }

    fn decode(bytes: [u8; DESCRIPTOR_SIZE]) -> Self {
        let [address @ .., l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        let span =
            Span { address: u64::from_le_bytes(address), length: u32::from_le_bytes([l0, l1, l2, l3]) };
        Self { span, flags: u16::from_le_bytes([f0, f1]), next: u16::from_le_bytes([n0, n1]) }
    }

    fn next(&self) -> Option<u16> {
        (self.flags & NEXT != 0).then_some(self.next)
    }
}
