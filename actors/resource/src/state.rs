//! Every resource, and every region of memory behind them.

use std::collections::{HashMap, VecDeque};

use slab::Slab;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, ResourceId, Token, UserId};
use virgld_protocol::message::ctrlq::{ResourceCommand, ResourceEvent};
use virgld_protocol::message::display;
use virgld_protocol::message::live::{self, Live};
use virgld_protocol::message::resource::{Backing, Notice, ReadBack, Report, Request, ResourceReport, Shape};
use virgld_protocol::message::transport::{RegionEvent, RegionRequest};
use virgld_runtime::link::Region;

use crate::account::{Charge, Quota, copied};
use crate::arena::{Arena, OpenArena, in_memory};
use crate::capsets::Capsets;
use crate::create::{Order, Waiting, bring_to_device};
use crate::fetch::Fetch;
use crate::throttle::Leaving;

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Have the device do this.
    Control(ResourceCommand),
    /// Say that the device has all resources.
    Furnished,
    /// Ask for memory, or give it back.
    Region(RegionRequest),
    /// Tell the scheme.
    Scheme(Notice),
    /// Tell the display.
    Display(display::ReadBack),
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a file's arena. Address space only, until it is used.
    pub arena_bytes: u64,
    /// What one file may have.
    pub file: Quota,
    /// What all files of one user may have together.
    pub user: Quota,
    /// Bytes, for all files together, of memory in which the device has what it cannot reach otherwise.
    pub overflow_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let file = Quota {
            bytes: 2 << 30,
            isolated_bytes: 1 << 30,
            resources: 65_536,
            isolated: 1024,
            copied_bytes: 1 << 30,
        };
        let user = Quota {
            bytes: 8 << 30,
            isolated_bytes: 4 << 30,
            resources: 262_144,
            isolated: 4096,
            copied_bytes: 4 << 30,
        };
        Self { arena_bytes: 1 << 30, file, user, overflow_bytes: 4 << 30 }
    }
}

/// One resource.
pub(crate) struct Record {
    /// What it was asked for by.
    pub(crate) asked: Token,
    pub(crate) owner: FileId,
    pub(crate) shape: Shape,
    pub(crate) backing: Backing,
    /// Its memory before it was moved: kept as long as it lives, since the device may have work under way there.
    pub(crate) before: Vec<Backing>,
    /// Only waits for the device to forget it.
    pub(crate) released: bool,
}

/// Who pays for resources.
pub(crate) struct Owner {
    pub(crate) arena: Arena,
    pub(crate) user: UserId,
    pub(crate) charge: Charge,
    /// Resources that are to be made when the device has let go of others.
    pub(crate) orders: VecDeque<Order>,
    pub(crate) leaving: Leaving,
    /// The file is closed.
    pub(crate) retired: bool,
}

/// The truth on resources.
pub struct State {
    pub(crate) limits: Limits,
    /// Keyed by the resource's number less 1.
    pub(crate) records: Slab<Record>,
    pub(crate) owners: HashMap<FileId, Owner>,
    /// What the files of each user have together.
    pub(crate) users: HashMap<UserId, Charge>,
    /// Where the device has what it cannot reach, once there is a device.
    pub(crate) overflow: Option<OpenArena>,
    pub(crate) waiting: HashMap<Token, Waiting>,
    /// Pixels on their way to the display.
    pub(crate) fetches: HashMap<Token, Fetch>,
    pub(crate) regions: usize,
    pub(crate) next_token: u64,
    pub(crate) up: bool,
    pub(crate) capsets: Capsets,
}

impl State {
    /// No resources yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            records: Slab::new(),
            owners: HashMap::new(),
            users: HashMap::new(),
            overflow: None,
            waiting: HashMap::new(),
            fetches: HashMap::new(),
            regions: 0,
            next_token: 0,
            up: false,
            capsets: Capsets::default(),
        }
    }

    /// Takes a request of the scheme.
    pub fn request(&mut self, request: Request, effects: &mut Vec<Effect>) {
        match request {
            Request::Create { token, owner, user, shape, bytes, shareable } => {
                self.admit(owner, user);
                self.create(token, owner, shape, bytes, shareable, effects);
            }
            Request::Move { token, resource } => self.renew(token, resource, effects),
            Request::Isolate { token, resource } => self.isolate(token, resource, effects),
            Request::Release { resource } => self.release(resource, effects),
            Request::Withdraw { token } => self.withdraw(token, effects),
            Request::Retire { owner } => self.retire(owner, effects),
        }
    }

    /// Takes a request of the display.
    pub fn display(&mut self, request: ReadBack, effects: &mut Vec<Effect>) {
        self.fetch(request, effects);
    }

    /// Takes an event of the control queue.
    pub fn control(&mut self, event: ResourceEvent, effects: &mut Vec<Effect>) {
        match event {
            ResourceEvent::Up { features, capsets } => self.come_up(features, capsets, effects),
            ResourceEvent::Down => {
                self.up = false;
                self.capsets.forget();
                self.cool_all(effects);
                effects.push(Effect::Scheme(Notice::DeviceDown));
                self.all_go_on(effects);
            }
            // The next device is told of all resources anew.
            ResourceEvent::Failed { .. } if !self.up => {}
            ResourceEvent::Failed { resource, errno } => self.failed(resource, errno, effects),
            ResourceEvent::Unreferenced { resource } => self.unreferenced(resource, effects),
            ResourceEvent::Fetched { token, result } => self.fetched(token, result, effects),
            ResourceEvent::CapsetInfo { token, result } => self.capsets.info(token, result, effects),
            ResourceEvent::Capset { token, result } => self.capsets.contents(token, result, effects),
        }
    }

    /// Takes an answer of the transport.
    pub fn region(&mut self, event: RegionEvent, effects: &mut Vec<Effect>) {
        match event {
            RegionEvent::Opened { token, region } => self.region_opened(token, region, effects),
            RegionEvent::Refused { token } => self.region_refused(token, effects),
        }
    }

    /// The actor's account.
    pub fn report(&self) -> Report {
        let resources = self.records.iter().map(|(key, record)| ResourceReport {
            resource: number(key),
            owner: record.owner,
            bytes: record.backing.length,
            copied_bytes: record.before.iter().chain([&record.backing]).map(copied).sum(),
            released: record.released,
        });
        Report { resources: resources.collect(), regions: self.regions, live: self.live().collect() }
    }

    fn live(&self) -> impl Iterator<Item = Live> {
        let resources = self.records.iter().map(|(key, record)| {
            let owner = live::Owner::File(record.owner);
            let kept = if record.released { "the device has not let go of it yet" } else { "" };
            Live::new("resource", u64::from(number(key).0), owner).bytes(record.backing.length).kept(kept)
        });
        let arenas = self.owners.iter().map(|(file, owner)| {
            Live::new("memory arena", file.0, live::Owner::File(*file)).bytes(owner.arena.used())
        });
        resources.chain(arenas)
    }

    /// A device is there that knows no resource: it is told of all, and then of those that are on their way out, since
    /// contexts may have work that names them. What others see of a shared buffer, or the
    /// display of a dumb one, is what its memory holds; what is private belonged to contexts that are lost.
    fn come_up(&mut self, features: u64, capsets: u32, effects: &mut Vec<Effect>) {
        self.up = true;
        // A device that is lost before the region is there leaves it to be asked of the next.
        let asked = self.waiting.values().any(|it| matches!(it, Waiting::Overflow));
        if self.overflow.is_none() && !asked {
            self.open(Waiting::Overflow, self.limits.overflow_bytes, false, effects);
        }
        for (key, record) in &self.records {
            let resource = number(key);
            announce(resource, record, effects);
            let shape = record.shape;
            if (record.backing.isolated || matches!(shape, Shape::Flat(_))) && !record.released {
                bring_to_device(&record.backing);
                effects.push(Effect::Control(ResourceCommand::Restore { resource, shape }));
            }
        }
        self.capsets.ask(features, capsets, effects);
        effects.push(Effect::Furnished);
        for (key, _) in self.records.iter().filter(|(_, record)| record.released) {
            dismiss(number(key), effects);
        }
    }

    fn failed(&mut self, resource: ResourceId, errno: Errno, effects: &mut Vec<Effect>) {
        if self.record(resource).is_some_and(|record| !record.released) {
            effects.push(Effect::Scheme(Notice::Failed { resource, errno }));
        }
    }

    pub(crate) fn record(&self, resource: ResourceId) -> Option<&Record> {
        self.records.get(key(resource)?)
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }
}

/// Tells the device of a resource and its memory.
pub(crate) fn announce(resource: ResourceId, record: &Record, effects: &mut Vec<Effect>) {
    effects.push(Effect::Control(match record.shape {
        Shape::Texture(description) => ResourceCommand::Create3d { resource, description },
        Shape::Flat(surface) => ResourceCommand::Create2d { resource, surface },
    }));
    back(resource, &record.backing, effects);
}

/// Has the device forget a resource.
pub(crate) fn dismiss(resource: ResourceId, effects: &mut Vec<Effect>) {
    effects.push(Effect::Control(ResourceCommand::DetachBacking { resource }));
    effects.push(Effect::Control(ResourceCommand::Unreference { resource }));
}

/// Tells the device of a resource's memory.
pub(crate) fn back(resource: ResourceId, backing: &Backing, effects: &mut Vec<Effect>) {
    let Some((region, offset)) = seen(backing) else { return };
    let Some(base) = region.address else { return };
    let address = base + offset;
    // Sent first, so it is done before the device hears of the memory.
    let (id, length) = (region.id, in_memory(backing.length));
    effects.push(Effect::Region(RegionRequest::Show { id, offset: in_memory(offset), length }));
    // Backings are at most as long as an arena, and creation refuses what does not fit 32 bits.
    let length = u32::try_from(backing.length).unwrap_or(u32::MAX);
    effects.push(Effect::Control(ResourceCommand::AttachBacking { resource, address, length }));
}

/// Where the device sees a resource's memory: the region and the offset in it.
pub(crate) fn seen(backing: &Backing) -> Option<(&Region, u64)> {
    let elsewhere = || backing.device.as_ref().map(|place| (&place.region, place.offset));
    let own = Some((&backing.region, backing.offset));
    own.filter(|(region, _)| region.address.is_some()).or_else(elsewhere)
}

/// The number of the resource with this key. Devices take 0 for none.
pub(crate) fn number(key: usize) -> ResourceId {
    ResourceId(u32::try_from(key + 1).unwrap_or(u32::MAX))
}

/// The key of the resource with this number.
pub(crate) fn key(resource: ResourceId) -> Option<usize> {
    (resource.0 as usize).checked_sub(1)
}
