//! Which addresses the device has for our memory, as we make them up.
//!
//! All lie between 4 GiB, above what the platform keeps for itself (interrupts are written to 0xfee00000), and 512
//! GiB: an IOMMU translates 39 bits at least. Invariant: no two regions overlap, and between any two lies a hole of
//! [`GAP`], so that an access past the end of one hits nothing.

use std::collections::BTreeMap;

use virgld_protocol::channel::HUGE_PAGE;

/// The addresses that are given out.
#[derive(Default)]
pub(super) struct Addresses {
    /// Where each region begins and ends.
    taken: BTreeMap<u64, u64>,
    /// Where the search goes on: an address that was left behind is not used again soon.
    next: u64,
}

impl Addresses {
    /// The address of a region of `bytes`, or nothing if there is no room.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u64> {
        let length = (bytes as u64).checked_next_multiple_of(GAP)?.checked_add(GAP)?;
        let start = self.room_from(self.next.max(FIRST), length).or_else(|| self.room_from(FIRST, length))?;
        self.taken.insert(start, start + length);
        self.next = start + length;
        Some(start)
    }

    /// Takes the address that a region of `bytes` had on a device before. Says whether it is free.
    pub(super) fn claim(&mut self, start: u64, bytes: usize) -> bool {
        let span = (bytes as u64).checked_next_multiple_of(GAP).and_then(|length| length.checked_add(GAP));
        let Some(end) = span.and_then(|length| start.checked_add(length)) else { return false };
        let before = self.taken.range(..end).next_back();
        let free = start >= FIRST && end <= LIMIT && before.is_none_or(|(_, taken)| *taken <= start);
        if free {
            self.taken.insert(start, end);
            self.next = self.next.max(end);
        }
        free
    }

    /// A region is gone.
    pub(super) fn give_back(&mut self, start: u64) {
        self.taken.remove(&start);
    }

    fn room_from(&self, from: u64, length: u64) -> Option<u64> {
        let before = self.taken.range(..from).next_back().map_or(from, |(_, end)| from.max(*end));
        let mut start = before;
        for (taken, end) in self.taken.range(from..) {
            if taken - start >= length {
                break;
            }
            start = *end;
        }
        start.checked_add(length).is_some_and(|end| end <= LIMIT).then_some(start)
    }
}

const FIRST: u64 = 4 << 30;
const LIMIT: u64 = 1 << 39;
/// An IOMMU maps a huge page by one entry if the address is a multiple as well.
const GAP: u64 = HUGE_PAGE as u64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes and goes, what is there at one time is apart and in bounds.
        #[test]
        fn regions_never_touch(
            steps in prop::collection::vec((any::<bool>(), 1_usize..1 << 37, any::<prop::sample::Index>()), 1..80),
        ) {
            let mut addresses = Addresses::default();
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (take, bytes, pick) in steps {
                if take {
                    let Some(start) = addresses.take(bytes) else { continue };
                    let end = start + bytes as u64;
                    prop_assert!(start >= FIRST && end <= LIMIT && start.is_multiple_of(4096));
                    prop_assert!(held.iter().all(|(other, last)| end + GAP <= *other || last + GAP <= start));
                    held.push((start, end));
                } else if !held.is_empty() {
                    addresses.give_back(held.swap_remove(pick.index(held.len())).0);
                }
            }
        }
    }

    #[test]
    fn what_one_device_had_another_has_at_the_same_places() {
        let mut before = Addresses::default();
        let held: Vec<_> = [1 << 30, 4096, 3 << 20].map(|bytes| (before.take(bytes).unwrap(), bytes)).into();
        let mut next = Addresses::default();
        for (start, bytes) in held.iter().rev() {
            assert!(next.claim(*start, *bytes));
            assert!(!next.claim(*start, *bytes), "it is taken");
        }
        assert!(!next.claim(held[0].0 + 4096, 4096), "inside another");
        assert!(!next.claim(0, 4096) && !next.claim(LIMIT, 4096) && !next.claim(FIRST, usize::MAX));
        let fresh = next.take(4096).unwrap();
        assert!(held.iter().all(|(start, bytes)| fresh >= start + *bytes as u64 || fresh + 4096 <= *start));
    }

    #[test]
    fn room_that_comes_back_is_used_again_but_not_at_once() {
        let mut addresses = Addresses::default();
        let first = addresses.take(1 << 37).unwrap();
        addresses.give_back(first);
        assert_ne!(addresses.take(1 << 37), Some(first));
        assert!(addresses.take(1 << 38).is_none(), "no run is so long any more");
        let third = addresses.take(1 << 37);
        assert!(third.is_some_and(|third| third != first), "{third:x?}");
        assert!(addresses.take(usize::MAX).is_none());
    }
}
