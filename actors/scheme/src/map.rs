//! MAP and `mmap`: a buffer's memory.

use std::collections::hash_map::Entry;

use virgld_protocol::channel::Mapped;
use virgld_protocol::client::kms::MapDumb;
use virgld_protocol::client::{Call, Map, Reply};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::resource::Backing;
use virgld_protocol::rights::Rights;
use virgld_runtime::link::{Region, RegionId};

use crate::create::Awaited;
use crate::distant::Distant;
use crate::state::{Caller, Effect, Outcome, State, answer};

/// An offset for `mmap` is the region's name above this bit and the place in the region below.
const REGION_SHIFT: u32 = 36;

/// A call that asks where to map a buffer.
#[derive(Clone, Copy)]
pub(crate) enum Mapping {
    Texture(Map),
    Dumb(MapDumb),
}

impl Mapping {
    fn handle(self) -> u32 {
        match self {
            Self::Texture(asked) => asked.handle,
            Self::Dumb(asked) => asked.handle,
        }
    }

    fn reply(self, offset: u64) -> Reply {
        match self {
            Self::Texture(asked) => Reply::fixed(&Map { offset, ..asked }),
            Self::Dumb(asked) => Reply::fixed(&MapDumb { offset, ..asked }),
        }
    }
}

impl State {
    pub(crate) fn map(&mut self, caller: Caller, call: &Call) -> Result<Outcome, Refusal> {
        let asked = call.parse::<Map>()?.fixed;
        self.map_at_rest(caller, Mapping::Texture(asked))
    }

    /// Says where to map a buffer: at once, or when it is where it stays. What is mapped while it moves would be the
    /// memory that it leaves.
    pub(crate) fn map_at_rest(&mut self, caller: Caller, what: Mapping) -> Result<Outcome, Refusal> {
        let resource = self.file(caller.file)?.with_rights(what.handle(), Rights::MAP)?.resource;
        if self.is_moving(resource) {
            self.park(caller, Awaited::Map(what, resource));
            return Ok(Outcome::Later);
        }
        let offset = self.offset_of(caller.file, what.handle())?;
        Ok(Outcome::Answer(what.reply(offset)))
    }

    /// A buffer has moved, or will not: answers those who want to map it.
    pub(crate) fn came_to_rest(&mut self, resource: ResourceId, effects: &mut Vec<Effect>) {
        const CLOSED: Refusal =
            Refusal::new(Errno::ENOENT, "the handle was closed while its memory was moved");
        if self.is_moving(resource) {
            return;
        }
        for parked in self.take_mappers(resource) {
            let (id, Awaited::Map(what, _)) = (parked.file(), parked.awaited()) else { continue };
            let what = *what;
            // The number may stand for another buffer by now.
            let still =
                self.file(id).is_ok_and(|it| it.entry(what.handle()).is_ok_and(|it| it.resource == resource));
            let offset = if still { self.offset_of(id, what.handle()) } else { Err(CLOSED) };
            answer(parked.caller(), offset.map(|offset| Outcome::Answer(what.reply(offset))), effects);
        }
    }

    /// Where to map a buffer, which is mapped from now on.
    fn offset_of(&mut self, id: FileId, handle: u32) -> Result<u64, Refusal> {
        const FAR: Refusal = Refusal::new(Errno::ENOMEM, "no offset is left to map it at");
        let resource = self.file(id)?.with_rights(handle, Rights::MAP)?.resource;
        let buffer = self.buffers.get_mut(&resource).ok_or(FAR)?;
        buffer.mapped = true;
        if let Entry::Vacant(entry) = self.distant.entry(resource)
            && let Some(distant) = Distant::of(&buffer.backing)
        {
            entry.insert(distant);
        }
        place_of(&buffer.backing).ok_or(FAR)
    }

    /// The memory behind an offset that MAP gave to this file. A file's whole arena is its own, so it may map all
    /// of it; of other memory, exactly what it has a handle for.
    pub(crate) fn map_memory(&mut self, id: FileId, offset: u64, length: u64) -> Result<Outcome, Refusal> {
        const NOTHING: Refusal = Refusal::new(Errno::EINVAL, "nothing of this file is at that offset");
        let region = self.region_at(id, offset >> REGION_SHIFT)?.ok_or(NOTHING)?;
        let base = base_of(region.id).ok_or(NOTHING)?;
        let memory = region.memory;
        let covers = memory.size() as u64;
        let place = offset - base;
        if place.checked_add(length).is_none_or(|end| end > covers) {
            return Err(NOTHING);
        }
        let mapped = Mapped { offset: place, base, covers };
        Ok(Outcome::AnswerWith(Reply::empty(), Attach::Memory { memory, mapped }))
    }

    /// The region of this name, if the file may map all of it.
    fn region_at(&mut self, id: FileId, region: u64) -> Result<Option<Region>, Refusal> {
        let file = self.file(id)?;
        if let Some(arena) = file.arena.as_ref().filter(|arena| arena.id.0 == region) {
            return Ok(Some(arena.clone()));
        }
        let mappable: Vec<ResourceId> = file.resources_with(Rights::MAP).collect();
        let mut backings =
            mappable.iter().filter_map(|it| self.buffers.get(it)).map(|buffer| &buffer.backing);
        Ok(backings.find(|it| it.isolated && it.region.id.0 == region).map(|it| it.region.clone()))
    }
}

/// The offset for `mmap` that stands for a buffer's memory.
pub(crate) fn place_of(backing: &Backing) -> Option<u64> {
    base_of(backing.region.id)?.checked_add(backing.offset)
}

fn base_of(region: RegionId) -> Option<u64> {
    let base = region.0.checked_mul(1 << REGION_SHIFT)?;
    // `mmap` takes a signed offset.
    (base < 1 << 62).then_some(base)
}
