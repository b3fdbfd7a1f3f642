//! Buffers whose memory the device cannot reach: it had no place left for another region.
//!
//! The device has the bytes in memory of its own, and the two are kept alike: what the client wrote goes to the
//! device before work that may read it, what the device wrote comes back before the work counts as complete. A
//! third copy, of what both had last, tells who wrote where, so that neither side's writes are lost while the
//! other writes elsewhere in the buffer.

use std::sync::Arc;

use virgld_protocol::ids::{FileId, ResourceId, Serial};
use virgld_protocol::message::resource::Backing;
use virgld_runtime::memory::{Memory, OutOfBounds};

use crate::state::State;

/// Writes of one side are told from the other's in pieces of this many bytes.
const PIECE: usize = 64;

/// A buffer in two memories.
pub(crate) struct Distant {
    client: Side,
    device: Side,
    /// What both had last.
    alike: Vec<u8>,
}

struct Side {
    memory: Arc<dyn Memory>,
    offset: usize,
}

impl Side {
    fn new(memory: &Arc<dyn Memory>, offset: u64) -> Self {
        // What does not fit is outside the memory, and every access to it is refused there.
        Self { memory: Arc::clone(memory), offset: usize::try_from(offset).unwrap_or(usize::MAX) }
    }

    fn read(&self, at: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.memory.read(self.offset.saturating_add(at), into)
    }

    fn write(&self, at: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.memory.write(self.offset.saturating_add(at), from)
    }
}

impl Distant {
    /// The two memories of a backing, if there are two. They are alike when they are new.
    pub(crate) fn of(backing: &Backing) -> Option<Self> {
        let place = backing.device.as_ref()?;
        let client = Side::new(&backing.region.memory, backing.offset);
        let device = Side::new(&place.region.memory, place.offset);
        let mut alike = vec![0; usize::try_from(backing.length).ok()?];
        device.read(0, &mut alike).ok()?;
        Some(Self { client, device, alike })
    }

    /// What the client wrote goes to the device.
    fn push(&mut self) {
        // The ranges lie inside their memories, as whoever laid them out has seen to.
        let _ = carry(&self.client, &self.device, &mut self.alike);
    }

    /// What the device wrote goes to the client.
    fn pull(&mut self) {
        let _ = carry(&self.device, &self.client, &mut self.alike);
    }
}

/// Copies the pieces that `from` has changed since both sides were alike.
fn carry(from: &Side, to: &Side, alike: &mut [u8]) -> Result<(), OutOfBounds> {
    let mut page = [0; 4096];
    for (index, known) in alike.chunks_mut(page.len()).enumerate() {
        let (page, at) = (&mut page[..known.len()], index * 4096);
        from.read(at, page)?;
        if page == known {
            continue;
        }
        for (index, (new, old)) in page.chunks(PIECE).zip(known.chunks_mut(PIECE)).enumerate() {
            if new != old {
                to.write(at + index * PIECE, new)?;
                old.copy_from_slice(new);
            }
        }
    }
    Ok(())
}

impl State {
    /// Before work that may read a buffer.
    pub(crate) fn push(&mut self, resource: ResourceId) {
        if let Some(distant) = self.distant.get_mut(&resource) {
            distant.push();
        }
    }

    /// For work that may write buffers: what it writes comes back before it counts as complete.
    pub(crate) fn pull_after(&mut self, file: FileId, serial: Serial, resource: ResourceId) {
        if self.distant.contains_key(&resource)
            && let Some(file) = self.files.get_mut(&file)
        {
            file.signals.entry(serial).or_default().returns.push(resource);
        }
    }

    /// Work that may have written these buffers is complete.
    pub(crate) fn pull(&mut self, resources: &[ResourceId]) {
        for resource in resources {
            if let Some(distant) = self.distant.get_mut(resource) {
                distant.pull();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use virgld_protocol::message::resource::Place;
    use virgld_runtime::link::{Region, RegionId};
    use virgld_runtime::memory::HeapMemory;

    use super::*;

    fn region(id: u64, address: Option<u64>) -> Region {
        Region { id: RegionId(id), memory: HeapMemory::new(3 * 4096), address }
    }

    #[test]
    fn neither_side_loses_what_it_wrote_while_the_other_wrote_elsewhere() {
        let (client, device) = (region(1, None), region(2, Some(0)));
        let place = Place { region: device.clone(), offset: 4096 };
        let backing =
            Backing { region: client.clone(), offset: 0, length: 8192, isolated: true, device: Some(place) };
        let mut distant = Distant::of(&backing).unwrap();
        client.memory.write(100, &[1; 8]).unwrap();
        distant.push();
        device.memory.write(4096 + 5000, &[2; 8]).unwrap();
        // The client goes on writing, and new work takes that to the device before the old has come back.
        client.memory.write(300, &[3; 8]).unwrap();
        distant.push();
        distant.pull();
        let read = |memory: &dyn Memory, at| {
            let mut bytes = [0; 8];
            memory.read(at, &mut bytes).unwrap();
            bytes[0]
        };
        for (at, value) in [(100, 1), (5000, 2), (300, 3)] {
            assert_eq!(read(&*client.memory, at), value, "the client's side at {at}");
            assert_eq!(read(&*device.memory, 4096 + at), value, "the device's side at {at}");
        }
        assert_eq!(read(&*device.memory, 100), 0, "outside the place");
    }
}
