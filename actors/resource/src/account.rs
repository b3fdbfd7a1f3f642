//! Who pays for what: the charges of an open file, and of the user whose files they are.

use virgld_protocol::ids::{FileId, UserId};
use virgld_protocol::message::resource::Backing;

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
}

/// What is charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) bytes: u64,
    pub(crate) isolated_bytes: u64,
    pub(crate) resources: usize,
    pub(crate) isolated: usize,
}

impl Charge {
    /// For the memory of one backing.
    pub(crate) fn memory(bytes: u64, isolated: bool) -> Self {
        let own = Self { bytes, isolated_bytes: bytes, resources: 0, isolated: 1 };
        if isolated { own } else { Self { bytes, ..Self::default() } }
    }

    /// What turns a buffer in an arena into one with memory of its own, which another has taken the place of.
    pub(crate) fn isolation(bytes: u64) -> Self {
        Self { isolated_bytes: bytes, isolated: 1, ..Self::default() }
    }

    pub(crate) fn and_a_resource(self) -> Self {
        Self { resources: self.resources + 1, ..self }
    }

    fn of(backing: &Backing) -> Self {
        Self::memory(backing.length, backing.isolated)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            isolated_bytes: self.isolated_bytes.saturating_add(other.isolated_bytes),
            resources: self.resources + other.resources,
            isolated: self.isolated + other.isolated,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes - other.bytes,
            isolated_bytes: self.isolated_bytes - other.isolated_bytes,
            resources: self.resources - other.resources,
            isolated: self.isolated - other.isolated,
        }
    }

    fn is_within(&self, quota: &Quota) -> bool {
        self.bytes <= quota.bytes
            && self.isolated_bytes <= quota.isolated_bytes
            && self.resources <= quota.resources
            && self.isolated <= quota.isolated
    }
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

    pub(crate) fn discharge_memory(&mut self, owner: FileId, backing: &Backing) {
        self.discharge(owner, Charge::of(backing));
    }
}
