//! The ring's private record of its descriptors: which are free, and which chain each head stands for.
//!
//! The device never sees it, so it is what the device's words are judged by.

use super::RingFault;

/// A chain that the device has, or will have with the next flush.
struct InFlight {
    cookie: u32,
    /// The last of its descriptors; `links` leads there from the head.
    last: u16,
    descriptors: u16,
    /// How many bytes the device can write.
    writable: u32,
    /// How many chains were published before.
    sequence: u64,
}

/// A chain that came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Returned {
    pub(super) cookie: u32,
    pub(super) writable: u32,
}

/// The descriptors of a ring.
///
/// # Invariants
///
/// - Every descriptor is in exactly one list: the free list, or that of one chain.
/// - The free list is a queue: chains are taken from its front and come back to its end.
pub(super) struct Slots {
    /// For each descriptor the one behind it in its list; of no meaning for the last one.
    links: Box<[u16]>,
    /// For each descriptor the chain that it heads.
    chains: Box<[Option<InFlight>]>,
    first_free: u16,
    last_free: u16,
    free: u16,
    in_flight: u16,
    published: u64,
    /// How many chains had been published when the available index was last moved.
    flushed: u64,
}

impl Slots {
    /// `size` is a power of two, so not zero.
    pub(super) fn new(size: u16) -> Self {
        Self {
            links: (1..=size).collect(),
            chains: (0..size).map(|_| None).collect(),
            first_free: 0,
            last_free: size - 1,
            free: size,
            in_flight: 0,
            published: 0,
            flushed: 0,
        }
    }

    pub(super) fn free(&self) -> u16 {
        self.free
    }

    pub(super) fn in_flight(&self) -> u16 {
        self.in_flight
    }

    pub(super) fn cookies(&self) -> impl Iterator<Item = u32> + '_ {
        self.chains.iter().flatten().map(|chain| chain.cookie)
    }

    /// The descriptor that the next chain begins with, if there is a free one.
    pub(super) fn first_free(&self) -> u16 {
        self.first_free
    }

    /// The one behind it in its list.
    pub(super) fn after(&self, descriptor: u16) -> u16 {
        // PANIC: callers walk a list that begins at `first_free` and stop at its end.
        self.links[usize::from(descriptor)]
    }

    /// Takes the first `descriptors` of the free list, of which `last` is the last, for one chain. There must be
    /// as many.
    pub(super) fn claim(&mut self, descriptors: u16, last: u16, writable: u32, cookie: u32) {
        let head = self.first_free;
        self.first_free = self.after(last);
        self.free -= descriptors;
        let sequence = self.published;
        // PANIC: `head` was the front of a free list that is not empty, so it is a descriptor.
        self.chains[usize::from(head)] = Some(InFlight { cookie, last, descriptors, writable, sequence });
        self.in_flight += 1;
        self.published += 1;
    }

    /// From now on the device may give back all that was claimed.
    pub(super) fn flush(&mut self) {
        self.flushed = self.published;
    }

    /// Judges the id of a used element, and frees the chain it stands for.
    pub(super) fn give_back(&mut self, id: u32) -> Result<Returned, RingFault> {
        let size = self.chains.len();
        let known = u16::try_from(id).ok().filter(|head| usize::from(*head) < size);
        let head = known.ok_or(RingFault::UnknownId { id, size: u16::try_from(size).unwrap_or(u16::MAX) })?;
        // PANIC: `head` is below the number of chains.
        let place = &mut self.chains[usize::from(head)];
        let flushed = self.flushed;
        let chain = match place.take_if(|chain| chain.sequence < flushed) {
            Some(chain) => chain,
            None if place.is_some() => return Err(RingFault::NotYetAvailable { id: head }),
            None => return Err(RingFault::NotInFlight { id: head }),
        };
        self.append_free(head, &chain);
        self.in_flight -= 1;
        Ok(Returned { cookie: chain.cookie, writable: chain.writable })
    }

    fn append_free(&mut self, head: u16, chain: &InFlight) {
        if self.free == 0 {
            self.first_free = head;
        } else {
            // PANIC: `last_free` is a descriptor while the list is not empty.
            self.links[usize::from(self.last_free)] = head;
        }
        self.last_free = chain.last;
        self.free += chain.descriptors;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(slots: &mut Slots, descriptors: u16, cookie: u32) -> u16 {
        let head = slots.first_free();
        let last = (1..descriptors).fold(head, |at, _| slots.after(at));
        slots.claim(descriptors, last, 0, cookie);
        head
    }

    #[test]
    fn descriptors_are_reused_oldest_first() {
        let mut slots = Slots::new(4);
        let first = claim(&mut slots, 1, 10);
        slots.flush();
        assert_eq!(slots.give_back(u32::from(first)).map(|returned| returned.cookie), Ok(10));
        let heads: Vec<u16> = (0..4).map(|cookie| claim(&mut slots, 1, cookie)).collect();
        assert_eq!(heads, [1, 2, 3, 0]);
    }

    #[test]
    fn an_empty_list_fills_again() {
        let mut slots = Slots::new(4);
        claim(&mut slots, 3, 1);
        claim(&mut slots, 1, 2);
        slots.flush();
        assert_eq!(slots.free(), 0);
        slots.give_back(3).unwrap();
        slots.give_back(0).unwrap();
        assert_eq!(slots.free(), 4);
        claim(&mut slots, 4, 3);
        assert_eq!(slots.cookies().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn an_id_is_judged() {
        let mut slots = Slots::new(4);
        claim(&mut slots, 2, 7);
        assert_eq!(slots.give_back(0), Err(RingFault::NotYetAvailable { id: 0 }));
        slots.flush();
        assert_eq!(slots.give_back(1), Err(RingFault::NotInFlight { id: 1 }));
        assert_eq!(slots.give_back(2), Err(RingFault::NotInFlight { id: 2 }));
        assert_eq!(slots.give_back(4), Err(RingFault::UnknownId { id: 4, size: 4 }));
        assert_eq!(slots.give_back(0x1_0000), Err(RingFault::UnknownId { id: 0x1_0000, size: 4 }));
        assert_eq!(slots.give_back(0), Ok(Returned { cookie: 7, writable: 0 }));
        assert_eq!(slots.give_back(0), Err(RingFault::NotInFlight { id: 0 }));
    }
}
