//! The door as an actor: what it holds, what it hears, and its turns.

use foldhash::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tracing::{debug, warn};
use virgld_protocol::channel::MAX_BULK;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId};
use virgld_protocol::message::ctrlq::STREAM_OFFSET;
use virgld_protocol::message::door::{Command, Message};
use virgld_protocol::message::scheme::{DoorEvent, FromDoor, Node, Reached, SyncobjKey};
use virgld_runtime::dma::DmaPool;
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::lent::Lender;
use virgld_runtime::{Actor, Cap, Fault, Restart, Time, Turn, fault};

use super::accept::{Listener, reserve};
use super::access::Access;
use super::channel::{Attention, Channel};
use super::config::{DoorConfig, DoorError, Limits, Sinks};
use super::directory::Directory;
use super::exports::{Exports, survive_broken_leases};
use super::fences::Fences;
use super::file::File;
use super::load::Load;
use super::record::Broken;
use super::share::Shares;
use super::token::{Source, slot_of};
use crate::host::log_limit::LogShares;
use crate::host::reactor::Registrar;

/// The door.
pub struct Door {
    pub(super) limits: Limits,
    pub(super) access: Access,
    /// Files that compete for the device, and when they were counted.
    pub(super) rivals: (usize, Option<Time>),
    /// What each user's files have under way.
    pub(super) loads: HashMap<u32, Load>,
    /// What each file has had of the device's time.
    pub(super) shares: Shares,
    pub(super) registrar: Registrar,
    pub(super) sinks: Sinks,
    pub(super) pool: DmaPool,
    /// For what calls say.
    pub(super) calls: Lender,
    pub(super) listeners: [Listener; 2],
    pub(super) files: HashMap<FileId, File>,
    pub(super) channels: HashMap<u64, Channel>,
    pub(super) fences: Fences,
    pub(super) exports: Exports,
    pub(super) now: Time,
    /// When to try again to let clients in, after the process was out of descriptors.
    pub(super) accept_again: Option<Time>,
    /// Given up to tell clients that the process is out of descriptors.
    pub(super) reserve: Option<OwnedFd>,
    /// Foreign fences that had signalled when they came, to be reported.
    pub(super) signalled: Vec<(FenceKey, Result<(), Errno>)>,
    /// The channels to look at, in the order of their turns.
    pub(super) active: Vec<u64>,
    /// No channels: room for those whose turn it is.
    turns: Vec<u64>,
    /// Sockets that were left before they were empty, so that others have their turn: to go on with when it settles.
    pub(super) unfinished: Vec<Source>,
    scheme: Cap<FromDoor>,
    again: ReadySink,
    next_number: u64,
    /// When to look at watched exports.
    next_look: Option<Time>,
    /// When to look at starved channels though nothing has retired.
    next_feed: Option<Time>,
    /// When to look at ends that do not come.
    pub(super) next_end: Option<Time>,
    /// How much is logged of clients.
    pub(super) log: LogShares,
    /// Whose the step under way is.
    serving: Option<Source>,
    directory: Directory,
}

impl Door {
    /// Opens the door: takes the directory, plants the tree for clients and listens. Whatever clients do is told
    /// to `scheme`. Command streams are put into slices of `pool`. `sinks` makes sinks to the mailbox that this
    /// actor will be started behind.
    pub fn new(
        config: DoorConfig,
        scheme: Cap<FromDoor>,
        registrar: Registrar,
        pool: DmaPool,
        sinks: Sinks,
    ) -> Result<Self, DoorError> {
        survive_broken_leases().map_err(DoorError::Signal)?;
        let directory = Directory::take(&config.directory, !config.access.is_private())?;
        let listener = |node, index| {
            let socket = directory.listen(node)?;
            Listener::watch(node, socket, &registrar, &sinks, Source::Listener(index))
        };
        let listeners = [listener(Node::Card, 0)?, listener(Node::Render, 1)?];
        Ok(Self {
            limits: config.limits,
            access: config.access,
            rivals: (0, None),
            loads: HashMap::default(),
            shares: Shares::default(),
            listeners,
            again: sinks(),
            registrar,
            sinks,
            pool,
            calls: Lender::default(),
            files: HashMap::default(),
            channels: HashMap::default(),
            fences: Fences::default(),
            exports: Exports::default(),
            now: Time::default(),
            accept_again: None,
            reserve: reserve(),
            signalled: Vec::new(),
            active: Vec::new(),
            turns: Vec::new(),
            unfinished: Vec::new(),
            scheme,
            next_number: 0,
            next_look: None,
            next_feed: None,
            next_end: None,
            log: LogShares::default(),
            serving: None,
            directory,
        })
    }

    pub(super) fn fresh_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Tells the scheme. Without one there is no point in a door.
    pub(super) fn tell(&self, event: DoorEvent) -> Result<(), Fault> {
        self.scheme.send(event).map_err(|dead| Fault::new(dead.to_string()))
    }

    /// The largest command stream that can ever be taken.
    pub(super) fn largest_stream(&self) -> usize {
        self.pool.largest().saturating_sub(STREAM_OFFSET).min(MAX_BULK)
    }

    /// Looks at a channel from the next turn on.
    pub(super) fn activate(&mut self, id: u64) {
        if let Some(channel) = self.channels.get_mut(&id)
            && channel.attention != Attention::Active
        {
            (channel.attention, channel.quiet) = (Attention::Active, 0);
            channel.ring.want_doorbell(false);
            self.active.push(id);
        }
    }

    /// Leaves a channel's next record where it is until something retires, or until `again` at the latest.
    pub(super) fn starve(&mut self, id: u64, again: Time) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.attention = Attention::Starved;
        }
        self.next_feed = Some(self.next_feed.map_or(again, |next| next.min(again)));
    }

    fn feed(&mut self) {
        self.next_feed = None;
        let starved =
            |(id, channel): (&u64, &Channel)| (channel.attention == Attention::Starved).then_some(*id);
        let starved: Vec<u64> = self.channels.iter().filter_map(starved).collect();
        starved.into_iter().for_each(|id| self.activate(id));
    }

    /// Cuts off a file whose client broke the rules.
    pub(super) fn expel(&mut self, file: FileId, broken: Broken) -> Result<(), Fault> {
        let pid = self.files.get(&file).map_or(0, |file| file.credentials.pid);
        if self.may_log_of(file) {
            warn!(file = file.0, pid, %broken, "a client broke the rules and is cut off");
        }
        self.close(file)
    }

    /// Ends a file and all that is its.
    pub(super) fn close(&mut self, id: FileId) -> Result<(), Fault> {
        let Some(file) = self.files.remove(&id) else { return Ok(()) };
        self.unload(&file);
        self.shares.forget(id);
        for channel in &file.channels {
            self.channels.remove(channel);
        }
        for fence in &file.watched {
            self.fences.drop_foreign(*fence);
            // What waits for it, here or elsewhere, would wait for ever.
            let result = Err(Errno::ECANCELED);
            self.tell(DoorEvent::FenceSignalled { fence: *fence, result })?;
        }
        // Nobody will ever signal what no call named.
        for fence in file.stock.values() {
            self.fences.signal(*fence, Err(Errno::ECANCELED));
        }
        debug!(file = id.0, "closed");
        self.tell(DoorEvent::Closed { file: id })
    }

    fn ready(&mut self, source: Source) -> Result<(), Fault> {
        match source {
            Source::Listener(_) => self.accept(),
            Source::File(file) => self.hello(FileId(file)),
            Source::Channel(id) => {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.notice_end(self.now);
                }
                self.activate(id);
                Ok(())
            }
            Source::Process(id) => {
                self.process_ended(id);
                Ok(())
            }
            Source::Doorbell(id) => {
                if let Some(channel) = self.channels.get(&id) {
                    channel.ring.hear();
                }
                self.activate(id);
                Ok(())
            }
            Source::Fence(key) => self.foreign_fence_ready(key),
            Source::Syncobj(key) => self.syncobj_ready(SyncobjKey(key)),
            // A turn follows.
            Source::Again => Ok(()),
        }
    }

    fn syncobj_ready(&mut self, syncobj: SyncobjKey) -> Result<(), Fault> {
        if self.exports.reap_syncobj(syncobj) {
            self.tell(DoorEvent::SyncobjUnused { syncobj })
        } else {
            Ok(())
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Fault> {
        match command {
            Command::Answer { token, result, attach } => self.answer(token, result, attach)?,
            Command::Signal { fence, result } => self.fences.signal(fence, result),
            Command::Reached { file, reached } => self.reached(file, reached),
            Command::WatchExport { export } => {
                if !self.exports.watch_buffer(export) {
                    return self.tell(DoorEvent::ExportUnused { export });
                }
                self.next_look.get_or_insert(self.now.after(LOOK_EVERY));
            }
            Command::ForgetExport { export } => self.exports.forget_buffer(export),
            Command::Event { file, bytes } => self.send_event(file, &bytes),
            Command::Hotplug => self.directory.tell_hotplug(),
            Command::Expel { file } => {
                if self.may_log_of(file) {
                    warn!(file = file.0, "cut off on the scheme's word");
                }
                return self.close(file);
            }
        }
        Ok(())
    }

    fn reached(&mut self, file: FileId, reached: Reached) {
        let Some(open) = self.files.get_mut(&file) else { return };
        let (uid, before) = (open.credentials.uid, open.under_way());
        let channels = &self.channels;
        open.retire(reached.complete, |channel, record| {
            if let Some(channel) = channels.get(&channel) {
                channel.ring.retire(record);
            }
        });
        let after = open.under_way();
        self.shares.reached(file, self.now, reached.executed >= open.last_serial());
        if after != before {
            open.last_retired = self.now;
        }
        if let Some(load) = self.loads.get_mut(&uid) {
            load.calls -= before.0 - after.0;
            load.bytes -= before.1 - after.1;
        }
        if self.next_feed.is_some() {
            self.feed();
        }
    }

    fn look_at_exports(&mut self) -> Result<(), Fault> {
        for export in self.exports.unused_buffers() {
            self.tell(DoorEvent::ExportUnused { export })?;
        }
        self.next_look = self.exports.watches().then(|| self.now.after(LOOK_EVERY));
        Ok(())
    }

    /// Gives every active channel a turn. Says whether anything was taken. One that has had nothing for long is not looked
    /// at any more, whoever else keeps the door awake.
    fn turn(&mut self) -> Result<bool, Fault> {
        let (mut any, mut quiet) = (false, false);
        let mut turns = std::mem::take(&mut self.turns);
        std::mem::swap(&mut turns, &mut self.active);
        for id in turns.drain(..) {
            let taken = self.take_turn(id)?;
            any |= taken;
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            if channel.attention == Attention::Active {
                channel.quiet = if taken { 0 } else { channel.quiet.saturating_add(1) };
                quiet |= channel.quiet >= QUIET_TURNS;
                self.active.push(id);
            }
        }
        self.turns = turns;
        if quiet {
            self.leave(|channel| channel.quiet >= QUIET_TURNS);
        }
        // Whoever was first is last in the next turn.
        if self.active.len() > 1 {
            self.active.rotate_left(1);
        }
        Ok(any)
    }

    /// Tells the clients of such active channels that from now on their doorbells are heard and their rings are not looked
    /// at. A channel that was written to in the meantime stays active.
    fn leave(&mut self, which: impl Fn(&Channel) -> bool) {
        for channel in self.active.iter().filter_map(|id| self.channels.get(id)).filter(|it| which(it)) {
            channel.ring.want_doorbell(true);
        }
        // Pairs with the client's: it writes, then looks whether the doorbell is wanted.
        virgld_runtime::memory::full_barrier();
        let channels = &mut self.channels;
        self.active.retain(|id| {
            let Some(channel) = channels.get_mut(id) else { return false };
            if !which(channel) {
                return true;
            }
            if channel.ring.has_more() {
                channel.ring.want_doorbell(false);
                return true;
            }
            channel.attention = Attention::Idle;
            false
        });
    }

    fn take_turn(&mut self, id: u64) -> Result<bool, Fault> {
        self.serving = Some(Source::Channel(id));
        let mut taken = 0;
        while taken < self.limits.records_per_turn && self.take(id, taken == 0)? {
            taken += 1;
        }
        if taken > 0
            && let Some(channel) = self.channels.get(&id)
        {
            channel.ring.tell_room();
        }
        self.end_what_is_over(id)?;
        self.serving = None;
        Ok(taken > 0)
    }
}

impl Actor for Door {
    type Message = Message;

    const SETTLES: bool = true;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        self.now = turn.now;
        self.serving = served(&message);
        let outcome = match message {
            Message::Command(command) => self.command(command),
            Message::Ready(Ready(token)) => self.ready(Source::unpack(token)),
        };
        fault::midst();
        self.serving = None;
        outcome
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        self.now = restart.now;
        let file = match self.serving.take() {
            Some(Source::File(file)) => Some(FileId(file)),
            Some(Source::Channel(id) | Source::Doorbell(id) | Source::Process(id)) => {
                self.channels.get(&id).map(|it| it.file)
            }
            _ => None,
        };
        if let Some(file) = file {
            warn!(file = file.0, "the door failed in a step for this file, which is cut off");
            self.close(file)?;
        }
        // Whose turn it was may be forgotten: everybody gets one, and whoever waits at a node is let in.
        let mut channels: Vec<u64> = self.channels.keys().copied().collect();
        channels.sort_unstable();
        for id in channels {
            self.active.retain(|other| *other != id);
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.attention = Attention::Idle;
            }
            self.activate(id);
        }
        (self.again)(Ready(Source::Again.pack()));
        self.accept()
    }

    fn deadline(&self) -> Option<Time> {
        let own = [self.next_look, self.next_feed, self.next_end, self.accept_again, self.log_is_due()];
        own.into_iter().flatten().min()
    }

    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        self.now = now;
        if self.accept_again.is_some_and(|time| time <= now) {
            self.accept_again = None;
            self.accept()?;
        }
        if self.next_feed.is_some_and(|time| time <= now) {
            self.feed();
        }
        if self.next_look.is_some_and(|time| time <= now) {
            self.look_at_exports()?;
        }
        if self.next_end.is_some_and(|time| time <= now) {
            self.end_what_lingers()?;
        }
        self.tell_what_was_left_out();
        Ok(())
    }

    fn settle(&mut self, now: Time) -> Result<(), Fault> {
        self.now = now;
        for source in std::mem::take(&mut self.unfinished) {
            self.serving = Some(source);
            self.ready(source)?;
            self.serving = None;
        }
        if self.turn()? || !self.unfinished.is_empty() {
            // What was taken is handled first; then it is our turn again, on whatever stage the others are.
            (self.again)(Ready(Source::Again.pack()));
        }
        Ok(())
    }

    fn glance(&self) -> bool {
        self.active.iter().any(|id| self.channels.get(id).is_some_and(|channel| channel.ring.has_more()))
    }

    fn doze(&mut self, now: Time) -> Result<(), Fault> {
        self.now = now;
        self.leave(|_| true);
        if !self.active.is_empty() {
            (self.again)(Ready(Source::Again.pack()));
        }
        Ok(())
    }
}

/// Whose step it is that this message begins.
fn served(message: &Message) -> Option<Source> {
    match message {
        Message::Ready(Ready(token)) => Some(Source::unpack(*token)),
        Message::Command(Command::Answer { token, .. }) => Some(Source::Channel(slot_of(*token).0)),
        Message::Command(
            Command::Reached { file, .. } | Command::Event { file, .. } | Command::Expel { file },
        ) => Some(Source::File(file.0)),
        Message::Command(_) => None,
    }
}

/// For how many turns a channel is looked at without a record in it: more than a client takes from one call to the next.
const QUIET_TURNS: u16 = 256;
/// How often watched exports are looked at: nothing tells when the last holder of a buffer goes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a channel starves before it is looked at though nothing has retired: device memory also comes back
/// from commands that were never executed.
pub(super) const FEED_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use virgld_protocol::channel::{DOORBELL_WANTED, TAIL};
    use virgld_runtime::memory::Memory;

    use super::super::channel::tests_support::open;
    use super::super::tests_support::Alone;
    use super::*;

    #[test]
    fn a_channel_is_looked_at_until_it_was_quiet_for_long_or_the_door_dozes() {
        let mut alone = Alone::new();
        let door = &mut alone.door;
        let (channel, _theirs) = open(&door.registrar);
        door.channels.insert(1, channel);
        let wanted = |door: &Door| {
            let word = door.channels[&1].ring.memory().word_32(DOORBELL_WANTED).unwrap();
            word.load(std::sync::atomic::Ordering::Relaxed) != 0
        };
        assert!(wanted(door));
        door.activate(1);
        for turn in 1..QUIET_TURNS {
            door.settle(Time(turn.into())).unwrap();
            assert!(!wanted(door) && !door.glance());
        }
        door.settle(Time(1000)).unwrap();
        assert!(wanted(door) && door.active.is_empty());

        door.activate(1);
        door.settle(Time(1001)).unwrap();
        assert!(!wanted(door));
        door.doze(Time(1002)).unwrap();
        assert!(wanted(door) && door.active.is_empty());

        door.activate(1);
        door.channels[&1].ring.memory().write(TAIL, &[64]).unwrap();
        assert!(door.glance());
        door.doze(Time(1003)).unwrap();
        assert!(!wanted(door) && !door.active.is_empty(), "there is something to take first");
    }
}
