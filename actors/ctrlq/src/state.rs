//! Which commands are under way, and what their answers mean.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use slab::Slab;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ContextId, FenceId, ResourceId, RingIndex, Serial, Token};
use virgld_protocol::message::ctrlq::{
    ContextCommand, ContextEvent, DisplayCommand, RESPONSE_BYTES, RESPONSE_OFFSET, Report, ResourceCommand,
    ResourceEvent, STREAM_OFFSET, SUBMIT_HEADER_BYTES,
};
use virgld_protocol::message::display::ControlEvent;
use virgld_protocol::message::live::{Live, Owner};
use virgld_protocol::message::transport::{CONTROL_QUEUE, Complaint, Publish};
use virgld_runtime::Time;
use virgld_runtime::dma::{DmaPool, DmaSlice};
use zerocopy::IntoBytes;

use crate::backlog::Backlog;
use crate::command::{self, Encoded};

/// Where a request lies in its slice.
pub(crate) const REQUEST_OFFSET: usize = RESPONSE_OFFSET + RESPONSE_BYTES;
/// How often patience with a command may begin anew because the device answers others.
const PROLONGED: u32 = 3;

const _: () = assert!(REQUEST_OFFSET + SUBMIT_HEADER_BYTES == STREAM_OFFSET);

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Give this to the device.
    Publish(Publish),
    /// Tell a context.
    Context(ContextId, ContextEvent),
    /// Tell the resource actor.
    Resource(ResourceEvent),
    /// Tell the display.
    Display(ControlEvent),
    /// Tell the transport that the device does nothing any more.
    Complain(Complaint),
}

/// What stage the device is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// There is none. What contexts want done waits for the next.
    Down,
    /// It is being told of the resources. What contexts want done waits for that.
    Furnishing,
    /// It has all.
    Up,
}

/// A command from whoever may give one.
#[derive(Debug)]
pub(crate) enum Command {
    Context(ContextId, ContextCommand),
    Resource(ResourceCommand),
    Display(DisplayCommand),
}

/// What the answer to a command means, and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meaning {
    ContextCreated(ContextId),
    ContextDestroyed(ContextId),
    /// Only counted: an error here shows in the commands that follow.
    Nothing,
    /// The same, and it was a context's.
    Counted(ContextId),
    Replayed(ContextId),
    Work(ContextId, Work),
    ResourceMade(ResourceId),
    Unreferenced(ResourceId),
    CapsetInfo(Token),
    Capset(Token, u32),
    Fetched(Token),
    Displays,
    Edid(u32),
    Transferred(Token),
    Flushed(Token),
}

/// Work of a context, by what its answer tells.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Complete(Serial),
    Execute(Serial),
    Settle(Serial),
}

impl Work {
    pub(crate) fn event(self, result: Result<(), Errno>) -> ContextEvent {
        match self {
            Self::Complete(serial) => ContextEvent::Completed { serial, result },
            Self::Execute(serial) => ContextEvent::Executed { serial, result },
            Self::Settle(serial) => ContextEvent::Settled { serial, result },
        }
    }
}

/// A command that the device has.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) meaning: Meaning,
    pub(crate) fenced: bool,
    pub(crate) response: (u32, u32),
    /// Which use of its place this is, so that a deadline is not taken for a later command's; in the order in which
    /// commands were sent.
    pub(crate) ticket: u64,
    /// Reported already as failed; only its memory is waited for.
    pub(crate) expired: bool,
}

impl Pending {
    /// Work that the device has: of a context, or about a resource that is to go.
    fn live(&self, key: usize) -> Option<Live> {
        let (what, owner) = match self.meaning {
            Meaning::Work(context, _) => ("submit or transfer on the device", Owner::Context(context)),
            Meaning::ContextDestroyed(context) => ("destruction of a context", Owner::Context(context)),
            Meaning::Unreferenced(resource) => ("release of a resource", Owner::Resource(resource)),
            _ => return None,
        };
        let kept = if self.expired { "past its deadline" } else { "" };
        Some(Live::new(what, key as u64, owner).kept(kept))
    }
}

/// The control queue's commands.
pub struct State {
    pub(crate) pending: Slab<Pending>,
    /// Commands that wait for memory, or for the fences to be numbered anew.
    backlog: Backlog,
    /// What a device that has just come up is to be told of the resources, ahead of all else.
    furniture: Backlog,
    deadlines: VecDeque<(Time, u32, u64)>,
    /// Contexts that have left the device, and may have work whose answers come later: an unfenced command
    /// overtakes fenced ones.
    pub(crate) departing: Vec<ContextId>,
    pool: DmaPool,
    patience: Duration,
    next_fence: u32,
    next_ticket: u64,
    pub(crate) fences: usize,
    pub(crate) device: Device,
    /// Contexts that the device was told to make.
    pub(crate) made: BTreeSet<ContextId>,
    /// Contexts that went with a device before: they have no more to say than goodbye.
    pub(crate) lost: BTreeSet<ContextId>,
    /// When the device last gave a command back, or came up.
    pub(crate) last_sign: Time,
    /// The last command, as they were sent, that has come back: the device has been through all before it.
    pub(crate) answered: u64,
    /// The transport was told already that the device is of no use.
    pub(crate) complained: bool,
    pub(crate) report: Report,
}

impl State {
    /// No commands yet. Small commands are built in slices of `pool`; a command that is not answered within
    /// `patience` fails.
    pub fn new(pool: DmaPool, patience: Duration) -> Self {
        Self {
            pending: Slab::new(),
            backlog: Backlog::default(),
            furniture: Backlog::default(),
            deadlines: VecDeque::new(),
            departing: Vec::new(),
            pool,
            patience,
            next_fence: 1,
            next_ticket: 0,
            fences: 0,
            device: Device::Down,
            made: BTreeSet::new(),
            lost: BTreeSet::new(),
            last_sign: Time(0),
            answered: 0,
            complained: false,
            report: Report::default(),
        }
    }

    /// The same with the number of the first fence, near the last for instance.
    #[must_use]
    pub fn numbering_from(self, fence: FenceId) -> Self {
        Self { next_fence: fence.0, ..self }
    }

    /// The control queue's account.
    pub fn report(&self) -> Report {
        Report {
            up: self.device == Device::Up,
            in_flight: self.pending.len(),
            fences: self.fences,
            live: self.pending.iter().filter_map(|(key, pending)| pending.live(key)).collect(),
            ..self.report.clone()
        }
    }

    /// Takes a context's command.
    pub fn context(
        &mut self,
        now: Time,
        context: ContextId,
        command: ContextCommand,
        effects: &mut Vec<Effect>,
    ) {
        self.command(now, Command::Context(context, command), effects);
    }

    /// A context's actor died: what the device has of it goes, unless it is on its way out already.
    pub fn died(&mut self, now: Time, context: ContextId, effects: &mut Vec<Effect>) {
        let ends = |meaning| matches!(meaning, Meaning::ContextDestroyed(it) if it == context);
        let begins = |meaning| matches!(meaning, Meaning::ContextCreated(it) if it == context);
        let waits = |is: &dyn Fn(Meaning) -> bool| self.backlog.iter().any(|it| is(it.meaning()));
        let sent = self.pending.iter().any(|(_, pending)| ends(pending.meaning));
        if sent || waits(&ends) || self.departing.contains(&context) {
            return;
        }
        if self.made.contains(&context) || self.lost.contains(&context) || waits(&begins) {
            self.context(now, context, ContextCommand::Destroy, effects);
        } else {
            // It died before the device heard of it.
            self.departing.push(context);
            self.see_off(effects);
        }
    }

    /// Takes a command of the resource actor.
    pub fn resource(&mut self, now: Time, command: ResourceCommand, effects: &mut Vec<Effect>) {
        self.command(now, Command::Resource(command), effects);
    }

    /// Takes a command of the display.
    pub fn display(&mut self, now: Time, command: DisplayCommand, effects: &mut Vec<Effect>) {
        self.command(now, Command::Display(command), effects);
    }

    fn command(&mut self, now: Time, command: Command, effects: &mut Vec<Effect>) {
        if let Command::Context(context, ContextCommand::Create { .. }) = command {
            // It outlives its device: from here on it is one that begins.
            self.lost.remove(&context);
        }
        if self.is_void(&command) {
            self.refuse(command, effects);
            return self.see_off(effects);
        }
        let furnishes = self.device == Device::Furnishing && matches!(command, Command::Resource(_));
        let queue = if furnishes { &mut self.furniture } else { &mut self.backlog };
        queue.push(now, command);
        self.drain(now, effects);
    }

    /// The device was told of all resources: what contexts want done can follow.
    pub fn furnished(&mut self, now: Time, effects: &mut Vec<Effect>) {
        // If that device is lost already, the resource actor is about to hear of it, and will furnish the next.
        if self.device == Device::Furnishing {
            self.device = Device::Up;
            self.drain(now, effects);
        }
    }

    /// Whether a command is for what went with a device that is lost. The next device is told of all resources
    /// anew, so commands about them are void too while there is none.
    fn is_void(&self, command: &Command) -> bool {
        match command {
            Command::Context(context, _) => self.lost.contains(context),
            Command::Resource(_) | Command::Display(_) => self.device == Device::Down,
        }
    }

    /// Sends what waits, as far as memory and fence numbers go.
    pub(crate) fn drain(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut furniture = std::mem::take(&mut self.furniture);
        let mut backlog = std::mem::take(&mut self.backlog);
        if self.device != Device::Down {
            self.drain_queue(now, &mut furniture, effects);
        }
        if self.device == Device::Up && furniture.is_empty() {
            self.drain_queue(now, &mut backlog, effects);
        }
        (self.furniture, self.backlog) = (furniture, backlog);
    }

    fn drain_queue(&mut self, now: Time, queue: &mut Backlog, effects: &mut Vec<Effect>) {
        while let Some((since, command)) = queue.pop() {
            if let Err(command) = self.send(now, command, effects) {
                return queue.put_back(since, command);
            }
        }
    }

    /// When the first piece of work in the backlog has waited long enough.
    fn backlog_deadline(&self) -> Option<Time> {
        self.backlog.work_since().map(|since| since.after(self.patience))
    }

    /// Builds a command and publishes it; hands it back if it must wait.
    fn send(&mut self, now: Time, mut command: Command, effects: &mut Vec<Effect>) -> Result<(), Command> {
        let mut encoded = command.encode();
        if encoded.fenced && !self.fence_available() {
            return Err(command);
        }
        let request = (REQUEST_OFFSET, encoded.bytes().len() + command.stream_length());
        let response = match encoded.response {
            small if small <= RESPONSE_BYTES => (RESPONSE_OFFSET, small),
            large => (request.0 + request.1, large),
        };
        let end = (request.0 + request.1).max(response.0 + response.1);
        let Some(slice) = command.take_stream().or_else(|| self.pool.take(end)) else { return Err(command) };
        if encoded.fenced {
            encoded.fence(self.number_fence(), command.ring());
        }
        // A slice that is too small for its command is a fault of whoever cut it: the command fails, nothing else.
        let fits = slice.write(REQUEST_OFFSET, encoded.bytes()).and(slice.write(response.0, &[0; 4]));
        let fits = fits.and_then(|()| slice.write(STREAM_OFFSET, command.replayed()));
        if end > slice.size() || fits.is_err() {
            self.refuse(command, effects);
            return Ok(());
        }
        let response = (to_u32(response.0), to_u32(response.1));
        let cookie = self.remember(now, command.meaning(), encoded.fenced, response);
        self.report.sent += 1;
        match command.meaning() {
            Meaning::ContextCreated(context) => {
                self.made.insert(context);
            }
            Meaning::ContextDestroyed(context) => {
                self.made.remove(&context);
            }
            _ => {}
        }
        let request = (to_u32(request.0), to_u32(request.1));
        let (queue, awaited) = (CONTROL_QUEUE, encoded.fenced);
        effects.push(Effect::Publish(Publish { queue, cookie, slice, request, response, awaited }));
        Ok(())
    }

    fn remember(&mut self, now: Time, meaning: Meaning, fenced: bool, response: (u32, u32)) -> u32 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.fences += usize::from(fenced);
        let cookie =
            to_u32(self.pending.insert(Pending { meaning, fenced, response, ticket, expired: false }));
        self.deadlines.push_back((now.after(self.patience), cookie, ticket));
        cookie
    }

    /// Fence numbers stay below 2^32, because devices never complete larger ones, and a device may take a number
    /// at or below the last completed one as done. So they start again only when no fence is under way.
    fn fence_available(&self) -> bool {
        self.next_fence < u32::MAX || self.fences == 0
    }

    fn number_fence(&mut self) -> FenceId {
        if self.next_fence == u32::MAX {
            self.next_fence = 1;
        }
        let fence = FenceId(self.next_fence);
        self.next_fence += 1;
        fence
    }

    /// The moment at which the oldest command's patience ends.
    pub fn deadline(&self) -> Option<Time> {
        let sent = self.deadlines.front().map(|(time, _, _)| *time);
        sent.into_iter().chain(self.backlog_deadline()).min().map(|time| self.prolonged(time))
    }

    /// The end of patience with a command of which it would be `time` if it had the device for itself: a device that
    /// gets on with what others asked before has not come to it yet. It has done nothing wrong, and nobody would tell
    /// the program that its transfer was never made. A command is bounded all the same, as a device may have forgotten
    /// it.
    fn prolonged(&self, time: Time) -> Time {
        time.max(self.last_sign.after(self.patience).min(time.after(self.patience * PROLONGED)))
    }

    /// Fails what has waited too long. Its memory stays with the device until that gives it back.
    pub fn expire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.expire_backlog(now, effects);
        if self.expire_sent(now, effects) {
            self.complain(now, effects);
        }
        self.forget_answered();
        self.see_off(effects);
    }

    /// Fails work that could not even be sent. Other commands are what the actors' truth rests on: they are sent
    /// however late.
    fn expire_backlog(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while self.backlog_deadline().is_some_and(|deadline| self.prolonged(deadline) <= now)
            && let Some(command) = self.backlog.take_work()
        {
            self.report.lost += 1;
            self.fail(command.meaning(), Errno::ETIMEDOUT, effects);
        }
    }

    /// Says whether there was anything.
    fn expire_sent(&mut self, now: Time, effects: &mut Vec<Effect>) -> bool {
        let mut any = false;
        let silent = self.is_silent(now);
        while let Some((time, cookie, ticket)) = self.deadlines.front().copied() {
            let prolonged = self.prolonged(time);
            let waiting = self.pending.get_mut(cookie as usize).filter(|pending| pending.ticket == ticket);
            if prolonged > now && waiting.is_some() {
                break;
            }
            self.deadlines.pop_front();
            if let Some(pending) = waiting.filter(|pending| !pending.expired) {
                any = true;
                self.report.lost += 1;
                // Until the device has let go of a resource, or is gone, its memory is nobody else's.
                if matches!(pending.meaning, Meaning::Unreferenced(_)) {
                    continue;
                }
                // A device that does nothing any more is about to be given up: what begins can begin on the next.
                if silent && matches!(pending.meaning, Meaning::ContextCreated(_) | Meaning::Replayed(_)) {
                    continue;
                }
                pending.expired = true;
                let meaning = pending.meaning;
                self.fail(meaning, Errno::ETIMEDOUT, effects);
            }
        }
        any
    }

    /// A device that has forgotten a command costs that command. One that has given nothing back for as long as a
    /// command may take, though it had one all the time, does nothing any more.
    fn complain(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.is_silent(now) && self.device != Device::Down && !self.complained {
            self.complained = true;
            let reason = format!("the device has answered nothing for {:?}: it is stalled", self.patience);
            effects.push(Effect::Complain(Complaint { reason }));
        }
    }

    fn is_silent(&self, now: Time) -> bool {
        now.since(self.last_sign) >= self.patience
    }

    /// Drops deadlines of commands that have been answered.
    pub(crate) fn forget_answered(&mut self) {
        while let Some((_, cookie, ticket)) = self.deadlines.front()
            && self.pending.get(*cookie as usize).is_none_or(|pending| pending.ticket != *ticket)
        {
            self.deadlines.pop_front();
        }
    }

    /// Fails what waits to be sent and was meant for a device that is lost.
    pub(crate) fn refuse_void(&mut self, effects: &mut Vec<Effect>) {
        let (mut furniture, mut backlog) =
            (std::mem::take(&mut self.furniture), std::mem::take(&mut self.backlog));
        while let Some((since, command)) = furniture.pop().or_else(|| backlog.pop()) {
            if self.is_void(&command) {
                self.refuse(command, effects);
            } else {
                self.backlog.push(since, command);
            }
        }
    }

    fn refuse(&mut self, command: Command, effects: &mut Vec<Effect>) {
        self.report.lost += 1;
        // Until there is another device, the one before may still write: its memory is nobody else's. A context whose replay
        // this was hears of the loss itself.
        if !matches!(command.meaning(), Meaning::Unreferenced(_) | Meaning::Replayed(_)) {
            self.fail(command.meaning(), Errno::EIO, effects);
        }
    }

    /// Tells contexts that they are gone, once all their work has been told of.
    pub(crate) fn see_off(&mut self, effects: &mut Vec<Effect>) {
        let pending = &self.pending;
        let at_work = |context: ContextId| {
            let works =
                |it: &Pending| !it.expired && matches!(it.meaning, Meaning::Work(of, _) if of == context);
            pending.iter().any(|(_, pending)| works(pending))
        };
        let gone = self.departing.extract_if(.., |context| !at_work(*context));
        for context in gone {
            self.lost.remove(&context);
            effects.push(Effect::Context(context, ContextEvent::Destroyed));
        }
    }

    /// Tells whom it concerns that a command failed.
    pub(crate) fn fail(&mut self, meaning: Meaning, errno: Errno, effects: &mut Vec<Effect>) {
        effects.push(match meaning {
            Meaning::Nothing | Meaning::Counted(_) => return,
            Meaning::Replayed(context) => {
                Effect::Context(context, ContextEvent::Replayed { result: Err(errno) })
            }
            Meaning::ContextCreated(context) => Effect::Context(context, ContextEvent::Refused),
            // The device forgets the context with everything else; nobody waits to be told otherwise.
            Meaning::ContextDestroyed(context) => return self.departing.push(context),
            Meaning::Work(context, work) => Effect::Context(context, work.event(Err(errno))),
            Meaning::ResourceMade(resource) => Effect::Resource(ResourceEvent::Failed { resource, errno }),
            Meaning::Unreferenced(resource) => Effect::Resource(ResourceEvent::Unreferenced { resource }),
            Meaning::CapsetInfo(token) => {
                Effect::Resource(ResourceEvent::CapsetInfo { token, result: Err(errno) })
            }
            Meaning::Capset(token, _) => {
                Effect::Resource(ResourceEvent::Capset { token, result: Err(errno) })
            }
            Meaning::Fetched(token) => Effect::Resource(ResourceEvent::Fetched { token, result: Err(errno) }),
            Meaning::Displays => Effect::Display(ControlEvent::Displays(Err(errno))),
            Meaning::Edid(scanout) => Effect::Display(ControlEvent::Edid { scanout, result: Err(errno) }),
            Meaning::Transferred(token) => {
                Effect::Display(ControlEvent::Transferred { token, result: Err(errno) })
            }
            Meaning::Flushed(token) => Effect::Display(ControlEvent::Flushed { token, result: Err(errno) }),
        });
    }
}

impl Command {
    fn encode(&self) -> Encoded {
        match self {
            Self::Context(context, command) => command::of_context(*context, command),
            Self::Resource(command) => command::of_resource(command),
            Self::Display(command) => command::of_display(command),
        }
    }

    fn meaning(&self) -> Meaning {
        match self {
            Self::Context(context, command) => match command {
                ContextCommand::Create { .. } => Meaning::ContextCreated(*context),
                ContextCommand::Destroy => Meaning::ContextDestroyed(*context),
                ContextCommand::Attach { .. } | ContextCommand::Detach { .. } => Meaning::Counted(*context),
                ContextCommand::Replay { .. } => Meaning::Replayed(*context),
                ContextCommand::Submit { serial, fenced: true, .. } => {
                    Meaning::Work(*context, Work::Complete(*serial))
                }
                ContextCommand::Submit { serial, .. } => Meaning::Work(*context, Work::Execute(*serial)),
                ContextCommand::Fence { serial } => Meaning::Work(*context, Work::Settle(*serial)),
                ContextCommand::Transfer(it) => Meaning::Work(*context, Work::Complete(it.serial)),
            },
            Self::Resource(command) => match *command {
                ResourceCommand::Create3d { resource, .. }
                | ResourceCommand::Create2d { resource, .. }
                | ResourceCommand::AttachBacking { resource, .. } => Meaning::ResourceMade(resource),
                ResourceCommand::DetachBacking { .. } | ResourceCommand::Restore { .. } => Meaning::Nothing,
                ResourceCommand::Unreference { resource } => Meaning::Unreferenced(resource),
                ResourceCommand::CapsetInfo { token, .. } => Meaning::CapsetInfo(token),
                ResourceCommand::Capset { token, size, .. } => Meaning::Capset(token, size),
                ResourceCommand::Fetch { token, .. } => Meaning::Fetched(token),
            },
            Self::Display(command) => match *command {
                DisplayCommand::Displays => Meaning::Displays,
                DisplayCommand::Edid { scanout } => Meaning::Edid(scanout),
                DisplayCommand::Transfer { token: Some(token), .. } => Meaning::Transferred(token),
                DisplayCommand::Flush { token: Some(token), .. } => Meaning::Flushed(token),
                DisplayCommand::SetScanout { .. }
                | DisplayCommand::Flush { token: None, .. }
                | DisplayCommand::Transfer { token: None, .. } => Meaning::Nothing,
            },
        }
    }

    pub(crate) fn is_work(&self) -> bool {
        matches!(self.meaning(), Meaning::Work(..))
    }

    fn stream_length(&self) -> usize {
        match self {
            Self::Context(_, ContextCommand::Submit { length, .. }) => *length as usize,
            Self::Context(_, ContextCommand::Replay { stream }) => stream.len() * 4,
            _ => 0,
        }
    }

    /// The stream that comes with the command itself.
    fn replayed(&self) -> &[u8] {
        match self {
            Self::Context(_, ContextCommand::Replay { stream }) => stream.as_bytes(),
            _ => &[],
        }
    }

    fn ring(&self) -> Option<RingIndex> {
        match self {
            Self::Context(_, ContextCommand::Submit { ring, .. }) => *ring,
            _ => None,
        }
    }

    fn take_stream(&mut self) -> Option<DmaSlice> {
        match self {
            Self::Context(_, ContextCommand::Submit { stream, .. }) => stream.take(),
            _ => None,
        }
    }
}

/// Sizes and places within a slice; a slice is far smaller than 4 GiB.
pub(crate) fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
