//! Making resources, and finding memory for them.

use std::collections::VecDeque;
use std::ops::Range;

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, ResourceId, Token, UserId};
use virgld_protocol::message::ctrlq::ResourceCommand;
use virgld_protocol::message::resource::{Backing, Notice, Shape};
use virgld_protocol::message::transport::RegionRequest;
use virgld_runtime::link::Region;

use crate::account::Charge;
use crate::arena::{Arena, OpenArena, in_memory, whole_pages};
use crate::state::{Effect, Owner, Record, State, announce, back, key, number};
use crate::throttle::Leaving;

/// What a region that was asked for is for.
pub(crate) enum Waiting {
    /// The place for what the device cannot reach.
    Overflow,
    /// The arena of an owner.
    Arena(FileId),
    /// A resource with memory of its own.
    Create(Order),
    /// A resource that is to have memory of its own.
    Isolate(Token, ResourceId),
    /// A resource that is to have other memory of its own than it has.
    Move(Token, ResourceId),
    /// Not a region: a resource that waits for its owner's arena.
    InArena(Order),
}

/// A resource to be made.
pub(crate) struct Order {
    pub(crate) token: Token,
    pub(crate) owner: FileId,
    pub(crate) shape: Shape,
    pub(crate) bytes: u64,
    pub(crate) shareable: bool,
}

impl State {
    /// Opens the account of a file that has none.
    pub(crate) fn admit(&mut self, owner: FileId, user: UserId) {
        self.owners.entry(owner).or_insert_with(|| Owner {
            arena: Arena::Opening(Vec::new()),
            user,
            charge: Charge::default(),
            orders: VecDeque::new(),
            leaving: Leaving::default(),
            retired: false,
        });
    }

    pub(crate) fn create(
        &mut self,
        token: Token,
        owner: FileId,
        shape: Shape,
        bytes: u64,
        shareable: bool,
        effects: &mut Vec<Effect>,
    ) {
        let fits_one_command = |bytes: &u64| u32::try_from(*bytes).is_ok();
        let Some(bytes) = whole_pages(bytes).filter(fits_one_command) else {
            return refuse(token, Errno::ENOMEM, effects);
        };
        self.accept(Order { token, owner, shape, bytes, shareable }, effects);
    }

    /// Makes a resource in its owner's arena, now or when that is there. False if it waits for memory instead.
    pub(crate) fn create_in_arena(&mut self, order: Order, effects: &mut Vec<Effect>) -> bool {
        let Some(account) = self.owners.get_mut(&order.owner) else { return true };
        match &mut account.arena {
            Arena::Opening(queue) => {
                let first = queue.is_empty();
                let owner = order.owner;
                self.next_token += 1;
                let token = Token(self.next_token);
                queue.push(token);
                self.waiting.insert(token, Waiting::InArena(order));
                if first {
                    let bytes = self.limits.arena_bytes;
                    self.open(Waiting::Arena(owner), bytes, false, effects);
                }
                true
            }
            Arena::Open(_) => {
                let Some((region, range)) = self.take_range(order.owner, order.bytes, effects) else {
                    return self.lack_room(order, effects);
                };
                let Some(backing) = self.placed(order.owner, region, range.start, order.bytes, false) else {
                    self.return_range(order.owner, range);
                    return self.lack_room(order, effects);
                };
                self.made(order, backing, effects);
                true
            }
            Arena::Refused => {
                self.give_up(&order, Errno::ENOMEM, effects);
                true
            }
        }
    }

    /// Takes a part of a file's arena, where there is one so long: at the worst by letting go of what is warm.
    fn take_range(
        &mut self,
        owner: FileId,
        bytes: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<(Region, Range<u64>)> {
        let take = |account: &mut Owner| match &mut account.arena {
            Arena::Open(arena) => Some((arena.region.clone(), arena.take(bytes)?)),
            Arena::Opening(_) | Arena::Refused => None,
        };
        self.owners.get_mut(&owner).and_then(take).or_else(|| {
            self.cool(owner, 0, effects);
            self.owners.get_mut(&owner).and_then(take)
        })
    }

    /// There is no memory for a resource: it waits if the device is about to let go of some, and comes to nothing if not.
    /// False if it waits.
    fn lack_room(&mut self, order: Order, effects: &mut Vec<Effect>) -> bool {
        if !self.is_catching_up(order.owner) {
            self.give_up(&order, Errno::ENOMEM, effects);
            return true;
        }
        self.uncharge(&order);
        self.put_back(order);
        false
    }

    /// Asks for a region.
    pub(crate) fn open(
        &mut self,
        what: Waiting,
        bytes: u64,
        device_optional: bool,
        effects: &mut Vec<Effect>,
    ) {
        let token = self.token();
        self.waiting.insert(token, what);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        effects.push(Effect::Region(RegionRequest::Open { token, bytes, device_optional }));
    }

    pub(crate) fn region_opened(&mut self, token: Token, region: Region, effects: &mut Vec<Effect>) {
        let Some(waiting) = self.waiting.remove(&token) else {
            return effects.push(Effect::Region(RegionRequest::Close { id: region.id }));
        };
        if matches!(waiting, Waiting::Overflow) {
            return self.overflow_opened(region, effects);
        }
        self.regions += 1;
        match waiting {
            Waiting::Arena(owner) => self.arena_opened(owner, region, effects),
            Waiting::Create(order) => match self.placed(order.owner, region.clone(), 0, order.bytes, true) {
                Some(backing) => self.made(order, backing, effects),
                None => {
                    self.close_region(region.id, effects);
                    self.unaccount(&order);
                    self.lack_room(order, effects);
                }
            },
            Waiting::Isolate(token, resource) => self.isolate_in(token, resource, region, effects),
            Waiting::Move(token, resource) => self.move_to(token, resource, region, effects),
            Waiting::Overflow | Waiting::InArena(_) => {}
        }
    }

    fn overflow_opened(&mut self, region: Region, effects: &mut Vec<Effect>) {
        match region.address {
            Some(_) => self.overflow = Some(OpenArena::new(region)),
            // A device without room for any region but its queues': it gets no memory that it cannot reach.
            None => effects.push(Effect::Region(RegionRequest::Close { id: region.id })),
        }
    }

    /// Memory in a region, and a place at the device for it if the device cannot reach the region.
    fn placed(
        &mut self,
        owner: FileId,
        region: Region,
        offset: u64,
        length: u64,
        isolated: bool,
    ) -> Option<Backing> {
        let device = match region.address {
            Some(_) => None,
            None => Some(self.take_place(owner, length)?),
        };
        Some(Backing { region, offset, length, isolated, device })
    }

    pub(crate) fn region_refused(&mut self, token: Token, effects: &mut Vec<Effect>) {
        if let Some(waiting) = self.waiting.remove(&token) {
            self.without_region(waiting, Errno::ENOMEM, effects);
        }
    }

    fn without_region(&mut self, waiting: Waiting, errno: Errno, effects: &mut Vec<Effect>) {
        match waiting {
            Waiting::Arena(owner) => self.arena_settled(owner, Arena::Refused, effects),
            Waiting::Create(order) => {
                self.unaccount(&order);
                // Not shareable then, but it can be drawn to.
                let _settled = self.create_in_arena(order, effects);
            }
            Waiting::Overflow => {}
            Waiting::Isolate(token, resource) | Waiting::Move(token, resource) => {
                self.give_up_move(token, resource, errno, effects);
            }
            Waiting::InArena(order) => self.give_up(&order, errno, effects),
        }
    }

    /// A buffer that was to have memory of its own has none.
    fn unaccount(&mut self, order: &Order) {
        self.discharge(order.owner, Charge::isolation(order.bytes));
    }

    fn arena_opened(&mut self, owner: FileId, region: Region, effects: &mut Vec<Effect>) {
        self.arena_settled(owner, Arena::Open(OpenArena::new(region)), effects);
    }

    /// An arena is there, or is not to be had: what waited for it goes on.
    fn arena_settled(&mut self, owner: FileId, arena: Arena, effects: &mut Vec<Effect>) {
        let Some(account) = self.owners.get_mut(&owner) else { return };
        let Arena::Opening(queue) = std::mem::replace(&mut account.arena, arena) else { return };
        for token in queue {
            if let Some(Waiting::InArena(order)) = self.waiting.remove(&token) {
                let _settled = self.create_in_arena(order, effects);
            }
        }
        self.settle_owner(owner, effects);
    }

    fn made(&mut self, order: Order, backing: Backing, effects: &mut Vec<Effect>) {
        let Order { token, owner, shape, .. } = order;
        let record = Record {
            asked: token,
            owner,
            shape,
            backing: backing.clone(),
            before: Vec::new(),
            released: false,
        };
        let resource = number(self.records.insert(record));
        if self.up
            && let Some(record) = self.record(resource)
        {
            announce(resource, record, effects);
        }
        effects.push(Effect::Scheme(Notice::Created { token, resource, backing }));
    }

    /// Nobody waits any more for what was to be made: the region for it did not come. Should it come yet, it is closed.
    pub(crate) fn forget_order(&mut self, asked: Token, effects: &mut Vec<Effect>) {
        let is_it = |waiting: &Waiting| matches!(waiting, Waiting::Create(order) | Waiting::InArena(order) if order.token == asked);
        let found = self.waiting.iter().find(|(_, waiting)| is_it(waiting)).map(|(key, _)| *key);
        let Some((key, waiting)) = found.and_then(|key| Some((key, self.waiting.remove(&key)?))) else {
            return;
        };
        match waiting {
            Waiting::Create(order) => {
                self.unaccount(&order);
                self.give_up(&order, Errno::EIO, effects);
            }
            Waiting::InArena(order) => {
                self.leave_queue(order.owner, key);
                self.give_up(&order, Errno::EIO, effects);
            }
            _ => {}
        }
    }

    /// One less waits for the arena of a file; when nobody does, the next to come asks for it anew.
    fn leave_queue(&mut self, owner: FileId, order: Token) {
        let arena = self.owners.get_mut(&owner).map(|account| &mut account.arena);
        let Some(Arena::Opening(queue)) = arena else { return };
        queue.retain(|it| *it != order);
        if queue.is_empty() {
            self.waiting.retain(|_, waiting| !matches!(waiting, Waiting::Arena(of) if *of == owner));
        }
    }

    fn uncharge(&mut self, order: &Order) {
        self.discharge(order.owner, Charge::memory(order.bytes, false).and_a_resource());
    }

    fn give_up(&mut self, order: &Order, errno: Errno, effects: &mut Vec<Effect>) {
        self.uncharge(order);
        refuse(order.token, errno, effects);
        self.settle_owner(order.owner, effects);
    }

    pub(crate) fn isolate(&mut self, token: Token, resource: ResourceId, effects: &mut Vec<Effect>) {
        let Some(record) = self.record(resource) else { return refuse(token, Errno::ENOENT, effects) };
        if record.backing.isolated {
            let backing = record.backing.clone();
            return effects.push(Effect::Scheme(Notice::Isolated { token, resource, backing }));
        }
        let (owner, bytes) = (record.owner, record.backing.length);
        // Counted from now on, so that several moves at once do not each find the same room.
        if !self.charge(owner, Charge::memory(bytes, true)) {
            return refuse(token, Errno::ENOMEM, effects);
        }
        self.open(Waiting::Isolate(token, resource), bytes, true, effects);
    }

    /// Moves memory that is a resource's own to where nobody has ever seen it.
    pub(crate) fn renew(&mut self, token: Token, resource: ResourceId, effects: &mut Vec<Effect>) {
        let record = self.record(resource).filter(|record| !record.released);
        let Some(record) = record else { return refuse(token, Errno::ENOENT, effects) };
        let (owner, bytes) = (record.owner, record.backing.length);
        if !self.charge(owner, Charge::memory(bytes, true)) {
            return refuse(token, Errno::ENOMEM, effects);
        }
        self.open(Waiting::Move(token, resource), bytes, true, effects);
    }

    /// A move comes to nothing.
    fn give_up_move(&mut self, token: Token, resource: ResourceId, errno: Errno, effects: &mut Vec<Effect>) {
        self.uncount_move(resource);
        refuse(token, errno, effects);
    }

    /// A move takes no memory.
    fn uncount_move(&mut self, resource: ResourceId) {
        let Some(record) = self.record(resource) else { return };
        let (owner, bytes) = (record.owner, record.backing.length);
        self.discharge(owner, Charge::memory(bytes, true));
    }

    /// A resource is released: its moves end now, since its number may be another's when their regions come.
    pub(crate) fn end_moves(&mut self, resource: ResourceId, effects: &mut Vec<Effect>) {
        let of_it = |_: &Token, waiting: &mut Waiting| matches!(waiting, Waiting::Isolate(_, it) | Waiting::Move(_, it) if *it == resource);
        let ended: Vec<Waiting> = self.waiting.extract_if(of_it).map(|(_, waiting)| waiting).collect();
        for waiting in ended {
            self.without_region(waiting, Errno::ENOENT, effects);
        }
    }

    /// Moves a resource's memory into a region of its own, unless an earlier request for the same was faster: a
    /// second move would take shared memory away.
    fn isolate_in(&mut self, token: Token, resource: ResourceId, region: Region, effects: &mut Vec<Effect>) {
        let isolated = self.record(resource).filter(|record| record.backing.isolated && !record.released);
        let Some(backing) = isolated.map(|record| record.backing.clone()) else {
            return self.move_to(token, resource, region, effects);
        };
        self.uncount_move(resource);
        self.close_region(region.id, effects);
        effects.push(Effect::Scheme(Notice::Isolated { token, resource, backing }));
    }

    /// Moves a resource's memory into a region.
    fn move_to(&mut self, token: Token, resource: ResourceId, region: Region, effects: &mut Vec<Effect>) {
        let id = region.id;
        let moving = self.record(resource).filter(|it| !it.released).map(|it| (it.owner, it.backing.length));
        let Some((owner, length)) = moving else {
            self.close_region(id, effects);
            return refuse(token, Errno::ENOENT, effects);
        };
        let Some(backing) = self.placed(owner, region, 0, length, true) else {
            self.close_region(id, effects);
            return self.give_up_move(token, resource, Errno::ENOMEM, effects);
        };
        let Some(record) = key(resource).and_then(|key| self.records.get_mut(key)) else { return };
        copy_contents(&record.backing, &backing);
        record.before.push(std::mem::replace(&mut record.backing, backing.clone()));
        if self.up {
            effects.push(Effect::Control(ResourceCommand::DetachBacking { resource }));
            back(resource, &backing, effects);
        }
        effects.push(Effect::Scheme(Notice::Isolated { token, resource, backing }));
    }
}

pub(crate) fn refuse(token: Token, errno: Errno, effects: &mut Vec<Effect>) {
    effects.push(Effect::Scheme(Notice::Refused { token, errno }));
}

/// Copies what a client has put into memory to where it is from now on.
fn copy_contents(from: &Backing, to: &Backing) {
    let (source, start, length) = (&*from.region.memory, in_memory(from.offset), in_memory(from.length));
    // Backings lie inside their regions, so no copy can fail.
    let _ = to.region.memory.fill(in_memory(to.offset), source, start, length);
    bring_to_device(to);
}

/// Copies what is in a client's memory to where the device has it, if that is elsewhere.
pub(crate) fn bring_to_device(backing: &Backing) {
    let Some(place) = &backing.device else { return };
    let (source, start, length) =
        (&*backing.region.memory, in_memory(backing.offset), in_memory(backing.length));
    // As above.
    let _ = place.region.memory.fill(in_memory(place.offset), source, start, length);
}
