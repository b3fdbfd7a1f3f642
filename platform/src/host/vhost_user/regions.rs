//! Which memory regions the device has, and the requests about them that it has not answered yet.
//!
//! Requests are sent in order and answered in order; only a few are under way at a time, so that the socket
//! never fills. Invariant: `used` is the number of places that the device has given or been asked for.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;
use virgld_runtime::link::{LinkEvent, Region, RegionId};
use virgld_runtime::memory::Memory;
use zerocopy::IntoBytes;

use super::layout::{LARGEST_REGION, region_base, region_index};
use super::message::{Header, MemoryRegion, Request, SingleRegion};
use super::wire::send;
use crate::host::memory::SharedMemory;

/// The regions beyond region 0.
pub(super) struct Regions {
    /// How many regions the device can hold besides region 0.
    places: usize,
    /// How many of them only a region that must have an address may take.
    reserved: usize,
    used: usize,
    next_index: u64,
    open: HashMap<RegionId, Open>,
    waiting: VecDeque<Errand>,
    under_way: VecDeque<Errand>,
}

struct Open {
    memory: Arc<SharedMemory>,
    address: u64,
    closing: bool,
}

#[derive(Debug, Clone, Copy)]
enum Errand {
    Add(RegionId),
    Remove(RegionId),
}

impl Errand {
    fn request(self) -> Request {
        match self {
            Self::Add(_) => Request::ADD_MEM_REG,
            Self::Remove(_) => Request::REM_MEM_REG,
        }
    }
}

impl Regions {
    /// A device that holds `places` regions besides region 0 (none: it can't take regions one by one).
    pub(super) fn new(places: usize, reserved: usize) -> Self {
        Self {
            places,
            reserved,
            used: 0,
            next_index: 1,
            open: HashMap::new(),
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
        }
    }

    /// Begins to give the device `memory`. Where it has no place for it, the region is returned at once,
    /// without an address.
    pub(super) fn open(&mut self, id: RegionId, memory: Arc<SharedMemory>, optional: bool) -> Option<Region> {
        let kept_back = if optional { self.reserved } else { 0 };
        let fits = self.used + kept_back < self.places && memory.size() <= LARGEST_REGION;
        let Some(address) = region_base(self.next_index).filter(|_| fits) else {
            return Some(Region { id, memory, address: None });
        };
        self.next_index += 1;
        self.used += 1;
        self.open.insert(id, Open { memory, address, closing: false });
        self.waiting.push_back(Errand::Add(id));
        None
    }

    /// Begins to give the device `memory` at the address where an earlier one had it. Says whether there is a place.
    pub(super) fn admit(&mut self, id: RegionId, memory: Arc<SharedMemory>, address: u64) -> bool {
        let index = region_index(address).filter(|_| self.used < self.places);
        let Some(index) = index else { return false };
        // No later region may come to lie there too.
        self.next_index = self.next_index.max(index + 1);
        self.used += 1;
        self.open.insert(id, Open { memory, address, closing: false });
        self.waiting.push_back(Errand::Add(id));
        true
    }

    /// Begins to take a region from the device, if it has it.
    pub(super) fn close(&mut self, id: RegionId) {
        if let Some(open) = self.open.get_mut(&id)
            && !open.closing
        {
            // Errands are done in order, so the place is free for whatever is asked for from now on.
            open.closing = true;
            self.used -= 1;
            self.waiting.push_back(Errand::Remove(id));
        }
    }

    /// Sends what may be sent.
    pub(super) fn pump(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        while self.under_way.len() < MOST_UNDER_WAY
            && let Some(errand) = self.waiting.front().copied()
        {
            let (Errand::Add(id) | Errand::Remove(id)) = errand;
            // A region that the device refused need not be removed.
            if let Some(open) = self.open.get(&id) {
                let region = MemoryRegion::new(open.address, open.memory.size());
                let payload = SingleRegion { padding: 0, region };
                let file = matches!(errand, Errand::Add(_)).then(|| open.memory.fd());
                let header = Header::new(errand.request(), size_of_val(&payload), true);
                match send(&socket, header, payload.as_bytes(), file) {
                    Ok(()) => self.under_way.push_back(errand),
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// What the next answer of the device belongs to.
    pub(super) fn expected(&self) -> Option<Request> {
        self.under_way.front().map(|errand| errand.request())
    }

    /// The device has answered the request that was expected; 0 is yes.
    pub(super) fn answered(&mut self, code: u64) -> Option<LinkEvent> {
        match self.under_way.pop_front()? {
            Errand::Add(id) if code == 0 => {
                let open = self.open.get(&id)?;
                let (memory, address) = (open.memory.clone(), Some(open.address));
                Some(LinkEvent::RegionOpened(Region { id, memory, address }))
            }
            Errand::Add(id) => {
                tracing::warn!(region = id.0, code, "the device refused a memory region");
                let open = self.open.remove(&id)?;
                if !open.closing {
                    self.used -= 1;
                }
                Some(LinkEvent::RegionOpened(Region { id, memory: open.memory, address: None }))
            }
            Errand::Remove(id) => {
                if code != 0 {
                    tracing::warn!(region = id.0, code, "the device kept a memory region; its place is lost");
                    self.used += 1;
                }
                self.open.remove(&id);
                None
            }
        }
    }
}

/// Well below the number of messages that fill a Unix socket.
const MOST_UNDER_WAY: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn memory() -> Arc<SharedMemory> {
        SharedMemory::new("test", 4096).unwrap()
    }

    #[test]
    fn optional_regions_leave_the_last_places_to_others() {
        let mut regions = Regions::new(3, 2);
        assert!(regions.open(RegionId(1), memory(), true).is_none());
        assert!(regions.open(RegionId(2), memory(), true).unwrap().address.is_none());
        assert!(regions.open(RegionId(3), memory(), false).is_none());
        assert!(regions.open(RegionId(4), memory(), false).is_none());
        assert!(regions.open(RegionId(5), memory(), false).unwrap().address.is_none());
        regions.close(RegionId(1));
        regions.close(RegionId(1));
        regions.close(RegionId(5));
        assert!(regions.open(RegionId(6), memory(), false).is_none());
        assert_eq!(regions.used, 3);
    }

    #[test]
    fn a_refused_region_has_no_address_and_is_not_removed() {
        let (ours, mut device) = UnixStream::pair().unwrap();
        let mut regions = Regions::new(1, 0);
        assert!(regions.open(RegionId(1), memory(), false).is_none());
        regions.pump(&ours).unwrap();
        assert_eq!(regions.expected(), Some(Request::ADD_MEM_REG));
        let refused = regions.answered(1);
        assert!(matches!(refused, Some(LinkEvent::RegionOpened(Region { address: None, .. }))));
        regions.close(RegionId(1));
        regions.pump(&ours).unwrap();
        drop(ours);
        let mut sent = Vec::new();
        device.read_to_end(&mut sent).unwrap();
        assert_eq!((sent.len(), regions.used, regions.expected()), (52, 0, None));
    }

    #[test]
    fn a_region_closed_before_its_refusal_is_counted_once() {
        let (ours, _device) = UnixStream::pair().unwrap();
        let mut regions = Regions::new(1, 0);
        assert!(regions.open(RegionId(1), memory(), false).is_none());
        regions.pump(&ours).unwrap();
        regions.close(RegionId(1));
        regions.answered(1);
        regions.pump(&ours).unwrap();
        assert_eq!((regions.used, regions.expected()), (0, None));
    }

    #[test]
    fn few_are_under_way_and_each_answer_sends_another() {
        let (ours, _device) = UnixStream::pair().unwrap();
        let mut regions = Regions::new(100, 0);
        for id in 0..20 {
            assert!(regions.open(RegionId(id), memory(), false).is_none());
        }
        regions.pump(&ours).unwrap();
        assert_eq!((regions.under_way.len(), regions.waiting.len()), (16, 4));
        assert!(matches!(regions.answered(0), Some(LinkEvent::RegionOpened(_))));
        regions.pump(&ours).unwrap();
        assert_eq!((regions.under_way.len(), regions.waiting.len()), (16, 3));
    }
}
