//! Memory as a device addresses it.

use std::sync::Arc;

use virgld_runtime::memory::Memory;

/// An access to an address at which there is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory of {length} bytes at {address:#x}")]
pub struct Unmapped {
    /// The first byte.
    pub address: u64,
    /// How many bytes were wanted.
    pub length: usize,
}

/// The regions that a device can reach.
#[derive(Clone, Default)]
pub struct AddressSpace {
    regions: Vec<(u64, Arc<dyn Memory>)>,
}

impl AddressSpace {
    /// Shows a memory to the device at an address.
    pub fn map(&mut self, address: u64, memory: Arc<dyn Memory>) {
        self.regions.push((address, memory));
    }

    /// Takes away what was mapped at this address.
    pub fn unmap(&mut self, address: u64) {
        self.regions.retain(|(start, _)| *start != address);
    }

    /// Copies bytes out. They must lie in one region.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unmapped> {
        let unmapped = Unmapped { address, length: into.len() };
        let (memory, offset) = self.find(address).ok_or(unmapped)?;
        memory.read(offset, into).map_err(|_| unmapped)
    }

    /// Appends a copy of bytes. There is memory for no more than a region has.
    pub fn append(&self, address: u64, length: usize, to: &mut Vec<u8>) -> Result<(), Unmapped> {
        let unmapped = Unmapped { address, length };
        let (memory, offset) = self.find(address).ok_or(unmapped)?;
        if memory.size() - offset < length {
            return Err(unmapped);
        }
        let start = to.len();
        to.resize(start + length, 0);
        memory.read(offset, &mut to[start..]).map_err(|_| unmapped)
    }

    /// Copies bytes in. They must lie in one region.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), Unmapped> {
        let unmapped = Unmapped { address, length: from.len() };
        let (memory, offset) = self.find(address).ok_or(unmapped)?;
        memory.write(offset, from).map_err(|_| unmapped)
    }

    fn find(&self, address: u64) -> Option<(&dyn Memory, usize)> {
        self.regions.iter().find_map(|(start, memory)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            (offset < memory.size()).then_some((memory.as_ref(), offset))
        })
    }
}
