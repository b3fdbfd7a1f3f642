//! Buffers in advance: which calls for them are under way, and how many more are worth making.
//!
//! Programs that stream make the same buffer over and over. Once a kind of buffer was asked for a few times, some more of
//! it are asked for before the program does: ordinary calls, whose answers lie in their slots until they are wanted.

use std::collections::VecDeque;

use virgld_protocol::client::ResourceCreate;

/// A call for what the program has not asked for yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pledge {
    /// The slot for its answer.
    pub(crate) slot: u8,
    /// Serial of its record.
    pub(crate) serial: u64,
}

/// How much there may be in stock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Room {
    /// Buffers of all kinds.
    pub(crate) buffers: usize,
    /// Bytes of memory behind them.
    pub(crate) bytes: u64,
}

/// What is in stock.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    room: Room,
    /// The kind that was asked for last comes last.
    kinds: Vec<Kind>,
    /// Nobody will ask for these.
    unwanted: Vec<Pledge>,
    /// Buffers that were asked for, of any kind.
    asked: u64,
}

#[derive(Debug)]
struct Kind {
    what: ResourceCreate,
    /// How often in all it was asked for.
    asked: usize,
    /// When it was last.
    last: u64,
    pledges: VecDeque<Pledge>,
}

impl Stock {
    pub(crate) fn new(room: Room) -> Self {
        Self { room, ..Self::default() }
    }

    /// The program asks for a buffer of this kind: one that was called for, if there is one.
    pub(crate) fn take(&mut self, what: &ResourceCreate) -> Option<Pledge> {
        self.asked += 1;
        self.retire();
        let mut kind = match self.kinds.iter().position(|kind| kind.what == *what) {
            Some(index) => self.kinds.remove(index),
            None => {
                if self.kinds.len() == MOST_KINDS {
                    let oldest = self.kinds.remove(0);
                    self.unwanted.extend(oldest.pledges);
                }
                Kind { what: *what, asked: 0, last: 0, pledges: VecDeque::new() }
            }
        };
        (kind.asked, kind.last) = (kind.asked + 1, self.asked);
        let pledge = kind.pledges.pop_front();
        self.kinds.push(kind);
        pledge
    }

    /// How many more of a kind are to be called for now: several at once, so that the daemon is woken seldom.
    pub(crate) fn lacking(&self, what: &ResourceCreate) -> usize {
        let Some(kind) = self.kinds.iter().find(|kind| kind.what == *what) else { return 0 };
        let bytes = |kind: &Kind| u64::from(kind.what.size.max(PAGE));
        let (mut buffers, mut room) = (self.unwanted.len(), self.room.bytes);
        for other in self.kinds.iter().filter(|other| other.what != *what) {
            buffers += other.pledges.len();
            room = room.saturating_sub(other.pledges.len() as u64 * bytes(other));
        }
        let by_bytes = usize::try_from(room / bytes(kind)).unwrap_or(usize::MAX);
        let by_count = self.room.buffers.saturating_sub(buffers);
        let wanted = match kind.asked {
            0..ENOUGH => 0,
            asked => asked.min(MOST_OF_A_KIND).min(by_count).min(by_bytes),
        };
        let there = kind.pledges.len();
        if there > wanted / 2 { 0 } else { wanted - there }
    }

    /// A buffer was called for.
    pub(crate) fn add(&mut self, what: &ResourceCreate, pledge: Pledge) {
        match self.kinds.iter_mut().find(|kind| kind.what == *what) {
            Some(kind) => kind.pledges.push_back(pledge),
            None => self.unwanted.push(pledge),
        }
    }

    /// There is no room for more of this kind: what was called for is not wanted, and no more is for a while.
    pub(crate) fn give_up(&mut self, what: &ResourceCreate) {
        if let Some(index) = self.kinds.iter().position(|kind| kind.what == *what) {
            self.unwanted.extend(self.kinds.remove(index).pledges);
        }
    }

    /// Takes out the unwanted of which `is_answered` says so.
    pub(crate) fn discard(&mut self, is_answered: impl Fn(&Pledge) -> bool) -> Vec<Pledge> {
        self.unwanted.extract_if(.., |pledge| is_answered(pledge)).collect()
    }

    /// What was not asked for in a long time will not be.
    fn retire(&mut self) {
        let asked = self.asked;
        while let Some(index) = self.kinds.iter().position(|kind| kind.last + LONG < asked) {
            self.unwanted.extend(self.kinds.remove(index).pledges);
        }
    }
}

/// A page is the least memory that a buffer has.
const PAGE: u32 = 4096;
/// So often a kind must have been asked for before more of it are called for.
const ENOUGH: usize = 4;
const MOST_OF_A_KIND: usize = 8;
const MOST_KINDS: usize = 4;
/// So many buffers of other kinds later, a kind is forgotten.
const LONG: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { buffers: 16, bytes: 1 << 20 };

    fn kind(width: u32) -> ResourceCreate {
        ResourceCreate { width, size: 16_384, ..Default::default() }
    }

    /// Asks for one, and calls for what is lacking.
    fn ask(stock: &mut Stock, what: &ResourceCreate) -> (Option<Pledge>, usize) {
        let pledge = stock.take(what);
        let lacking = stock.lacking(what);
        (0..lacking).for_each(|_| stock.add(what, Pledge { slot: 1, serial: stock.asked }));
        (pledge, lacking)
    }

    #[test]
    fn what_is_asked_for_again_and_again_is_there_from_then_on() {
        let mut stock = Stock::new(ROOM);
        let first: Vec<_> = (0..4).map(|_| ask(&mut stock, &kind(1))).collect();
        assert_eq!(first, [(None, 0), (None, 0), (None, 0), (None, 4)]);
        for round in 0..100 {
            assert!(ask(&mut stock, &kind(1)).0.is_some(), "{round}");
        }
        assert!(stock.kinds[0].pledges.len() <= MOST_OF_A_KIND);
    }

    #[test]
    fn several_are_called_for_at_once() {
        let mut stock = Stock::new(ROOM);
        for _ in 0..40 {
            ask(&mut stock, &kind(1));
        }
        let calls = (0..40).filter(|_| ask(&mut stock, &kind(1)).1 > 0).count();
        assert_eq!(calls, 10, "every fourth time");
    }

    #[test]
    fn a_kind_that_came_once_is_not_called_for() {
        let mut stock = Stock::new(ROOM);
        assert!((0..100).all(|width| ask(&mut stock, &kind(width)) == (None, 0)));
    }

    #[test]
    fn there_is_no_more_than_there_is_room_for() {
        let mut large = Stock::new(Room { bytes: 40_000, ..ROOM });
        for _ in 0..20 {
            ask(&mut large, &kind(1));
        }
        assert_eq!(large.kinds[0].pledges.len(), 2, "of 16 KiB, in 40,000 bytes");
        let mut none = Stock::new(Room::default());
        assert!((0..20).all(|_| ask(&mut none, &kind(1)) == (None, 0)));
        let mut kinds = Stock::new(ROOM);
        for _ in 0..20 {
            for width in 1..4 {
                ask(&mut kinds, &kind(width));
            }
            assert!(kinds.kinds.iter().map(|kind| kind.pledges.len()).sum::<usize>() <= ROOM.buffers);
        }
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_given_back() {
        let mut stock = Stock::new(ROOM);
        for _ in 0..4 {
            ask(&mut stock, &kind(1));
        }
        for width in 2..6 {
            ask(&mut stock, &kind(width));
        }
        assert_eq!(stock.discard(|_| false), []);
        assert_eq!(stock.discard(|_| true).len(), 4, "four other kinds have its place");
        assert_eq!(stock.discard(|_| true), []);
        for _ in 0..4 {
            ask(&mut stock, &kind(9));
        }
        stock.give_up(&kind(9));
        assert_eq!((stock.discard(|_| true).len(), ask(&mut stock, &kind(9))), (4, (None, 0)));
        for _ in 0..4 {
            ask(&mut stock, &kind(9));
        }
        for _ in 0..=LONG {
            ask(&mut stock, &kind(3));
        }
        assert!(stock.kinds.iter().all(|it| it.what != kind(9)), "long ago");
    }
}
