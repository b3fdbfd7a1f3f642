//! Letting resources go, and the memory behind them once the device has let go of it.

use std::ops::Range;

use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::resource::Backing;
use virgld_protocol::message::transport::RegionRequest;
use virgld_runtime::link::RegionId;

use crate::account::Charge;
use crate::arena::{Arena, WARM_BYTES, in_memory};
use crate::state::{Effect, Owner, State, dismiss, key, number, seen};

impl State {
    pub(crate) fn release(&mut self, resource: ResourceId, effects: &mut Vec<Effect>) {
        let record =
            key(resource).and_then(|key| self.records.get_mut(key)).filter(|record| !record.released);
        let Some(record) = record else { return };
        record.released = true;
        if let Some(account) = self.owners.get_mut(&record.owner) {
            account.leaving.resources += 1;
            account.leaving.bytes += record.backing.length;
        }
        self.end_moves(resource, effects);
        // A device that is lost may write until there is another, which will be told of the resource first: contexts
        // may have work that names it.
        if self.up {
            dismiss(resource, effects);
        }
    }

    /// Lets go of what was made and nobody has heard of, or makes it no more.
    pub(crate) fn withdraw(&mut self, token: Token, effects: &mut Vec<Effect>) {
        let made = self.records.iter().find(|(_, record)| record.asked == token).map(|(key, _)| number(key));
        match made {
            Some(resource) => self.release(resource, effects),
            None => self.forget_order(token, effects),
        }
    }

    /// The device has forgotten a resource: its number and its memory can be used again.
    pub(crate) fn unreferenced(&mut self, resource: ResourceId, effects: &mut Vec<Effect>) {
        let Some(key) = key(resource) else { return };
        if !self.records.get(key).is_some_and(|record| record.released) {
            return;
        }
        let record = self.records.remove(key);
        if let Some(account) = self.owners.get_mut(&record.owner) {
            account.leaving.resources -= 1;
            account.leaving.bytes -= record.backing.length;
        }
        self.discharge(record.owner, Charge::default().and_a_resource());
        for backing in record.before.iter().filter(|backing| backing.isolated) {
            // Descriptors that were taken back may be about; they keep no memory of ours in use.
            let _ = backing.region.memory.discard(in_memory(backing.offset), in_memory(backing.length));
        }
        for backing in record.before.iter().chain([&record.backing]) {
            self.give_back(record.owner, backing, effects);
        }
        self.go_on(record.owner, effects);
        self.settle_owner(record.owner, effects);
    }

    /// Gives memory back to where it came from.
    fn give_back(&mut self, owner: FileId, backing: &Backing, effects: &mut Vec<Effect>) {
        self.discharge_memory(owner, backing);
        let range = |offset: u64| offset..offset + backing.length;
        let in_sight = self.up && !backing.isolated && backing.device.is_none();
        if in_sight && self.keep_warm(owner, range(backing.offset), effects) {
            return;
        }
        if let Some((region, offset)) = seen(backing) {
            // Whoever has the memory next is shown to the device after this.
            self.hide(region.id, range(offset), effects);
        }
        if let (Some(place), Some(overflow)) = (&backing.device, &mut self.overflow) {
            overflow.give_back(range(place.offset));
        }
        if !backing.isolated {
            return self.return_range(owner, range(backing.offset));
        }
        self.close_region(backing.region.id, effects);
    }

    /// Gives a part of an arena back to it, to be had again as it is. Says false where it cannot stay so.
    fn keep_warm(&mut self, owner: FileId, range: Range<u64>, effects: &mut Vec<Effect>) -> bool {
        let arena = self.owners.get_mut(&owner).map(|account| &mut account.arena);
        let Some(Arena::Open(arena)) = arena else { return false };
        let kept = arena.keep_warm(range).is_ok();
        self.cool(owner, WARM_BYTES, effects);
        kept
    }

    /// Lets go of what is warm in a file's arena, down to so many bytes.
    pub(crate) fn cool(&mut self, owner: FileId, bytes: u64, effects: &mut Vec<Effect>) {
        while let Some(Owner { arena: Arena::Open(arena), .. }) = self.owners.get_mut(&owner)
            && let Some(range) = arena.cool(bytes)
        {
            let id = arena.region.id;
            self.hide(id, range, effects);
        }
    }

    /// The device that saw what is warm is gone.
    pub(crate) fn cool_all(&mut self, effects: &mut Vec<Effect>) {
        let owners: Vec<FileId> = self.owners.keys().copied().collect();
        owners.into_iter().for_each(|owner| self.cool(owner, 0, effects));
    }

    /// Ends the device's sight of memory. One that is lost has none.
    fn hide(&self, id: RegionId, range: Range<u64>, effects: &mut Vec<Effect>) {
        if self.up {
            let (offset, length) = (in_memory(range.start), in_memory(range.end - range.start));
            effects.push(Effect::Region(RegionRequest::Hide { id, offset, length }));
        }
    }

    /// Gives a part of an arena back to it.
    pub(crate) fn return_range(&mut self, owner: FileId, range: Range<u64>) {
        if let Some(Owner { arena: Arena::Open(arena), .. }) = self.owners.get_mut(&owner) {
            arena.give_back(range);
        }
    }

    pub(crate) fn close_region(&mut self, id: RegionId, effects: &mut Vec<Effect>) {
        self.regions -= 1;
        effects.push(Effect::Region(RegionRequest::Close { id }));
    }

    pub(crate) fn retire(&mut self, owner: FileId, effects: &mut Vec<Effect>) {
        if let Some(account) = self.owners.get_mut(&owner) {
            account.retired = true;
        }
        self.drop_orders(owner, effects);
        self.settle_owner(owner, effects);
    }

    /// Forgets a closed file when its last resource is gone, and its arena with it.
    pub(crate) fn settle_owner(&mut self, owner: FileId, effects: &mut Vec<Effect>) {
        let over = |account: &Owner| {
            let opening = matches!(&account.arena, Arena::Opening(queue) if !queue.is_empty());
            account.retired && account.charge.resources == 0 && !opening
        };
        if !self.owners.get(&owner).is_some_and(over) {
            return;
        }
        self.cool(owner, 0, effects);
        if let Some(account) = self.owners.remove(&owner)
            && let Arena::Open(arena) = account.arena
        {
            self.close_region(arena.region.id, effects);
        }
    }
}
