//! What has been executed and what is complete, in the order in which it was begun.

use std::collections::VecDeque;

use virgld_protocol::ids::Serial;
use virgld_protocol::message::scheme::Reached;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    UnderWay,
    Executed,
    Complete,
}

/// Work under way. Devices answer it in any order; a client is told up to where all is done.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    entries: VecDeque<(Serial, Progress)>,
    /// How many entries from the front on are executed or complete.
    executed: usize,
    reached: Reached,
    /// Work under way whose completion says that all before it has taken effect.
    fences: VecDeque<Serial>,
    /// The last work behind which a fence has signalled.
    settled: Serial,
}

impl Timeline {
    /// Work begins. Serials ascend; one that comes late is put in its place.
    pub(crate) fn begin(&mut self, serial: Serial) {
        let late = self.entries.iter().rev().take_while(|(other, _)| *other > serial).count();
        let index = self.entries.len() - late;
        self.entries.insert(index, (serial, Progress::UnderWay));
        self.executed = self.executed.min(index);
    }

    /// The device has been through work. Says whether that is news.
    pub(crate) fn execute(&mut self, serial: Serial) -> bool {
        self.advance(serial, Progress::Executed)
    }

    /// Work is complete. Says whether that is news.
    pub(crate) fn complete(&mut self, serial: Serial) -> bool {
        if let Ok(index) = self.fences.binary_search(&serial) {
            self.fences.remove(index);
        }
        self.advance(serial, Progress::Complete)
    }

    /// This work carries a fence.
    pub(crate) fn fence(&mut self, serial: Serial) {
        let late = self.fences.iter().rev().take_while(|other| **other > serial).count();
        self.fences.insert(self.fences.len() - late, serial);
    }

    /// Whether work under way carries a fence.
    pub(crate) fn is_fence(&self, serial: Serial) -> bool {
        self.fences.binary_search(&serial).is_ok()
    }

    /// Whether the fence behind this work has signalled.
    pub(crate) fn is_settled(&self, serial: Serial) -> bool {
        serial <= self.settled
    }

    /// What has been executed up to here is complete.
    pub(crate) fn settle(&mut self, through: Serial) {
        for (_, progress) in self.entries.iter_mut().take_while(|(serial, _)| *serial <= through) {
            if *progress == Progress::Executed {
                *progress = Progress::Complete;
            }
        }
        self.settled = self.settled.max(through);
        self.retire();
    }

    /// Whether work up to here is not complete.
    pub(crate) fn lacks(&self, serial: Serial) -> bool {
        self.entries.front().is_some_and(|(first, _)| *first <= serial)
    }

    /// How far all work is.
    pub(crate) fn reached(&self) -> Reached {
        self.reached
    }

    fn advance(&mut self, serial: Serial, to: Progress) -> bool {
        let Ok(index) = self.entries.binary_search_by_key(&serial, |(serial, _)| *serial) else {
            return false;
        };
        let progress = &mut self.entries[index].1;
        if *progress >= to {
            return false;
        }
        *progress = to;
        self.retire();
        true
    }

    fn retire(&mut self) {
        while let Some((serial, progress)) = self.entries.get(self.executed)
            && *progress >= Progress::Executed
        {
            self.reached.executed = self.reached.executed.max(*serial);
            self.executed += 1;
        }
        while let Some((serial, Progress::Complete)) = self.entries.front() {
            self.reached.complete = self.reached.complete.max(*serial);
            self.entries.pop_front();
            self.executed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(serials: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        serials.iter().for_each(|serial| timeline.begin(Serial(*serial)));
        timeline
    }

    fn marks(timeline: &Timeline) -> (u64, u64) {
        (timeline.reached().executed.0, timeline.reached().complete.0)
    }

    #[test]
    fn out_of_order_completion_retires_in_order() {
        let mut timeline = begun(&[3, 5, 9]);
        assert!(timeline.complete(Serial(5)));
        assert_eq!(marks(&timeline), (0, 0));
        assert!(timeline.complete(Serial(3)));
        assert_eq!(marks(&timeline), (5, 5));
        assert!(timeline.complete(Serial(9)));
        assert_eq!(marks(&timeline), (9, 9));
    }

    #[test]
    fn what_comes_late_is_told_of_and_takes_nothing_back() {
        let mut timeline = begun(&[1, 3]);
        assert!(timeline.execute(Serial(1)));
        assert!(timeline.execute(Serial(3)));
        timeline.begin(Serial(2));
        assert_eq!(marks(&timeline), (3, 0));
        timeline.settle(Serial(3));
        assert_eq!(marks(&timeline), (3, 1), "2 is under way");
        assert!(timeline.complete(Serial(2)));
        assert_eq!(marks(&timeline), (3, 3));
        timeline.begin(Serial(2));
        assert!(timeline.complete(Serial(2)), "it is answered, though all is over");
        assert_eq!(marks(&timeline), (3, 3));
    }

    #[test]
    fn what_is_not_under_way_cannot_complete() {
        let mut timeline = begun(&[1, 2]);
        assert!(!timeline.complete(Serial(7)));
        assert!(timeline.complete(Serial(2)));
        assert!(!timeline.complete(Serial(2)));
        assert!(!timeline.execute(Serial(2)));
    }

    #[test]
    fn a_fence_completes_what_was_executed_before_it_and_nothing_else() {
        let mut timeline = begun(&[1, 2, 3, 4]);
        assert!(timeline.execute(Serial(1)));
        assert!(timeline.execute(Serial(2)));
        assert!(timeline.execute(Serial(4)));
        assert_eq!(marks(&timeline), (2, 0));
        timeline.settle(Serial(3));
        assert_eq!(marks(&timeline), (2, 2), "3 is under way, and 4 is behind the fence");
        assert!(timeline.complete(Serial(3)));
        assert_eq!(marks(&timeline), (4, 3));
    }
}
