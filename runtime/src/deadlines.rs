//! When actors want to be woken.
//!
//! Few of a stage's actors want that at a time, and those change their minds with almost every message. So they stand in no
//! order, and the soonest is looked for when one changes.

use crate::actor::Time;
use crate::stage::SlotId;

/// Who wants to be woken, and when.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    entries: Vec<(SlotId, Time)>,
    soonest: Option<(Time, SlotId)>,
}

impl Deadlines {
    /// An actor wants to be woken at this time and at no other, or not at all.
    pub(crate) fn set(&mut self, slot: SlotId, deadline: Option<Time>) {
        let entry = self.entries.iter().position(|(other, _)| *other == slot);
        match (entry, deadline) {
            (None, None) => return,
            (None, Some(time)) => self.entries.push((slot, time)),
            (Some(index), Some(time)) if self.entries[index].1 == time => return,
            (Some(index), Some(time)) => self.entries[index].1 = time,
            (Some(index), None) => drop(self.entries.swap_remove(index)),
        }
        self.soonest = self.entries.iter().map(|(slot, time)| (*time, *slot)).min();
    }

    /// The first of them, and when.
    pub(crate) fn soonest(&self) -> Option<(Time, SlotId)> {
        self.soonest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_soonest_is_that_of_all_whatever_changes() {
        let (mut deadlines, mut model) = (Deadlines::default(), BTreeMap::new());
        // Numbers as a linear congruential generator has them.
        let mut number = 1_u64;
        for _ in 0..10_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (slot, time) = (SlotId(number >> 32 & 7), Time(number >> 40 & 15));
            if number >> 60 == 0 {
                deadlines.set(slot, None);
                model.remove(&slot);
            } else {
                deadlines.set(slot, Some(time));
                model.insert(slot, time);
            }
            let soonest = model.iter().map(|(slot, time)| (*time, *slot)).min();
            assert_eq!(deadlines.soonest(), soonest);
        }
        (0..8).for_each(|slot| deadlines.set(SlotId(slot), None));
        assert_eq!(deadlines.soonest(), None);
    }
}
