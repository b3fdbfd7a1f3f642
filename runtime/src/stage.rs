//! Stages: the threads that run actors.
//!
//! A message between two actors of one stage costs no thread switch and no system call; a message to another
//! stage wakes its thread if that sleeps. Which actors share a stage is decided at wiring.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use foldhash::HashMap;

use crate::actor::{Actor, Fault, Time};
use crate::cell::{Cell, Hung, Round, Run};
use crate::fault::{Faults, Injector};
use crate::mailbox::Mailbox;
use crate::outbox;
use crate::supervise::{Intensity, Restarts};

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
    /// Whether there are arrivals or departures that the stage has not looked at.
    changed: AtomicBool,
    asleep: AtomicBool,
    next: AtomicU64,
    waker: Arc<dyn Wake>,
    pub(crate) faults: Arc<Faults>,
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
    restarts: Option<Restarts>,
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
        self.admit(name, mailbox, actor, None)
    }

    /// Starts an actor that is started anew when it dies ([`Actor::restart`]), so often and no oftener. Its mailbox and
    /// the capabilities to it outlive its deaths; of what waits there only the message that it died of while handling it
    /// is lost.
    pub fn supervise<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
        intensity: Intensity,
    ) -> SlotId {
        self.admit(name, mailbox, actor, Some(Restarts::new(intensity)))
    }

    /// The authority to make things go wrong on this stage.
    pub fn injector(&self) -> Injector {
        Injector::new(Arc::clone(&self.shared.faults))
    }

    fn admit<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
        restarts: Option<Restarts>,
    ) -> SlotId {
        let slot = mailbox.slot();
        let cell = Box::new(Cell::new(actor, mailbox, restarts.is_some()));
        let _ = self.shared.arrivals.send(Arrival { slot, name, cell, restarts });
        self.shared.changed.store(true, Ordering::Release);
        // What was sent before it ran must be looked at.
        self.shared.schedule(slot);
        slot
    }

    /// Ends an actor, after the message that it may be handling now.
    pub fn stop(&self, slot: SlotId) {
        let _ = self.shared.departures.send(slot);
        self.shared.changed.store(true, Ordering::Release);
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
    /// What became of it.
    pub death: Death,
}

/// What becomes of an actor that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It was started anew.
    Restarted,
    /// It is gone, and was to be.
    Ended,
    /// It was to be started anew, but had been too often, or could not be: whoever is above must decide.
    Escalated,
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
    /// An actor that does not return, where that is only played.
    hung: Option<SlotId>,
}

struct Slot {
    name: &'static str,
    cell: Box<dyn Run>,
    deadline: Option<Time>,
    restarts: Option<Restarts>,
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
            changed: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            next: AtomicU64::new(1),
            waker,
            faults: Arc::new(Faults::new()),
        };
        Self {
            shared: Arc::new(shared),
            ready,
            arrivals,
            departures,
            slots: HashMap::default(),
            settlers: Vec::new(),
            deadlines: BTreeSet::new(),
            casualties: Vec::new(),
            hung: None,
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
            self.change();
            let mut any = self.wake_due(now);
            while self.hung.is_none()
                && let Some(slot) = take(&self.ready)
            {
                self.change();
                any |= self.step(now, slot, |cell, round| cell.run(round));
            }
            self.change();
            if self.hung.is_some() {
                return true;
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

    /// Whether an actor plays at not returning ([`crate::fault::Wrong::Hang`]): then nobody else on this stage acts.
    pub fn is_hung(&self) -> bool {
        self.hung.is_some()
    }

    /// Somebody has found out that an actor hangs: it counts as dead.
    pub fn end_hung(&mut self, now: Time) {
        if let Some(slot) = self.hung.take() {
            self.bury(now, slot, Fault::new("injected: it did not return from a step"));
        }
    }

    /// Actors that died since the last call.
    pub fn casualties(&mut self) -> Vec<Casualty> {
        std::mem::take(&mut self.casualties)
    }

    /// Lets in and out whoever came and whoever is to go.
    fn change(&mut self) {
        // Looked at before every step; set for very few.
        if !self.shared.changed.load(Ordering::Acquire) || !self.shared.changed.swap(false, Ordering::AcqRel)
        {
            return;
        }
        while let Ok(Arrival { slot, name, cell, restarts }) = self.arrivals.try_recv() {
            if cell.settles() {
                self.settlers.push(slot);
            }
            self.slots.insert(slot, Slot { name, cell, deadline: None, restarts });
        }
        while let Ok(slot) = self.departures.try_recv() {
            self.stop(slot);
        }
    }

    fn wake_due(&mut self, now: Time) -> bool {
        let mut any = false;
        while self.hung.is_none()
            && let Some((time, slot)) = self.deadlines.first().copied()
            && time <= now
        {
            self.deadlines.pop_first();
            if let Some(slot) = self.slots.get_mut(&slot) {
                slot.deadline = None;
            }
            any |= self.step(now, slot, |cell, round| cell.wake(round));
        }
        any
    }

    fn settle(&mut self, now: Time) {
        for index in 0..self.settlers.len() {
            self.step(now, self.settlers[index], |cell, _| cell.settle());
        }
        self.settlers.retain(|slot| self.slots.contains_key(slot));
    }

    /// Lets one actor act; a fault or a panic costs that actor alone.
    fn step(
        &mut self,
        now: Time,
        id: SlotId,
        act: impl FnOnce(&mut dyn Run, Round<'_>) -> Result<(), Fault>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        let round = Round { now, name: slot.name, faults: &self.shared.faults };
        // What a panic leaves of the cell is dropped, or made good by its restart, before anybody else sees it.
        let outcome = catch_unwind(AssertUnwindSafe(|| act(slot.cell.as_mut(), round)));
        match outcome {
            Ok(Ok(())) => self.plan(now, id),
            Ok(Err(fault)) => self.bury(now, id, fault),
            Err(panic) if panic.is::<Hung>() => self.hung = Some(id),
            Err(panic) => self.bury(now, id, Fault::new(panic_text(panic.as_ref()))),
        }
        true
    }

    /// Notes when an actor wants to be woken.
    fn plan(&mut self, now: Time, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
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

    /// An actor died: starts it anew, if it is one that is, and may be.
    fn bury(&mut self, now: Time, id: SlotId, mut fault: Fault) {
        // What a step that did not end had sent is not sent.
        drop(outbox::take());
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let name = slot.name;
        let refused = slot.restarts.as_mut().and_then(|it| (!it.admit(now)).then(|| it.intensity()));
        let death = match (&slot.restarts, refused) {
            (None, _) => Death::Ended,
            (_, Some(Intensity { restarts, period })) => {
                fault.what = format!("more than {restarts} times within {period:?}; at last: {}", fault.what);
                Death::Escalated
            }
            (Some(_), None) => match catch_unwind(AssertUnwindSafe(|| slot.cell.restart(now))) {
                Ok(Ok(())) => Death::Restarted,
                Ok(Err(why)) => {
                    fault.what = format!("{}; it cannot be started anew: {why}", fault.what);
                    Death::Escalated
                }
                Err(panic) => {
                    let why = panic_text(panic.as_ref());
                    fault.what = format!("{}; when it was started anew it {why}", fault.what);
                    Death::Escalated
                }
            },
        };
        if death == Death::Restarted {
            self.plan(now, id);
            // What waits behind the message that it died of.
            self.shared.schedule(id);
        } else {
            self.stop(id);
        }
        self.casualties.push(Casualty { slot: id, name, fault, death });
    }
}

/// The next of what waits. Looking costs less than trying to receive where nothing is there, which is what ends
/// every turn.
pub(crate) fn take<T>(receiver: &Receiver<T>) -> Option<T> {
    if receiver.is_empty() { None } else { receiver.try_recv().ok() }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
