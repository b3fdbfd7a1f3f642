//! Who pays for what: the charges of an open file, and of the user whose files they are.

use virgld_protocol::ids::{FileId, UserId};
use virgld_protocol::message::resource::{Backing, Place};

use crate::state::State;

/// How much one file, or all files of one user together, may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of memory behind resources.
    pub bytes: u64,
    /// Of these, bytes of buffers with memory of their own.
    pub isolated_bytes: u64,
    /// Resources.
    pub resources: usize,
    /// Of these, buffers with memory of their own: each costs the daemon a descriptor.
    pub isolated: usize,
    /// Bytes that the daemon keeps besides, for what the device cannot reach.
    pub copied_bytes: u64,
}

/// What is charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) bytes: u64,
    pub(crate) isolated_bytes: u64,
    pub(crate) resources: usize,
    pub(crate) isolated: usize,
    pub(crate) copied_bytes: u64,
}

impl Charge {
    /// For the memory of one backing.
    pub(crate) fn memory(bytes: u64, isolated: bool) -> Self {
        let own = Self { bytes, isolated_bytes: bytes, isolated: 1, ..Self::default() };
        if isolated { own } else { Self { bytes, ..Self::default() } }
    }

    /// What turns a buffer in an arena into one with memory of its own, which another has taken the place of.
    pub(crate) fn isolation(bytes: u64) -> Self {
        Self { isolated_bytes: bytes, isolated: 1, ..Self::default() }
    }

    /// For the copies of a backing that the device cannot reach. All count from the beginning, though the last is made when
    /// the backing is mapped: that cannot fail for want of memory.
    fn copies(bytes: u64) -> Self {
        Self { copied_bytes: bytes * COPIES, ..Self::default() }
    }

    pub(crate) fn and_a_resource(self) -> Self {
        Self { resources: self.resources + 1, ..self }
    }

    fn of(backing: &Backing) -> Self {
        let copies = backing.device.as_ref().map_or(Self::default(), |_| Self::copies(backing.length));
        Self::memory(backing.length, backing.isolated).plus(copies)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            isolated_bytes: self.isolated_bytes.saturating_add(other.isolated_bytes),
            resources: self.resources + other.resources,
            isolated: self.isolated + other.isolated,
            copied_bytes: self.copied_bytes.saturating_add(other.copied_bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes - other.bytes,
            isolated_bytes: self.isolated_bytes - other.isolated_bytes,
            resources: self.resources - other.resources,
            isolated: self.isolated - other.isolated,
            copied_bytes: self.copied_bytes - other.copied_bytes,
        }
    }

    fn is_within(&self, quota: &Quota) -> bool {
        self.bytes <= quota.bytes
            && self.isolated_bytes <= quota.isolated_bytes
            && self.resources <= quota.resources
            && self.isolated <= quota.isolated
            && self.copied_bytes <= quota.copied_bytes
    }
}

/// Of what the device cannot reach, besides the client's own memory: what the device has, and what both had last.
const COPIES: u64 = 2;

/// Bytes that the daemon keeps besides a backing's own.
pub(crate) fn copied(backing: &Backing) -> u64 {
    Charge::of(backing).copied_bytes
}

impl State {
    /// Charges a file and its user; neither if it is too much for one of them.
    pub(crate) fn charge(&mut self, owner: FileId, charge: Charge) -> bool {
        let Some(account) = self.owners.get_mut(&owner) else { return false };
        let user = self.users.entry(account.user).or_default();
        let (file, all) = (account.charge.plus(charge), user.plus(charge));
        if !file.is_within(&self.limits.file) || !all.is_within(&self.limits.user) {
            return false;
        }
        account.charge = file;
        *user = all;
        true
    }

    /// Takes a charge back.
    pub(crate) fn discharge(&mut self, owner: FileId, charge: Charge) {
        let Some(account) = self.owners.get_mut(&owner) else { return };
        account.charge = account.charge.minus(charge);
        let user: UserId = account.user;
        if let Some(all) = self.users.get_mut(&user) {
            *all = all.minus(charge);
            if *all == Charge::default() {
                self.users.remove(&user);
            }
        }
    }

    /// Charges for the copies of so many bytes, and finds a place at the device for them.
    pub(crate) fn take_place(&mut self, owner: FileId, bytes: u64) -> Option<Place> {
        if !self.charge(owner, Charge::copies(bytes)) {
            return None;
        }
        let found = self.overflow.as_mut().and_then(|overflow| {
            let offset = overflow.take(bytes)?.start;
            Some(Place { region: overflow.region.clone(), offset })
        });
        if found.is_none() {
            self.discharge(owner, Charge::copies(bytes));
        }
        found
    }

    pub(crate) fn discharge_memory(&mut self, owner: FileId, backing: &Backing) {
        self.discharge(owner, Charge::of(backing));
    }
}
