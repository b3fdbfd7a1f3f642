//! What an actor keeps for somebody: its part of the leak report.

use crate::ids::{ContextId, FileId, ResourceId, UserId};

/// For whom something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// An open file, or one that has been closed.
    File(FileId),
    /// A user, whichever of their files it was.
    User(UserId),
    /// A GL context.
    Context(ContextId),
    /// Whoever pays for a resource.
    Resource(ResourceId),
    /// Nobody in particular.
    Nobody,
}

/// A thing that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// What it is, in words.
    pub what: &'static str,
    /// Its number among its like; 0 where they have none.
    pub number: u64,
    /// For whom.
    pub owner: Owner,
    /// Bytes of memory behind it.
    pub bytes: u64,
    /// What keeps it, where that is not its owner.
    pub kept: &'static str,
}

impl Live {
    /// A thing that its owner keeps.
    pub const fn new(what: &'static str, number: u64, owner: Owner) -> Self {
        Self { what, number, owner, bytes: 0, kept: "" }
    }

    /// With the memory behind it.
    #[must_use]
    pub const fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// With what keeps it.
    #[must_use]
    pub const fn kept(self, kept: &'static str) -> Self {
        Self { kept, ..self }
    }
}

/// The things that an actor keeps: all are counted, the first are named.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// By name.
    pub named: Vec<Live>,
    /// How many there are.
    pub total: usize,
}

impl Inventory {
    /// As many of the things as are named.
    pub const MOST: usize = 1000;
}

impl Extend<Live> for Inventory {
    fn extend<T: IntoIterator<Item = Live>>(&mut self, things: T) {
        for thing in things {
            self.total += 1;
            if self.named.len() < Self::MOST {
                self.named.push(thing);
            }
        }
    }
}

impl FromIterator<Live> for Inventory {
    fn from_iter<T: IntoIterator<Item = Live>>(things: T) -> Self {
        let mut inventory = Self::default();
        inventory.extend(things);
        inventory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_names_the_first() {
        let things = (0..2000).map(|number| Live::new("thing", number, Owner::Nobody));
        let inventory: Inventory = things.collect();
        assert_eq!((inventory.total, inventory.named.len()), (2000, Inventory::MOST));
        assert_eq!(inventory.named[5], Live::new("thing", 5, Owner::Nobody));
    }
}
