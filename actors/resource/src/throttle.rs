//! Creations wait while the device has much to let go of.
//!
//! A program that makes and drops buffers without waiting for anything is faster than any device. What it dropped counts
//! until the device has let go of it, and every command about it is ahead of other programs' commands. So its next buffer
//! comes when the device has caught up: the caller waits, as for room in a queue.

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::FileId;

use crate::account::Charge;
use crate::create::{Order, Waiting, refuse};
use crate::state::{Effect, State};

/// What the device has not let go of yet, of one owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) resources: usize,
    pub(crate) bytes: u64,
}

impl Leaving {
    fn is_much(self) -> bool {
        self.resources >= MOST_RESOURCES || self.bytes >= MOST_BYTES
    }
}

impl State {
    /// Takes an order on, now or later.
    pub(crate) fn accept(&mut self, order: Order, effects: &mut Vec<Effect>) {
        let owner = order.owner;
        if let Some(account) = self.owners.get_mut(&owner) {
            account.orders.push_back(order);
        }
        self.go_on(owner, effects);
    }

    /// Carries out the orders of an owner that need not wait any more. Without a device nothing is let go of, and nothing
    /// waits.
    pub(crate) fn go_on(&mut self, owner: FileId, effects: &mut Vec<Effect>) {
        while let Some(account) = self.owners.get_mut(&owner)
            && let Some(order) = account.orders.pop_front()
        {
            let much = account.leaving.is_much();
            let catching_up = self.is_catching_up(owner);
            if catching_up && much {
                return self.put_back(order);
            }
            if self.charge(owner, Charge::memory(order.bytes, order.shareable).and_a_resource()) {
                if !self.carry_out(order, effects) {
                    return;
                }
            } else if catching_up {
                // There will be room.
                return self.put_back(order);
            } else {
                refuse(order.token, Errno::ENOMEM, effects);
            }
        }
    }

    /// The device is gone: nothing waits for it.
    pub(crate) fn all_go_on(&mut self, effects: &mut Vec<Effect>) {
        let owners: Vec<FileId> =
            self.owners.iter().filter(|(_, it)| !it.orders.is_empty()).map(|(owner, _)| *owner).collect();
        owners.into_iter().for_each(|owner| self.go_on(owner, effects));
    }

    /// The file is closed: what it ordered is not made.
    pub(crate) fn drop_orders(&mut self, owner: FileId, effects: &mut Vec<Effect>) {
        let orders = self.owners.get_mut(&owner).map(|account| std::mem::take(&mut account.orders));
        for order in orders.unwrap_or_default() {
            refuse(order.token, Errno::ENODEV, effects);
        }
    }

    /// Whether the device is about to let go of some of an owner's.
    pub(crate) fn is_catching_up(&self, owner: FileId) -> bool {
        self.up && self.owners.get(&owner).is_some_and(|account| account.leaving != Leaving::default())
    }

    /// False if it waits for memory.
    fn carry_out(&mut self, order: Order, effects: &mut Vec<Effect>) -> bool {
        if !order.shareable {
            return self.create_in_arena(order, effects);
        }
        let bytes = order.bytes;
        // Places at the device are kept for arenas: without one, this buffer's bytes are copied.
        self.open(Waiting::Create(order), bytes, true, effects);
        true
    }

    pub(crate) fn put_back(&mut self, order: Order) {
        if let Some(account) = self.owners.get_mut(&order.owner) {
            account.orders.push_front(order);
        }
    }
}

/// As many as keep a device busy while the next commands come: it takes some ten microseconds for each.
const MOST_RESOURCES: usize = 64;
const MOST_BYTES: u64 = 64 << 20;
