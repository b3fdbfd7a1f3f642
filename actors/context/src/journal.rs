//! What it takes to make a context anew on another device: the objects it has, its bindings, and what its resources
//! hold, as far as anybody but the lost device knows.
//!
//! Made from the command streams as they go out. It holds what the budget of all journals leaves for it; what it does not
//! understand, or has no room for, breaks it for good, and its context is lost with the next device as without a journal.

use std::collections::{BTreeMap, BTreeSet};

use virgld_protocol::ids::ResourceId;
use virgld_protocol::message::ctrlq::Transfer;
use virgld_protocol::message::resource::Backing;
use virgld_protocol::virgl::{Command, Commands, Verb};

mod contents;
mod replay;
mod sub;

use crate::budget::{Account, Budget};
use contents::{Contents, Piece, Source};
pub(crate) use replay::Replay;
use sub::SubContext;

/// The journal of one context.
#[derive(Debug)]
pub(crate) struct Journal {
    /// What it may hold.
    account: Account,
    /// Bytes that its contents hold.
    used: usize,
    /// Numbers what is noted, so that it is done again in order.
    clock: u64,
    /// What the context may name, and where its bytes lie.
    attached: BTreeMap<ResourceId, Option<Backing>>,
    contents: BTreeMap<ResourceId, Contents>,
    /// Resources that were drawn to: what they hold is known to the device alone.
    drawn: BTreeSet<ResourceId>,
    subs: BTreeMap<u32, SubContext>,
    current: u32,
    broken: Option<&'static str>,
    /// Bytes that the stream in hand had copied: no more than may be kept, or a stream could keep the daemon busy.
    copied: usize,
}

/// What it costs to note anything, in bytes, beyond its own words.
const ENTRY: usize = 64;

const TOO_MUCH: &str = "it holds more than --survive leaves for it";

/// Sub-contexts of one context: a program has a handful of GL contexts on a display.
const MOST_SUBS: usize = 256;

/// Words of a transfer (`virgl_protocol.h`, `VIRGL_RESOURCE_IW_*`): where in the resource, and how the bytes lie.
const TRANSFER_WORDS: usize = 11;

impl Journal {
    /// Of a context that has nothing yet.
    pub(crate) fn new(budget: Budget) -> Self {
        Self::of(Account::new(budget))
    }

    fn of(account: Account) -> Self {
        Self {
            account,
            used: 0,
            clock: 0,
            attached: BTreeMap::new(),
            contents: BTreeMap::new(),
            drawn: BTreeSet::new(),
            // There from the beginning.
            subs: BTreeMap::from([(0, SubContext::default())]),
            current: 0,
            broken: None,
            copied: 0,
        }
    }

    /// Why it is of no use, if it is.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    /// It is of no use any more.
    pub(crate) fn give_up(&mut self, why: &'static str) {
        self.account.hold(0);
        self.used = 0;
        self.attached.clear();
        self.contents.clear();
        self.drawn.clear();
        self.subs.clear();
        self.broken = Some(why);
    }

    pub(crate) fn attach(&mut self, resource: ResourceId, backing: Option<Backing>) {
        if self.broken.is_none() {
            self.attached.insert(resource, backing);
        }
    }

    pub(crate) fn detach(&mut self, resource: ResourceId) {
        self.attached.remove(&resource);
        self.drawn.remove(&resource);
        if let Some(contents) = self.contents.remove(&resource) {
            self.used -= contents.bytes();
            self.weigh();
        }
    }

    /// A transfer goes out that is no part of a stream. Whichever way it goes, the memory then has what the device has.
    pub(crate) fn transfer(&mut self, transfer: &Transfer) {
        let Transfer { resource, region: it, level, offset, stride, layer_stride, .. } = *transfer;
        let Ok(offset) = u32::try_from(offset) else { return };
        let region = [it.x, it.y, it.z, it.w, it.h, it.d];
        let source = Source::Memory { offset, stride, layer_stride };
        self.keep(resource, level, region, source);
        self.weigh();
    }

    /// A stream goes out.
    pub(crate) fn stream(&mut self, words: &[u32]) {
        if self.broken.is_some() {
            return;
        }
        self.copied = 0;
        for command in Commands::of(words) {
            let noted = match command {
                Ok(command) => self.note(&command),
                Err(_) => Err("a command stream ended in the middle of a command"),
            };
            if let Err(why) = noted {
                self.give_up(why);
            }
            if self.broken.is_some() {
                return;
            }
        }
        self.weigh();
    }

    fn weigh(&mut self) {
        let subs: usize = self.subs.values().map(SubContext::bytes).sum();
        if !self.account.hold(self.used + subs) {
            self.give_up(TOO_MUCH);
        }
    }

    fn note(&mut self, command: &Command) -> Result<(), &'static str> {
        self.clock += 1;
        match command.verb {
            Verb::NOP
            | Verb::CLEAR
            | Verb::DRAW_VBO
            | Verb::GET_QUERY_RESULT
            | Verb::MEMORY_BARRIER
            | Verb::LAUNCH_GRID
            | Verb::TEXTURE_BARRIER
            | Verb::SET_DEBUG_FLAGS
            | Verb::GET_QUERY_RESULT_QBO
            | Verb::END_TRANSFERS
            | Verb::GET_MEMORY_INFO
            | Verb::EMIT_STRING_MARKER
            | Verb::LINK_SHADER => {}
            Verb::SET_SUB_CTX => {
                if self.subs.contains_key(&command.word(0)) {
                    self.current = command.word(0);
                }
            }
            Verb::CREATE_SUB_CTX => {
                if self.subs.len() == MOST_SUBS {
                    return Err("it has too many sub-contexts");
                }
                self.subs.entry(command.word(0)).or_default();
            }
            Verb::DESTROY_SUB_CTX => self.destroy_sub(command.word(0)),
            Verb::RESOURCE_INLINE_WRITE => self.inline_write(command),
            Verb::TRANSFER3D => self.stream_transfer(command),
            Verb::COPY_TRANSFER3D => self.copy_transfer(command)?,
            Verb::BLIT => self.copy(command, 3, 6, 12),
            Verb::RESOURCE_COPY_REGION => self.copy_region(command),
            Verb::CLEAR_TEXTURE => self.copy_onto(command, 0, 1, 2),
            _ => self.state(command)?,
        }
        Ok(())
    }

    /// What belongs to the sub-context that is current.
    fn state(&mut self, command: &Command) -> Result<(), &'static str> {
        let clock = self.clock;
        if command.verb == Verb::SET_FRAMEBUFFER_STATE {
            let sub = self.subs.get(&self.current);
            let targets: Vec<_> = command.words.iter().skip(1).copied().collect();
            let targets = targets.into_iter().filter_map(|handle| sub?.resource_of(handle));
            self.drawn.extend(targets.map(ResourceId).collect::<Vec<_>>());
        }
        let Some(sub) = self.subs.get_mut(&self.current) else { return Ok(()) };
        sub.note(clock, command)
    }

    fn destroy_sub(&mut self, id: u32) {
        // The first is there as long as the context is.
        if id != 0 && self.subs.remove(&id).is_some() && self.current == id {
            self.current = 0;
        }
    }

    /// The bytes are in the stream.
    fn inline_write(&mut self, command: &Command) {
        let Some((place, data)) = command.words.split_at_checked(TRANSFER_WORDS) else { return };
        let bytes = data.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (resource, level, region) = self::place(place);
        self.keep(resource, level, region, Source::Bytes { stride: place[3], layer_stride: place[4], bytes });
    }

    /// The bytes are in the resource's own memory, and stay there.
    fn stream_transfer(&mut self, command: &Command) {
        let Some((place, rest)) = command.words.split_at_checked(TRANSFER_WORDS) else { return };
        let Some(offset) = rest.first() else { return };
        let (resource, level, region) = self::place(place);
        let source = Source::Memory { offset: *offset, stride: place[3], layer_stride: place[4] };
        self.keep(resource, level, region, source);
    }

    /// The bytes are in the memory of another resource, which is about to be used for something else: they are copied.
    fn copy_transfer(&mut self, command: &Command) -> Result<(), &'static str> {
        const FROM_HOST: u32 = 2;
        let Some((place, rest)) = command.words.split_at_checked(TRANSFER_WORDS) else { return Ok(()) };
        let [staging, offset, flags] = [0, 1, 2].map(|index| rest.get(index).copied().unwrap_or(0));
        if flags & FROM_HOST != 0 {
            return Ok(());
        }
        let (resource, level, region) = self::place(place);
        let (stride, layer_stride) = (place[3], place[4]);
        let [_, _, _, width, height, depth] = region.map(u64::from);
        let bytes = match (u64::from(stride), u64::from(layer_stride)) {
            // The numbers are a client's. What is too much is cut to the memory below.
            (0, _) => width.saturating_mul(height).saturating_mul(depth),
            (stride, 0) => stride.saturating_mul(height),
            (_, layer) => layer.saturating_mul(depth),
        };
        let backing = self.attached.get(&ResourceId(staging)).and_then(Option::as_ref);
        let Some(backing) = backing else { return Err("it copies from memory that is not known") };
        let bytes = bytes.min(backing.length.saturating_sub(u64::from(offset)));
        let (Ok(bytes), Ok(start)) =
            (usize::try_from(bytes), usize::try_from(backing.offset + u64::from(offset)))
        else {
            return Ok(());
        };
        self.copied = self.copied.saturating_add(bytes);
        if self.copied.max(self.used + bytes) > self.account.most() {
            return Err(TOO_MUCH);
        }
        let mut copy = vec![0; bytes];
        if backing.region.memory.read(start, &mut copy).is_ok() {
            self.keep(resource, level, region, Source::Bytes { stride, layer_stride, bytes: copy });
        }
        Ok(())
    }

    /// The device copies from one resource to another. That can be done again where what is copied is known.
    fn copy(&mut self, command: &Command, resource: usize, place: usize, source: usize) {
        let source = ResourceId(command.word(source));
        if self.contents.contains_key(&source) && !self.drawn.contains(&source) {
            self.copy_onto(command, resource, resource + 1, place);
        }
    }

    fn copy_region(&mut self, command: &Command) {
        // Its region is the size of what is read.
        let source = ResourceId(command.word(5));
        if !self.contents.contains_key(&source) || self.drawn.contains(&source) {
            return;
        }
        let [x, y, z, w, h, d] = [2, 3, 4, 10, 11, 12].map(|index| command.word(index));
        let (resource, level) = (ResourceId(command.word(0)), command.word(1));
        self.keep(resource, level, [x, y, z, w, h, d], Source::Command(command.whole.to_vec()));
    }

    fn copy_onto(&mut self, command: &Command, resource: usize, level: usize, place: usize) {
        let region = [0, 1, 2, 3, 4, 5].map(|index| command.word(place + index));
        let (resource, level) = (ResourceId(command.word(resource)), command.word(level));
        self.keep(resource, level, region, Source::Command(command.whole.to_vec()));
    }

    fn keep(&mut self, resource: ResourceId, level: u32, region: [u32; 6], source: Source) {
        if self.broken.is_some() || !self.attached.contains_key(&resource) {
            return;
        }
        self.clock += 1;
        let contents = self.contents.entry(resource).or_default();
        self.used -= contents.bytes();
        contents.add(Piece { at: self.clock, level, region, source });
        self.used += contents.bytes();
        if contents.is_too_scattered() {
            self.give_up("a resource is written in too many parts");
        }
    }
}

/// Where a transfer goes.
fn place(words: &[u32]) -> (ResourceId, u32, [u32; 6]) {
    // PANIC: of the words of a transfer there are eleven.
    (ResourceId(words[0]), words[1], [words[5], words[6], words[7], words[8], words[9], words[10]])
}
