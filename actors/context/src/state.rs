//! The life of a context and the order of its work.

use std::collections::VecDeque;
use std::time::Duration;

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Serial};
use virgld_protocol::message::context::{Request, Submit};
use virgld_protocol::message::ctrlq::{ContextCommand, ContextEvent, Transfer};
use virgld_protocol::message::resource::Backing;
use virgld_protocol::message::scheme::{ContextNotice, Reached};
use virgld_runtime::Time;

use crate::borrowed::Borrowed;
use crate::survive::Survival;
use crate::timeline::Timeline;
use crate::words::Words;

/// A fence comes behind this many submits, though nobody waits, so that a client always learns how far it is: a
/// door lets 64 calls of a file be under way.
pub(crate) const UNFENCED_IN_A_ROW: u32 = 8;
/// A fence comes this long after the last submit without one, though nobody waits.
pub(crate) const UNFENCED_TIME: Duration = Duration::from_millis(1);

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Have the device do this.
    Control(ContextCommand),
    /// Tell the scheme.
    Scheme(ContextNotice),
    /// The actor's work is over.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    New,
    Live,
    /// The device does not know the context any more: its work fails.
    Lost,
    Closing,
}

/// Work that waits behind a held submit.
#[derive(Debug)]
pub(crate) enum Work {
    Submit(Submit),
    Transfer(Transfer),
    Attach(ResourceId, Option<Backing>),
    Detach(ResourceId),
    Skip(Serial),
}

/// Work that went out without a fence, and has none behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfenced {
    last: Serial,
    count: u32,
    deadline: Time,
}

/// One context.
#[derive(Debug)]
pub struct State {
    pub(crate) life: Life,
    pub(crate) waiting: VecDeque<Work>,
    pub(crate) timeline: Timeline,
    pub(crate) unfenced: Option<Unfenced>,
    /// The last work behind which a fence went out.
    fenced: Serial,
    /// Somebody waits for all work up to here.
    awaited: Serial,
    /// The last work that was asked for.
    pub(crate) last: Serial,
    /// How to make the context anew, if it is to outlive its device.
    pub(crate) survival: Option<Survival>,
    /// Buffers that others made.
    pub(crate) borrowed: Borrowed,
    /// The device was asked to destroy the context, and has not said that it has.
    pub(crate) leaving: bool,
    /// It has.
    left: bool,
    words: Words,
}

impl Default for State {
    fn default() -> Self {
        Self {
            life: Life::New,
            waiting: VecDeque::new(),
            timeline: Timeline::default(),
            unfenced: None,
            fenced: Serial(0),
            awaited: Serial(0),
            last: Serial(0),
            survival: None,
            borrowed: Borrowed::default(),
            leaving: false,
            left: false,
            words: Words::default(),
        }
    }
}

impl State {
    /// Takes a request of the scheme.
    pub fn request(&mut self, now: Time, request: Request, effects: &mut Vec<Effect>) {
        match request {
            Request::Open { name, capset } => {
                self.life = Life::Live;
                self.begin_journal(name, capset, effects);
                effects.push(Effect::Control(ContextCommand::Create { name, capset }));
            }
            Request::Attach { resource, backing, borrowed } => {
                if borrowed {
                    self.borrowed.lend(resource);
                }
                self.enqueue(now, Work::Attach(resource, backing), effects);
            }
            Request::Detach { resource } => self.enqueue(now, Work::Detach(resource), effects),
            Request::Revoke { resource } => self.revoke(now, resource, effects),
            Request::Forget { resource } => self.forget(resource),
            Request::Submit(submit) => {
                self.begin(submit.serial);
                self.enqueue(now, Work::Submit(submit), effects);
            }
            Request::Transfer(transfer) => {
                self.begin(transfer.serial);
                self.enqueue(now, Work::Transfer(transfer), effects);
            }
            Request::Skip { serial } => {
                self.begin(serial);
                self.enqueue(now, Work::Skip(serial), effects);
            }
            Request::Release { serial, result } => self.release(now, serial, result, effects),
            Request::Await { serial } => self.hasten(serial, effects),
            Request::Close => self.close(effects),
        }
    }

    /// Takes an event of the control queue.
    pub fn control(&mut self, now: Time, event: ContextEvent, effects: &mut Vec<Effect>) {
        match event {
            ContextEvent::Completed { serial, result } => self.completed(now, serial, result, effects),
            ContextEvent::Executed { serial, result } => self.executed(now, serial, result, effects),
            ContextEvent::Settled { serial, .. } => self.settle(serial, effects),
            ContextEvent::Lost { blame } if self.life == Life::Live => {
                if !self.revive(now, blame, effects) {
                    self.lose(now, effects);
                }
            }
            ContextEvent::Refused if self.life == Life::Live => self.lose(now, effects),
            ContextEvent::Lost { .. } | ContextEvent::Refused => {}
            ContextEvent::Replayed { result } => self.replayed(now, result, effects),
            ContextEvent::Destroyed if self.life == Life::Closing => effects.push(Effect::Finish),
            ContextEvent::Destroyed => self.left = true,
        }
    }

    /// When a fence is due that nobody asked for.
    pub fn deadline(&self) -> Option<Time> {
        self.unfenced.map(|unfenced| unfenced.deadline)
    }

    /// Sends the fence that is due.
    pub fn wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fence(effects);
        }
    }

    fn begin(&mut self, serial: Serial) {
        self.last = serial;
        self.timeline.begin(serial);
    }

    /// Work goes on at once unless something before it is held.
    fn enqueue(&mut self, now: Time, work: Work, effects: &mut Vec<Effect>) {
        self.waiting.push_back(work);
        self.proceed(now, effects);
    }

    pub(crate) fn proceed(&mut self, now: Time, effects: &mut Vec<Effect>) {
        // Work comes behind what the context is made anew from.
        while !self.is_replaying()
            && self
                .waiting
                .front()
                .is_some_and(|work| !matches!(work, Work::Submit(Submit { held: true, .. })))
            && let Some(work) = self.waiting.pop_front()
        {
            self.perform(now, work, effects);
        }
    }

    fn perform(&mut self, now: Time, work: Work, effects: &mut Vec<Effect>) {
        let live = self.life == Life::Live;
        match work {
            Work::Submit(Submit { serial, .. }) | Work::Transfer(Transfer { serial, .. }) if !live => {
                self.complete(serial, Err(Errno::EIO), effects);
            }
            Work::Submit(submit) => {
                self.look_into(&submit, effects);
                self.submit(now, submit, effects);
            }
            Work::Transfer(transfer) => {
                self.note(effects, |journal| journal.transfer(&transfer));
                effects.push(Effect::Control(ContextCommand::Transfer(transfer)));
            }
            Work::Attach(resource, backing) if live => {
                self.note(effects, |journal| journal.attach(resource, backing));
                self.borrowed.attach(resource, true);
                effects.push(Effect::Control(ContextCommand::Attach { resource }));
            }
            Work::Attach(..) => {}
            Work::Detach(resource) => {
                self.note(effects, |journal| journal.detach(resource));
                self.borrowed.attach(resource, false);
                if live {
                    effects.push(Effect::Control(ContextCommand::Detach { resource }));
                }
                effects.push(Effect::Scheme(ContextNotice::Detached { resource }));
            }
            Work::Skip(serial) => self.complete(serial, Err(Errno::EINVAL), effects),
        }
    }

    /// Takes down what a stream does, where somebody has to know.
    fn look_into(&mut self, submit: &Submit, effects: &mut Vec<Effect>) {
        if self.borrowed.is_empty() && !self.is_journaled() {
            return;
        }
        let mut room = std::mem::take(&mut self.words);
        let words = room.of(submit);
        self.borrowed.stream(words);
        self.note(effects, |journal| journal.stream(words));
        self.words = room;
    }

    /// A fence costs the device more than most streams do: it comes only where somebody waits, and now and then.
    fn submit(&mut self, now: Time, submit: Submit, effects: &mut Vec<Effect>) {
        let Submit { stream, length, ring, serial, fenced, .. } = submit;
        let count = self.unfenced.map_or(0, |unfenced| unfenced.count) + 1;
        // A fence on a ring says nothing of other rings.
        let fenced = fenced || ring.is_some() || self.awaited >= serial || count > UNFENCED_IN_A_ROW;
        if !fenced {
            self.lack_fence(now, serial, count);
        } else if ring.is_none() {
            self.unfenced = None;
            self.fenced = serial;
            self.timeline.fence(serial);
        }
        effects.push(Effect::Control(ContextCommand::Submit { stream, length, ring, fenced, serial }));
    }

    fn lack_fence(&mut self, now: Time, serial: Serial, count: u32) {
        let deadline = now.after(UNFENCED_TIME);
        let lacking = self.unfenced.get_or_insert(Unfenced { last: serial, count, deadline });
        lacking.deadline = deadline;
        lacking.last = lacking.last.max(serial);
        lacking.count = lacking.count.max(count);
    }

    /// Sends a fence behind what has none.
    fn fence(&mut self, effects: &mut Vec<Effect>) {
        if let Some(Unfenced { last, .. }) = self.unfenced.take().filter(|_| self.life == Life::Live) {
            self.fenced = last;
            effects.push(Effect::Control(ContextCommand::Fence { serial: last }));
        }
    }

    /// Somebody waits.
    fn hasten(&mut self, serial: Serial, effects: &mut Vec<Effect>) {
        self.awaited = self.awaited.max(serial);
        // What is held yet gets its fence when it goes out.
        if serial > self.fenced && self.timeline.lacks(serial) {
            self.fence(effects);
        }
    }

    fn release(&mut self, now: Time, serial: Serial, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        let held =
            self.waiting.iter().position(|work| matches!(work, Work::Submit(it) if it.serial == serial));
        let Some(index) = held else { return };
        match result {
            Ok(()) => {
                if let Some(Work::Submit(submit)) = self.waiting.get_mut(index) {
                    submit.held = false;
                }
            }
            Err(errno) => {
                self.waiting.remove(index);
                self.complete(serial, Err(errno), effects);
            }
        }
        self.proceed(now, effects);
    }

    fn complete(&mut self, serial: Serial, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        // The control queue answers each command once; anything else is not ours to report twice.
        if self.timeline.complete(serial) {
            let reached = self.timeline.reached();
            effects.push(Effect::Scheme(ContextNotice::Completed { serial, result, reached }));
        }
    }

    /// The device answered a submit with a fence, or a transfer.
    fn completed(&mut self, now: Time, serial: Serial, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        if self.timeline.is_fence(serial) {
            match result {
                Ok(()) => self.timeline.settle(serial),
                // A device answers what it could not do at once: that is no fence for what was before.
                Err(_) => self.lack_fence(now, serial, 0),
            }
        }
        self.complete(serial, result, effects);
    }

    /// The device has been through a submit that has no fence of its own.
    fn executed(&mut self, now: Time, serial: Serial, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        if result.is_err() || self.life != Life::Live {
            return self.complete(serial, result, effects);
        }
        if self.timeline.is_settled(serial) {
            // The fence behind it was quicker: it needs another.
            self.lack_fence(now, serial, 0);
        }
        let before = self.timeline.reached();
        self.timeline.execute(serial);
        self.tell(before, effects);
    }

    /// What was executed up to here has taken effect.
    pub(crate) fn settle(&mut self, through: Serial, effects: &mut Vec<Effect>) {
        let before = self.timeline.reached();
        self.timeline.settle(through);
        self.tell(before, effects);
    }

    fn tell(&self, before: Reached, effects: &mut Vec<Effect>) {
        let reached = self.timeline.reached();
        if before != reached {
            effects.push(Effect::Scheme(ContextNotice::Reached(reached)));
        }
    }

    pub(crate) fn lose(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.life = Life::Lost;
        self.end_replay();
        self.unfenced = None;
        effects.push(Effect::Scheme(ContextNotice::Lost));
        // No fence is going to tell of what was executed.
        self.settle(Serial(u64::MAX), effects);
        // It waits for no replay any more.
        self.proceed(now, effects);
    }

    /// What is held will never run; what the device has, it finishes before it destroys the context, and it is
    /// reported until then.
    fn close(&mut self, effects: &mut Vec<Effect>) {
        if self.life == Life::Closing {
            // A scheme that died when it said so says it once more.
            return;
        }
        self.end_replay();
        for work in std::mem::take(&mut self.waiting) {
            match work {
                Work::Submit(Submit { serial, .. })
                | Work::Transfer(Transfer { serial, .. })
                | Work::Skip(serial) => {
                    self.complete(serial, Err(Errno::ECANCELED), effects);
                }
                Work::Detach(resource) => effects.push(Effect::Scheme(ContextNotice::Detached { resource })),
                Work::Attach(..) => {}
            }
        }
        if self.life == Life::New || self.left {
            effects.push(Effect::Finish);
        } else if !self.leaving {
            effects.push(Effect::Control(ContextCommand::Destroy));
        }
        self.life = Life::Closing;
        effects.push(Effect::Scheme(ContextNotice::Ended));
    }
}
