//! A resource actor whose transport, control queue and scheme are the test.
//!
//! It checks as it goes what must always be so: no two resources share memory, memory is zero when it is handed
//! out and keeps its contents when it moves, a number comes again only after the device forgot it, quotas hold,
//! each request is answered once.

use std::collections::{BTreeMap, BTreeSet};

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, ResourceId, Token, UserId};
use virgld_protocol::message::ctrlq::{Description, ResourceCommand, ResourceEvent};
use virgld_protocol::message::resource::{Backing, Notice, Request, Shape};
use virgld_protocol::message::transport::{RegionEvent, RegionRequest};
use virgld_resource::{Effect, Limits, State};
use virgld_runtime::link::{Region, RegionId};
use virgld_runtime::memory::HeapMemory;
pub(crate) use virgld_testkit::common::tight_limits as limits;

pub(crate) const PAGE: u64 = 4096;

/// How a region is answered for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Grant {
    Address,
    NoAddress,
    Refusal,
}

/// A resource as its user sees it.
pub(crate) struct Held {
    pub(crate) owner: FileId,
    pub(crate) backing: Backing,
    /// What its memory is filled with.
    tag: u8,
    pub(crate) released: bool,
}

pub(crate) struct Desk {
    limits: Limits,
    state: State,
    effects: Vec<Effect>,
    /// Regions asked for, not answered.
    pub(crate) opening: Vec<(Token, usize)>,
    pub(crate) regions: BTreeSet<RegionId>,
    /// What the device can reach: regions, offsets, lengths.
    pub(crate) shown: BTreeSet<(RegionId, usize, usize)>,
    last_shown: Option<usize>,
    next_region: u64,
    /// Regions that are nobody's.
    standing: usize,
    /// Resources asked to be forgotten, not confirmed.
    pub(crate) leaving: Vec<ResourceId>,
    pub(crate) held: BTreeMap<ResourceId, Held>,
    asked: BTreeMap<Token, FileId>,
    next_token: u64,
    pub(crate) answers: Vec<(Token, Result<ResourceId, Errno>)>,
}

impl Desk {
    /// A resource actor whose device is up.
    pub(crate) fn new() -> Self {
        Self::with(limits())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let mut desk = Self {
            limits,
            state: State::new(limits),
            effects: Vec::new(),
            opening: Vec::new(),
            regions: BTreeSet::new(),
            shown: BTreeSet::new(),
            last_shown: None,
            next_region: 0,
            standing: 0,
            leaving: Vec::new(),
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_token: 0,
            answers: Vec::new(),
        };
        desk.control(ResourceEvent::Up { features: 1, capsets: 0 });
        // The place for what the device cannot reach. It stays as long as the actor.
        desk.grant_all();
        desk.standing = desk.regions.len();
        desk
    }

    pub(crate) fn create(&mut self, owner: FileId, bytes: u64, shareable: bool) -> Token {
        // Each owner is a user of its own, unless a test says otherwise.
        self.create_for(owner, UserId(u32::try_from(owner.0).unwrap()), bytes, shareable)
    }

    pub(crate) fn create_for(&mut self, owner: FileId, user: UserId, bytes: u64, shareable: bool) -> Token {
        let token = self.token(owner);
        let shape = Shape::Texture(Description::default());
        self.request(Request::Create { token, owner, user, shape, bytes, shareable });
        token
    }

    /// Asks for other memory than it has, which is its own.
    pub(crate) fn renew(&mut self, resource: ResourceId) -> Token {
        let token = self.token(self.held[&resource].owner);
        self.request(Request::Move { token, resource });
        token
    }

    pub(crate) fn isolate(&mut self, resource: ResourceId) -> Token {
        let owner = self.held[&resource].owner;
        let token = self.token(owner);
        self.request(Request::Isolate { token, resource });
        token
    }

    pub(crate) fn release(&mut self, resource: ResourceId) {
        self.held.get_mut(&resource).unwrap().released = true;
        self.request(Request::Release { resource });
    }

    pub(crate) fn retire(&mut self, owner: FileId) {
        self.request(Request::Retire { owner });
    }

    /// Answers for the region asked for at this place.
    pub(crate) fn grant(&mut self, index: usize, grant: Grant) {
        let (token, bytes) = self.opening.remove(index);
        self.next_region += 1;
        let id = RegionId(self.next_region);
        let address = match grant {
            Grant::Address => Some(self.next_region << 32),
            Grant::NoAddress => None,
            Grant::Refusal => {
                self.state.region(RegionEvent::Refused { token }, &mut self.effects);
                return self.hear();
            }
        };
        self.regions.insert(id);
        let region = Region { id, memory: HeapMemory::new(bytes), address };
        self.state.region(RegionEvent::Opened { token, region }, &mut self.effects);
        self.hear();
    }

    pub(crate) fn grant_all(&mut self) {
        while !self.opening.is_empty() {
            self.grant(0, Grant::Address);
        }
    }

    /// The device has forgotten the resource at this place.
    pub(crate) fn forget(&mut self, index: usize) {
        let resource = self.leaving.remove(index);
        self.held.remove(&resource);
        self.control(ResourceEvent::Unreferenced { resource });
    }

    pub(crate) fn control(&mut self, event: ResourceEvent) {
        if matches!(event, ResourceEvent::Down) {
            // A device that is gone reaches nothing.
            self.shown.clear();
        }
        self.state.control(event, &mut self.effects);
        self.hear();
    }

    /// The answer to a request, if it has come.
    pub(crate) fn answer(&self, token: Token) -> Option<Result<ResourceId, Errno>> {
        self.answers.iter().find(|(it, _)| *it == token).map(|(_, result)| *result)
    }

    /// Bytes of copies that an owner pays for.
    pub(crate) fn copied(&self, owner: FileId) -> u64 {
        let report = self.state.report();
        report.resources.iter().filter(|it| it.owner == owner).map(|it| it.copied_bytes).sum()
    }

    /// Whether no request waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether nothing is left, here, at the transport and on the device.
    pub(crate) fn is_empty(&self) -> bool {
        let report = self.state.report();
        let regions = (report.regions, self.regions.len());
        report.resources.is_empty()
            && regions == (0, self.standing)
            && self.held.is_empty()
            && self.shown.is_empty()
    }

    fn request(&mut self, request: Request) {
        self.state.request(request, &mut self.effects);
        self.hear();
    }

    fn token(&mut self, owner: FileId) -> Token {
        self.next_token += 1;
        self.asked.insert(Token(self.next_token), owner);
        Token(self.next_token)
    }

    fn hear(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Region(RegionRequest::Open { token, bytes, .. }) => self.opening.push((token, bytes)),
                Effect::Region(RegionRequest::Close { id }) => self.region_closed(id),
                Effect::Control(ResourceCommand::Unreference { resource }) => self.leaving.push(resource),
                Effect::Control(ResourceCommand::AttachBacking { length, .. }) => {
                    assert_ne!(length, 0);
                    let shown = self.last_shown.take();
                    assert_eq!(shown, Some(length as usize), "the device was told of memory not shown to it");
                }
                Effect::Region(RegionRequest::Show { id, offset, length }) => {
                    // What it sees yet of a buffer before it may see again, but no part of it.
                    let meets = |(other, start, extent): &(RegionId, usize, usize)| {
                        *other == id && offset < start + extent && *start < offset + length
                    };
                    let same = self.shown.contains(&(id, offset, length));
                    assert!(same || !self.shown.iter().any(meets), "{id:?} was shown twice at {offset}");
                    self.shown.insert((id, offset, length));
                    self.last_shown = Some(length);
                }
                Effect::Region(RegionRequest::Hide { id, offset, length }) => {
                    assert!(self.shown.remove(&(id, offset, length)), "{id:?} was not shown at {offset}");
                }
                Effect::Control(_) => {}
                Effect::Scheme(notice) => self.noticed(notice),
                Effect::Display(_) | Effect::Furnished => {}
            }
        }
    }

    fn region_closed(&mut self, id: RegionId) {
        assert!(self.regions.remove(&id), "{id:?} was closed twice");
        let named = self.held.values().any(|held| held.backing.region.id == id);
        let shown = self.shown.iter().any(|(region, ..)| *region == id);
        assert!(!shown, "{id:?} was closed while the device could reach it");
        assert!(!named, "{id:?} was closed under a resource that the device knows");
    }

    fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Created { token, resource, backing } => {
                let owner = self.answered(token, Ok(resource));
                assert!(contents(&backing).iter().all(|byte| *byte == 0), "{resource:?} has old contents");
                let tag = u8::try_from(token.0 % 255).unwrap() + 1;
                fill(&backing, tag);
                let held = Held { owner, backing, tag, released: false };
                assert!(self.held.insert(resource, held).is_none(), "{resource:?} is in use");
            }
            Notice::Isolated { token, resource, backing } => {
                self.answered(token, Ok(resource));
                assert!(backing.isolated && backing.offset == 0);
                let held = self.held.get_mut(&resource).unwrap();
                assert!(!held.released, "{resource:?} moved after its release");
                assert!(contents(&backing).iter().all(|byte| *byte == held.tag), "contents were lost");
                held.backing = backing;
            }
            Notice::Refused { token, errno } => drop(self.answered(token, Err(errno))),
            Notice::DeviceUp { .. } | Notice::DeviceDown | Notice::Failed { .. } => {}
        }
        self.check();
    }

    fn answered(&mut self, token: Token, result: Result<ResourceId, Errno>) -> FileId {
        self.answers.push((token, result));
        self.asked.remove(&token).expect("each request is answered once")
    }

    fn check(&self) {
        let live: Vec<&Held> = self.held.values().collect();
        for (index, one) in live.iter().enumerate() {
            assert!(one.backing.offset + one.backing.length <= one.backing.region.memory.size() as u64);
            for other in &live[index + 1..] {
                assert!(!overlap(&one.backing, &other.backing), "memory is shared");
                let strangers = one.owner != other.owner;
                assert!(
                    !(strangers && one.backing.region.id == other.backing.region.id),
                    "a region is shared"
                );
            }
        }
        for owner in live.iter().map(|held| held.owner) {
            let own = || live.iter().filter(|held| held.owner == owner);
            let isolated = own().filter(|held| held.backing.isolated).map(|held| held.backing.length);
            assert!(own().count() <= self.limits.file.resources, "too many resources");
            let copied =
                own().filter(|held| held.backing.device.is_some()).map(|held| 2 * held.backing.length);
            assert!(isolated.sum::<u64>() <= self.limits.file.isolated_bytes, "too much memory of its own");
            assert!(copied.sum::<u64>() <= self.limits.file.copied_bytes, "too many copies");
        }
    }
}

/// Where the device has a backing: in its region, or elsewhere if the device cannot reach that.
fn at_device(backing: &Backing) -> (RegionId, u64) {
    backing
        .device
        .as_ref()
        .map_or((backing.region.id, backing.offset), |place| (place.region.id, place.offset))
}

fn overlap(one: &Backing, other: &Backing) -> bool {
    let meet = |(region, start): (RegionId, u64), (other_region, other_start): (RegionId, u64)| {
        region == other_region && start < other_start + other.length && other_start < start + one.length
    };
    let own = |backing: &Backing| (backing.region.id, backing.offset);
    meet(own(one), own(other)) || meet(at_device(one), at_device(other))
}

fn contents(backing: &Backing) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(backing.length).unwrap()];
    backing.region.memory.read(usize::try_from(backing.offset).unwrap(), &mut bytes).unwrap();
    bytes
}

fn fill(backing: &Backing, tag: u8) {
    let bytes = vec![tag; usize::try_from(backing.length).unwrap()];
    backing.region.memory.write(usize::try_from(backing.offset).unwrap(), &bytes).unwrap();
}
