//! A client's arena: one region of memory, cut into the backings of its resources.

use std::ops::Range;

use range_alloc::RangeAllocator;
use virgld_protocol::ids::Token;
use virgld_runtime::link::Region;

/// Backings begin and end at pages, because clients map them.
pub(crate) const PAGE: u64 = 4096;

/// Rounds up to whole pages; at least one.
pub(crate) fn whole_pages(bytes: u64) -> Option<u64> {
    bytes.max(1).checked_next_multiple_of(PAGE)
}

/// An offset or length inside a memory. What does not fit is outside every memory, and refused there.
pub(crate) fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// An arena, or the wait for one.
pub(crate) enum Arena {
    /// Asked for; these requests wait for it.
    Opening(Vec<Token>),
    Open(OpenArena),
    /// There is no memory for one.
    Refused,
}

impl Arena {
    /// Bytes that resources have of it.
    pub(crate) fn used(&self) -> u64 {
        match self {
            Self::Open(arena) => arena.used,
            Self::Opening(_) | Self::Refused => 0,
        }
    }
}

/// An arena that is there.
pub(crate) struct OpenArena {
    pub(crate) region: Region,
    free: RangeAllocator<u64>,
    pub(crate) used: u64,
}

impl OpenArena {
    pub(crate) fn new(region: Region) -> Self {
        let bytes = region.memory.size() as u64;
        Self { region, free: RangeAllocator::new(0..bytes), used: 0 }
    }

    /// A range of whole pages, zeroed, or nothing if there is none so long.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<Range<u64>> {
        let range = self.free.allocate_range(bytes).ok()?;
        self.used += bytes;
        Some(range)
    }

    /// Takes a range back and zeroes it for the next.
    pub(crate) fn give_back(&mut self, range: Range<u64>) {
        let (offset, length) = (in_memory(range.start), in_memory(range.end - range.start));
        // The range was cut from this memory, so it lies inside.
        let _ = self.region.memory.discard(offset, length);
        self.used -= range.end - range.start;
        self.free.free_range(range);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virgld_runtime::link::RegionId;
    use virgld_runtime::memory::HeapMemory;

    use super::*;

    proptest! {
        /// No two holders ever share a byte, and what comes back comes out zeroed.
        #[test]
        fn ranges_never_overlap_and_are_zeroed(
            steps in proptest::collection::vec((any::<bool>(), 1_u64..5, any::<prop::sample::Index>()), 1..60),
        ) {
            let memory = HeapMemory::new(in_memory(16 * PAGE));
            let mut arena = OpenArena::new(Region { id: RegionId(1), memory, address: Some(0) });
            let mut held: Vec<Range<u64>> = Vec::new();
            for (take, pages, pick) in steps {
                if take {
                    let Some(range) = arena.take(pages * PAGE) else { continue };
                    prop_assert!(held.iter().all(|other| range.end <= other.start || other.end <= range.start));
                    let mut bytes = vec![1; in_memory(range.end - range.start)];
                    arena.region.memory.read(in_memory(range.start), &mut bytes).unwrap();
                    prop_assert!(bytes.iter().all(|byte| *byte == 0));
                    bytes.fill(0xaa);
                    arena.region.memory.write(in_memory(range.start), &bytes).unwrap();
                    held.push(range);
                } else if !held.is_empty() {
                    arena.give_back(held.swap_remove(pick.index(held.len())));
                }
            }
            prop_assert_eq!(arena.used, held.iter().map(|range| range.end - range.start).sum::<u64>());
        }
    }
}
