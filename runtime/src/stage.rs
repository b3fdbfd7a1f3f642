//! Stages: the threads that run actors.
//!
//! A message between two actors of one stage costs no thread switch and no system call; a message to another
//! stage wakes its thread if that sleeps. Which actors share a stage is decided at wiring.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::actor::{Actor, Fault, Time, Turn};
use crate::mailbox::Mailbox;

/// Which actor of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u64);

/// Ends the sleep of a stage's thread.
pub trait Wake: Send + Sync {
    /// Called from any thread.
    fn wake(&self);
}

/// What other threads see of a stage.
pub(crate) struct StageShared {
    ready: Sender<SlotId>,
    arrivals: Sender<Arrival>,
    departures: Sender<SlotId>,
    asleep: AtomicBool,
    next: AtomicU64,
    waker: Arc<dyn Wake>,
}

impl StageShared {
    pub(crate) fn schedule(&self, slot: SlotId) {
        // The stage is gone at shutdown; then nobody is left to run.
        let _ = self.ready.send(slot);
        if self.asleep.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// An actor on its way to its stage.
struct Arrival {
    slot: SlotId,
    name: &'static str,
    cell: Box<dyn Run>,
}

/// The authority to start actors on a stage.
pub struct Spawner {
    shared: Arc<StageShared>,
}

impl Spawner {
    /// A mailbox for an actor to come: capabilities to it can be made and used before it runs.
    pub fn mailbox<M: Send + 'static>(&self) -> Mailbox<M> {
        // Relaxed: only uniqueness matters. Incarnations share the numbering, so no epoch ever comes twice.
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        Mailbox::new(self.shared.clone(), SlotId(number), number)
    }

    /// Starts `actor` behind `mailbox`. It must be this spawner's.
    pub fn start<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
    ) -> SlotId {
        let slot = mailbox.slot();
        let _ = self.shared.arrivals.send(Arrival { slot, name, cell: Box::new(Cell { actor, mailbox }) });
        // What was sent before it ran must be looked at.
        self.shared.schedule(slot);
        slot
    }

    /// Ends an actor, after the message that it may be handling now.
    pub fn stop(&self, slot: SlotId) {
        let _ = self.shared.departures.send(slot);
        self.shared.schedule(slot);
    }

    /// An equal authority to pass on.
    pub fn grant(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// An actor that died, and why.
#[derive(Debug)]
pub struct Casualty {
    /// Which slot it ran in.
    pub slot: SlotId,
    /// Its name.
    pub name: &'static str,
    /// What it said, or what its panic said.
    pub fault: Fault,
}

/// One thread's actors.
pub struct Stage {
    shared: Arc<StageShared>,
    ready: Receiver<SlotId>,
    arrivals: Receiver<Arrival>,
    departures: Receiver<SlotId>,
    slots: HashMap<SlotId, Slot>,
    settlers: Vec<SlotId>,
    deadlines: BTreeSet<(Time, SlotId)>,
    casualties: Vec<Casualty>,
}

struct Slot {
    name: &'static str,
    cell: Box<dyn Run>,
    deadline: Option<Time>,
}

/// What the stage can do with an actor whose message type it does not know.
trait Run: Send {
    fn run(&mut self, now: Time) -> Result<(), Fault>;
    fn wake(&mut self, now: Time) -> Result<(), Fault>;
    fn settle(&mut self) -> Result<(), Fault>;
    fn deadline(&self) -> Option<Time>;
    fn settles(&self) -> bool;
}

struct Cell<A: Actor> {
    actor: A,
    mailbox: Mailbox<A::Message>,
}

impl<A: Actor> Run for Cell<A> {
    fn run(&mut self, now: Time) -> Result<(), Fault> {
        self.mailbox.begin();
        while let Some(envelope) = self.mailbox.take() {
            self.actor.handle(Turn { now, badge: envelope.badge }, envelope.message)?;
        }
        Ok(())
    }

    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        self.actor.wake(now)
    }

    fn settle(&mut self) -> Result<(), Fault> {
        self.actor.settle()
    }

    fn deadline(&self) -> Option<Time> {
        self.actor.deadline()
    }

    fn settles(&self) -> bool {
        A::SETTLES
    }
}

impl Stage {
    /// A stage whose thread `waker` wakes.
    pub fn new(waker: Arc<dyn Wake>) -> Self {
        let (ready_sender, ready) = unbounded();
        let (arrivals_sender, arrivals) = unbounded();
        let (departures_sender, departures) = unbounded();
        let shared = StageShared {
            ready: ready_sender,
            arrivals: arrivals_sender,
            departures: departures_sender,
            asleep: AtomicBool::new(false),
            next: AtomicU64::new(1),
            waker,
        };
        Self {
            shared: Arc::new(shared),
            ready,
            arrivals,
            departures,
            slots: HashMap::new(),
            settlers: Vec::new(),
            deadlines: BTreeSet::new(),
            casualties: Vec::new(),
        }
    }

    /// The authority to start actors here.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: self.shared.clone() }
    }

    /// Ends an actor: its mailbox closes, every capability to it is dead.
    pub fn stop(&mut self, slot: SlotId) {
        if let Some(deadline) = self.slots.remove(&slot).and_then(|slot| slot.deadline) {
            self.deadlines.remove(&(deadline, slot));
        }
    }

    /// Runs until no message waits and no deadline has passed, then lets every actor settle. Says whether
    /// anything ran.
    pub fn run(&mut self, now: Time) -> bool {
        let mut ran = false;
        loop {
            self.admit();
            let mut any = self.wake_due(now);
            while let Ok(slot) = self.ready.try_recv() {
                self.admit();
                any |= self.step(now, slot, |cell| cell.run(now));
                self.dismiss();
            }
            if any {
                ran = true;
                continue;
            }
            if !ran {
                return false;
            }
            self.settle(now);
            if self.ready.is_empty() {
                return true;
            }
        }
    }

    /// Announces that the thread is about to sleep. If it says no, messages came meanwhile: run again.
    pub fn may_sleep(&self) -> bool {
        self.shared.asleep.store(true, Ordering::SeqCst);
        if self.ready.is_empty() && self.arrivals.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// The thread is awake again: senders need not wake it.
    pub fn awake(&self) {
        self.shared.asleep.store(false, Ordering::Release);
    }

    /// The next moment at which an actor wants to be woken.
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// Actors that died since the last call.
    pub fn casualties(&mut self) -> Vec<Casualty> {
        std::mem::take(&mut self.casualties)
    }

    fn admit(&mut self) {
        while let Ok(Arrival { slot, name, cell }) = self.arrivals.try_recv() {
            if cell.settles() {
                self.settlers.push(slot);
            }
            self.slots.insert(slot, Slot { name, cell, deadline: None });
        }
    }

    fn dismiss(&mut self) {
        while let Ok(slot) = self.departures.try_recv() {
            self.stop(slot);
        }
    }

    fn wake_due(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some((time, slot)) = self.deadlines.first().copied()
            && time <= now
        {
            self.deadlines.pop_first();
            if let Some(slot) = self.slots.get_mut(&slot) {
                slot.deadline = None;
            }
            any |= self.step(now, slot, |cell| cell.wake(now));
        }
        any
    }

    fn settle(&mut self, now: Time) {
        for index in 0..self.settlers.len() {
            self.step(now, self.settlers[index], |cell| cell.settle());
        }
        self.settlers.retain(|slot| self.slots.contains_key(slot));
    }

    /// Lets one actor act; a fault or a panic costs that actor alone.
    fn step(&mut self, now: Time, id: SlotId, act: impl FnOnce(&mut dyn Run) -> Result<(), Fault>) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        // The cell is dropped after a panic, so nobody sees the state it left.
        let outcome = catch_unwind(AssertUnwindSafe(|| act(slot.cell.as_mut())))
            .unwrap_or_else(|panic| Err(Fault::new(panic_text(panic.as_ref()))));
        match outcome {
            Ok(()) => {
                // An actor that names a moment already past is still woken, but not in an endless loop.
                let soonest = Time(now.0.saturating_add(1));
                let deadline = slot.cell.deadline().map(|deadline| deadline.max(soonest));
                if deadline != slot.deadline {
                    if let Some(old) = slot.deadline {
                        self.deadlines.remove(&(old, id));
                    }
                    if let Some(new) = deadline {
                        self.deadlines.insert((new, id));
                    }
                    slot.deadline = deadline;
                }
            }
            Err(fault) => {
                let name = slot.name;
                self.stop(id);
                self.casualties.push(Casualty { slot: id, name, fault });
            }
        }
        true
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
