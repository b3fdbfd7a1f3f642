//! A client's arena: one region of memory, cut into the backings of its resources.
//!
//! A program that streams makes the same buffers again and again. So what comes back is not let go at once: a little of
//! it stays warm, with its pages, and as the device sees it, for the next buffer of the same length.

use std::collections::VecDeque;
use std::ops::Range;

use range_alloc::RangeAllocator;
use virgld_protocol::channel;
use virgld_protocol::ids::Token;
use virgld_runtime::link::Region;

/// Backings begin and end at pages, because clients map them.
pub(crate) const PAGE: u64 = 4096;

/// So much of an arena is warm at most.
pub(crate) const WARM_BYTES: u64 = 1 << 20;
/// Longer ranges never are: zeroing one would hold up others.
const LONGEST_WARM: u64 = 256 << 10;
/// Ranges of so much and more begin at a multiple of it, where there is such room: a platform can have them in huge pages.
const HUGE_PAGE: u64 = channel::HUGE_PAGE as u64;

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
    /// Zeroed ranges that nobody has, the last that came back last; `free` does not know of them.
    warm: VecDeque<Range<u64>>,
    warm_bytes: u64,
}

impl OpenArena {
    pub(crate) fn new(region: Region) -> Self {
        let bytes = region.memory.size() as u64;
        let free = RangeAllocator::new(0..bytes);
        Self { region, free, used: 0, warm: VecDeque::new(), warm_bytes: 0 }
    }

    /// A range of whole pages, zeroed, or nothing if there is none so long.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<Range<u64>> {
        let range = match self.take_warm(bytes) {
            Some(range) => range,
            None => self.take_cold(bytes)?,
        };
        self.used += bytes;
        Some(range)
    }

    fn take_cold(&mut self, bytes: u64) -> Option<Range<u64>> {
        if bytes >= HUGE_PAGE
            && let Ok(range) = self.free.allocate_range_aligned(bytes, HUGE_PAGE)
        {
            return Some(range);
        }
        self.free.allocate_range(bytes).ok()
    }

    fn take_warm(&mut self, bytes: u64) -> Option<Range<u64>> {
        let index = self.warm.iter().rposition(|range| length(range) == bytes)?;
        self.warm_bytes -= bytes;
        self.warm.remove(index)
    }

    /// Takes a range back and zeroes it for the next.
    pub(crate) fn give_back(&mut self, range: Range<u64>) {
        self.used -= length(&range);
        self.let_go(range);
    }

    /// Takes a range back to be warm for the next, if it is not too long for that.
    pub(crate) fn keep_warm(&mut self, range: Range<u64>) -> Result<(), Range<u64>> {
        if length(&range) > LONGEST_WARM {
            return Err(range);
        }
        // The range was cut from this memory, so it lies inside.
        let _ = self.region.memory.zero(in_memory(range.start), in_memory(length(&range)));
        self.used -= length(&range);
        self.warm_bytes += length(&range);
        self.warm.push_back(range);
        Ok(())
    }

    /// Lets go of the range that has been warm for longest, if more than so many bytes are. The device need not see it
    /// any more.
    pub(crate) fn cool(&mut self, bytes: u64) -> Option<Range<u64>> {
        let range = if self.warm_bytes > bytes { self.warm.pop_front()? } else { return None };
        self.warm_bytes -= length(&range);
        self.let_go(range.clone());
        Some(range)
    }

    fn let_go(&mut self, range: Range<u64>) {
        let _ = self.region.memory.discard(in_memory(range.start), in_memory(length(&range)));
        self.free.free_range(range);
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virgld_runtime::link::RegionId;
    use virgld_runtime::memory::HeapMemory;

    use super::*;

    proptest! {
        /// No two holders ever share a byte, and what comes back comes out zeroed, whichever way it comes back.
        #[test]
        fn ranges_never_overlap_and_are_zeroed(
            steps in proptest::collection::vec((0..4_u8, 1_u64..5, any::<prop::sample::Index>()), 1..60),
        ) {
            let memory = HeapMemory::new(in_memory(16 * PAGE));
            let mut arena = OpenArena::new(Region { id: RegionId(1), memory, address: Some(0) });
            let mut held: Vec<Range<u64>> = Vec::new();
            for (what, pages, pick) in steps {
                if what == 0 {
                    let _ = arena.cool(pages * PAGE);
                } else if what == 1 {
                    let Some(range) = arena.take(pages * PAGE) else { continue };
                    prop_assert!(held.iter().all(|other| range.end <= other.start || other.end <= range.start));
                    let mut bytes = vec![1; in_memory(range.end - range.start)];
                    arena.region.memory.read(in_memory(range.start), &mut bytes).unwrap();
                    prop_assert!(bytes.iter().all(|byte| *byte == 0));
                    bytes.fill(0xaa);
                    arena.region.memory.write(in_memory(range.start), &bytes).unwrap();
                    held.push(range);
                } else if !held.is_empty() {
                    let range = held.swap_remove(pick.index(held.len()));
                    if what == 2 {
                        arena.give_back(range);
                    } else {
                        prop_assert!(arena.keep_warm(range).is_ok());
                    }
                }
            }
            prop_assert_eq!(arena.used, held.iter().map(length).sum::<u64>());
            // Nothing is lost: once all is back and cold, one can have the whole.
            held.into_iter().for_each(|range| arena.give_back(range));
            while arena.cool(0).is_some() {}
            prop_assert_eq!(arena.take(16 * PAGE), Some(0..16 * PAGE));
        }
    }

    #[test]
    fn large_ranges_begin_at_huge_pages_where_there_is_room() {
        let memory = HeapMemory::new(in_memory(4 * HUGE_PAGE));
        let mut arena = OpenArena::new(Region { id: RegionId(1), memory, address: Some(0) });
        assert_eq!(arena.take(PAGE), Some(0..PAGE));
        assert_eq!(arena.take(HUGE_PAGE + PAGE), Some(HUGE_PAGE..2 * HUGE_PAGE + PAGE));
        assert_eq!(arena.take(PAGE), Some(PAGE..2 * PAGE), "what lies before is not lost");
        let rest = 2 * HUGE_PAGE + PAGE..4 * HUGE_PAGE;
        assert_eq!(arena.take(rest.end - rest.start), Some(rest), "nor is room elsewhere");
    }

    #[test]
    fn a_warm_range_serves_the_next_of_its_length() {
        let memory = HeapMemory::new(in_memory(1024 * PAGE));
        let mut arena = OpenArena::new(Region { id: RegionId(1), memory, address: Some(0) });
        let ranges: Vec<_> = [1, 2, 2, 65].map(|pages| arena.take(pages * PAGE).unwrap()).into();
        assert_eq!(
            arena.keep_warm(ranges[3].clone()),
            Err(ranges[3].clone()),
            "too long to be zeroed in place"
        );
        ranges[..3].iter().for_each(|range| arena.keep_warm(range.clone()).unwrap());
        assert_eq!(arena.take(2 * PAGE), Some(ranges[2].clone()), "the last that came back");
        assert_eq!(arena.cool(3 * PAGE), None);
        assert_eq!(arena.cool(2 * PAGE), Some(ranges[0].clone()), "the first that came back");
        assert_eq!((arena.cool(2 * PAGE), arena.cool(0)), (None, Some(ranges[1].clone())));
    }
}
