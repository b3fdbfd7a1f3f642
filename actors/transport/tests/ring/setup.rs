//! A ring, its device, and memory for commands.

use std::sync::Arc;

use virgld_runtime::dma::{DmaPool, DmaSlice, SizeClass};
use virgld_runtime::link::QueueArea;
use virgld_runtime::memory::{HeapMemory, Memory};
use virgld_testkit::queue::{AddressSpace, DeviceQueue};
use virgld_transport::ring::{Chain, Refused, Ring, RingFeatures, Segment, Table};

/// Bytes of each command's slice: room for a table, then for what is read and written.
pub(crate) const SLICE_SIZE: usize = 512;
const DATA_ADDRESS: u64 = 0x4000_0000;
const DATA_OFFSET: usize = 128;

pub(crate) const ALL: RingFeatures = RingFeatures::all();
pub(crate) const NONE: RingFeatures = RingFeatures::empty();

/// Every combination of features.
pub(crate) fn combinations() -> [RingFeatures; 4] {
    [NONE, RingFeatures::INDIRECT_DESC, RingFeatures::EVENT_IDX, ALL]
}

/// An area at the front of a memory, and how many bytes it takes.
pub(crate) fn area(memory: Arc<dyn Memory>, size: u16) -> QueueArea {
    let entries = usize::from(size);
    let available = entries * 16;
    let used = (available + 6 + entries * 2).next_multiple_of(4);
    QueueArea { memory, size, descriptors: 0, available, used }
}

/// How many bytes such an area takes.
pub(crate) fn area_bytes(size: u16) -> usize {
    usize::from(size) * 26 + 16
}

/// Both sides of one queue.
pub(crate) struct Bench {
    pub(crate) ring: Ring,
    pub(crate) device: DeviceQueue,
    pub(crate) area: QueueArea,
    pub(crate) features: RingFeatures,
    pub(crate) memory: Memories,
}

impl Bench {
    pub(crate) fn new(size: u16, features: RingFeatures) -> Self {
        let area = area(HeapMemory::new(area_bytes(size)), size);
        let ring = Ring::new(&area, features).unwrap();
        let device = DeviceQueue::new(area.clone(), features.bits());
        Self { ring, device, area, features, memory: Memories::new(usize::from(size)) }
    }

    /// As after the device died: a fresh one on zeroed rings.
    pub(crate) fn restart(&mut self) {
        self.ring.reset().unwrap();
        self.device = DeviceQueue::new(self.area.clone(), self.features.bits());
    }

    /// Publishes a command of one readable and one writable segment.
    pub(crate) fn publish(&mut self, cookie: u32) -> Result<DmaSlice, Refused> {
        let slice = self.memory.pool.take(SLICE_SIZE).unwrap();
        publish(
            &mut self.ring,
            &slice,
            &Shape { readable: vec![8], writable: vec![16], table: true },
            cookie,
        )?;
        Ok(slice)
    }
}

/// Where commands are built, as the driver and as the device sees it.
pub(crate) struct Memories {
    pub(crate) pool: DmaPool,
    pub(crate) space: AddressSpace,
}

impl Memories {
    /// For `count` commands at a time.
    pub(crate) fn new(count: usize) -> Self {
        let classes = [SizeClass { size: SLICE_SIZE, count }];
        let memory = HeapMemory::new(DmaPool::bytes(&classes));
        let pool = DmaPool::new(memory.clone(), DATA_ADDRESS, 0, &classes).unwrap();
        let mut space = AddressSpace::default();
        space.map(DATA_ADDRESS, memory);
        Self { pool, space }
    }
}

/// What a command looks like: the lengths of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) readable: Vec<u32>,
    pub(crate) writable: Vec<u32>,
    pub(crate) table: bool,
}

impl Shape {
    pub(crate) fn segments(&self) -> u16 {
        u16::try_from(self.readable.len() + self.writable.len()).unwrap()
    }

    pub(crate) fn descriptors(&self, features: RingFeatures) -> u16 {
        let indirect = self.table && features.contains(RingFeatures::INDIRECT_DESC);
        if indirect { self.segments().min(1) } else { self.segments() }
    }

    pub(crate) fn room(&self) -> u32 {
        self.writable.iter().sum()
    }

    /// What the device must find in the readable segments.
    pub(crate) fn request(&self, cookie: u32) -> Vec<u8> {
        let length: u32 = self.readable.iter().sum();
        (0..length).map(|at| (cookie.wrapping_mul(31).wrapping_add(at) % 251) as u8).collect()
    }
}

/// Builds a command in a slice and publishes it.
pub(crate) fn publish(ring: &mut Ring, slice: &DmaSlice, shape: &Shape, cookie: u32) -> Result<u16, Refused> {
    let request = shape.request(cookie);
    slice.write(DATA_OFFSET, &request).unwrap();
    let mut at = DATA_OFFSET;
    let mut cut = |lengths: &[u32]| -> Vec<Segment> {
        let segment = |length: &u32| {
            let segment = Segment::of(slice, at, *length as usize).unwrap();
            at += *length as usize;
            segment
        };
        lengths.iter().map(segment).collect()
    };
    let (readable, writable) = (cut(&shape.readable), cut(&shape.writable));
    let table = shape.table.then_some(Table { slice, offset: 0 });
    let chain = Chain { readable: &readable, writable: &writable, table };
    let room = ring.has_room(&chain);
    let published = ring.publish(&chain, cookie);
    assert!(room || published.is_err(), "published without room");
    published
}
