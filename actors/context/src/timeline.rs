//! What has completed, in the order in which it was begun.

use std::collections::VecDeque;

use virgld_protocol::ids::Serial;

/// Work under way. Devices complete it in any order; a client is told up to where all is complete.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    under_way: VecDeque<(Serial, bool)>,
    through: Serial,
}

impl Timeline {
    /// Work begins. Serials ascend.
    pub(crate) fn begin(&mut self, serial: Serial) {
        self.under_way.push_back((serial, false));
    }

    /// Work is complete. Says up to where all is, or nothing if this was not under way.
    pub(crate) fn complete(&mut self, serial: Serial) -> Option<Serial> {
        let index = self.under_way.binary_search_by_key(&serial, |(serial, _)| *serial).ok()?;
        let done = &mut self.under_way[index].1;
        if std::mem::replace(done, true) {
            return None;
        }
        while let Some((serial, true)) = self.under_way.front() {
            self.through = *serial;
            self.under_way.pop_front();
        }
        Some(self.through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_order_completion_retires_in_order() {
        let mut timeline = Timeline::default();
        for serial in [3, 5, 9] {
            timeline.begin(Serial(serial));
        }
        assert_eq!(timeline.complete(Serial(5)), Some(Serial(0)));
        assert_eq!(timeline.complete(Serial(3)), Some(Serial(5)));
        assert_eq!(timeline.complete(Serial(9)), Some(Serial(9)));
    }

    #[test]
    fn what_is_not_under_way_cannot_complete() {
        let mut timeline = Timeline::default();
        timeline.begin(Serial(1));
        timeline.begin(Serial(2));
        assert_eq!(timeline.complete(Serial(7)), None);
        assert_eq!(timeline.complete(Serial(2)), Some(Serial(0)));
        assert_eq!(timeline.complete(Serial(2)), None);
    }
}
