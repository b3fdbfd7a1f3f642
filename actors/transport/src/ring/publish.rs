//! Towards the device: descriptors, the available ring, and whether to kick.

use virgld_runtime::memory::full_barrier;

use super::chain::{Chain, Segment, Table};
use super::layout::{DESCRIPTOR_SIZE, Descriptor, INDIRECT, NEXT, WRITE};
use super::{Refused, Ring, RingFault, RingFeatures};

/// VIRTQ_USED_F_NO_NOTIFY: the device wants no kicks.
const NO_NOTIFY: u16 = 1;

impl Ring {
    /// Queues one chain, which the device sees with the next [`Ring::flush`], and says which descriptor heads it.
    /// The cookie comes back with the chain. A refused chain leaves the ring as it was.
    pub fn publish(&mut self, chain: &Chain<'_>, cookie: u32) -> Result<u16, Refused> {
        self.healthy()?;
        let (segments, writable) = chain.check(self.capacity())?;
        let table = chain.table(self.features);
        let needed = if table.is_some() { 1 } else { segments };
        if needed > self.free() {
            return Err(Refused::Full { needed, free: self.free() });
        }
        let head = self.slots.first_free();
        let last = match table {
            Some(table) => self.write_table(chain, segments, table, head)?,
            None => self.write_chained(chain, segments, head)?,
        };
        let written = self.layout.write_available(self.available, head);
        self.convict(written)?;
        self.slots.claim(needed, last, writable, cookie);
        self.available = self.available.wrapping_add(1);
        Ok(head)
    }

    /// Shows the device all that was published (sections 2.7.13.3, 2.7.13.4). True if it wants a kick: one for
    /// any number of chains.
    pub fn flush(&mut self) -> Result<bool, RingFault> {
        self.healthy()?;
        let before = self.visible;
        if before == self.available {
            return Ok(false);
        }
        let stored = self.layout.store_available_index(self.available);
        self.convict(stored)?;
        self.visible = self.available;
        self.slots.flush();
        // The device first says when it wants a kick and then looks at the index; we first move the index and
        // then look at what it said. With a full barrier on each side, one of the two sees the other.
        full_barrier();
        let wanted = if self.features.contains(RingFeatures::EVENT_IDX) {
            self.layout.load_available_event().map(|event| passes(event, before, self.visible))
        } else {
            self.layout.load_used_flags().map(|flags| flags & NO_NOTIFY == 0)
        };
        self.convict(wanted)
    }

    /// One descriptor that points to a table (section 2.7.5.3). The answer is the last descriptor taken.
    fn write_table(
        &mut self,
        chain: &Chain<'_>,
        segments: u16,
        table: Table<'_>,
        head: u16,
    ) -> Result<u16, Refused> {
        let length = Table::bytes(usize::from(segments));
        let segment = Segment::of(table.slice, table.offset, length).map_err(Refused::Table)?;
        let mut at = table.offset;
        for (entry, next) in chain.segments().zip(1..) {
            table.slice.write(at, &link(entry, next, next < segments).encode()).map_err(Refused::Table)?;
            at += DESCRIPTOR_SIZE;
        }
        let written = self.layout.write_descriptor(head, &Descriptor { segment, flags: INDIRECT, next: 0 });
        self.convict(written)?;
        Ok(head)
    }

    /// A descriptor of the ring for each segment. The answer is the last descriptor taken.
    fn write_chained(&mut self, chain: &Chain<'_>, segments: u16, head: u16) -> Result<u16, RingFault> {
        let mut at = head;
        for (entry, count) in chain.segments().zip(1..) {
            let (more, next) = (count < segments, self.slots.after(at));
            let written = self.layout.write_descriptor(at, &link(entry, next, more));
            self.convict(written)?;
            if more {
                at = next;
            }
        }
        Ok(at)
    }
}

fn link((segment, written): (Segment, bool), next: u16, more: bool) -> Descriptor {
    let direction = if written { WRITE } else { 0 };
    let (flags, next) = if more { (direction | NEXT, next) } else { (direction, 0) };
    Descriptor { segment, flags, next }
}

/// Whether an index that moved from `before` to `after` passed `event` (section 2.7.10).
fn passes(event: u16, before: u16, after: u16) -> bool {
    after.wrapping_sub(event).wrapping_sub(1) < after.wrapping_sub(before)
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn an_event_is_passed_by_the_step_that_leaves_it_behind() {
        assert!(passes(5, 5, 6));
        assert!(passes(5, 3, 6));
        assert!(!passes(5, 6, 7));
        assert!(!passes(5, 4, 5));
        assert!(!passes(4, 5, 5));
    }

    #[test]
    fn events_pass_across_the_wrap() {
        assert!(passes(u16::MAX, u16::MAX, 0));
        assert!(passes(0, u16::MAX - 1, 1));
        assert!(!passes(u16::MAX - 1, u16::MAX, 0));
        assert!(!passes(1, u16::MAX, 1));
    }
}
