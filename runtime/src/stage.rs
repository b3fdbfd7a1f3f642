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
use crate::queue::{Queue, Taken};
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
    ready: Queue<SlotId>,
    arrivals: Sender<Arrival>,
    departures: Sender<SlotId>,
    /// Whether there are arrivals or departures that the stage has not looked at.
    changed: AtomicBool,
    asleep: AtomicBool,
    next: AtomicU64,
    waker: Arc<dyn Wake>,
    pub(crate) faults: Arc<Faults>,
    /// Which thread's turn it is, counted; more than one only where a thread was abandoned.
    pub(crate) tenure: AtomicU64,
    /// Steps so far.
    pub(crate) steps: AtomicU64,
}

impl StageShared {
    pub(crate) fn schedule(&self, slot: SlotId) {
        // The stage is gone at shutdown; then nobody is left to run.
        self.ready.put(slot);
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
    pub(crate) shared: Arc<StageShared>,
    ready: Taken<SlotId>,
    arrivals: Receiver<Arrival>,
    departures: Receiver<SlotId>,
    slots: HashMap<SlotId, Slot>,
    settlers: Vec<SlotId>,
    deadlines: BTreeSet<(Time, SlotId)>,
    casualties: Vec<Casualty>,
    /// An actor that does not return, where that is only played.
    hung: Option<SlotId>,
    /// Whose step is under way.
    running: Option<SlotId>,
    /// Whether anything ran in this run.
    ran: bool,
    /// The next of the actors that settle, while they do.
    settling: Option<usize>,
    /// How often they have settled in this run.
    settled: usize,
}

struct Slot {
    name: &'static str,
    /// Not here while its step is under way.
    cell: Option<Box<dyn Run>>,
    revoke: Box<dyn Fn() + Send>,
    deadline: Option<Time>,
    restarts: Option<Restarts>,
}

impl Stage {
    /// A stage whose thread `waker` wakes.
    pub fn new(waker: Arc<dyn Wake>) -> Self {
        let (arrivals_sender, arrivals) = unbounded();
        let (departures_sender, departures) = unbounded();
        let shared = StageShared {
            ready: Queue::default(),
            arrivals: arrivals_sender,
            departures: departures_sender,
            changed: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            next: AtomicU64::new(1),
            waker,
            faults: Arc::new(Faults::new()),
            tenure: AtomicU64::new(0),
            steps: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
            ready: Taken::default(),
            arrivals,
            departures,
            slots: HashMap::default(),
            settlers: Vec::new(),
            deadlines: BTreeSet::new(),
            casualties: Vec::new(),
            hung: None,
            running: None,
            ran: false,
            settling: None,
            settled: 0,
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
    /// anything ran. An actor that has more to do each time that it settles does not keep the caller: after a few rounds
    /// the rest waits for the next run, so that descriptors and the clock are looked at in between.
    pub fn run(&mut self, now: Time) -> bool {
        let faults = Arc::clone(&self.shared.faults);
        loop {
            match self.next(now) {
                Next::Over(ran) => return ran,
                Next::Step(job) => {
                    let mut job = Some(job);
                    while let Some(asked) = job.take() {
                        let (done, outcome) = asked.act(now, &faults);
                        job = self.done(now, done, outcome);
                    }
                }
            }
        }
    }

    /// What is to be done next, with the actor that is to do it, or that there is nothing more.
    pub(crate) fn next(&mut self, now: Time) -> Next {
        loop {
            self.change();
            if self.hung.is_some() {
                return self.over(true);
            }
            if let Some(index) = self.settling {
                if let Some(slot) = self.settlers.get(index).copied() {
                    self.settling = Some(index + 1);
                    if let Some(job) = self.take_out(slot, Act::Settle) {
                        return Next::Step(job);
                    }
                    continue;
                }
                self.settling = None;
                self.settlers.retain(|slot| self.slots.contains_key(slot));
                self.settled += 1;
                if self.ready.is_empty(&self.shared.ready) || self.settled >= ROUNDS {
                    return self.over(true);
                }
            }
            let due = self.deadlines.first().copied().filter(|(time, _)| *time <= now);
            let (slot, act) = if let Some((_, slot)) = due {
                self.deadlines.pop_first();
                if let Some(slot) = self.slots.get_mut(&slot) {
                    slot.deadline = None;
                }
                (slot, Act::Wake)
            } else if let Some(slot) = self.ready.next(&self.shared.ready) {
                // It may have come in with this very message.
                self.change();
                (slot, Act::Run)
            } else if self.ran {
                self.settling = Some(0);
                continue;
            } else {
                return self.over(false);
            };
            if let Some(job) = self.take_out(slot, act) {
                self.ran = true;
                return Next::Step(job);
            }
        }
    }

    fn over(&mut self, ran: bool) -> Next {
        (self.ran, self.settling, self.settled) = (false, None, 0);
        Next::Over(ran)
    }

    fn take_out(&mut self, id: SlotId, act: Act) -> Option<Job> {
        let slot = self.slots.get_mut(&id)?;
        let cell = slot.cell.take()?;
        self.running = Some(id);
        Some(Job { id, name: slot.name, cell, act })
    }

    /// Whether there is something to do: a message waits, or a deadline has come.
    pub fn has_work(&self, now: Time) -> bool {
        !self.ready.is_empty(&self.shared.ready) || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Announces that the thread is about to sleep. If it says no, messages came meanwhile: run again.
    pub fn may_sleep(&self) -> bool {
        self.shared.asleep.store(true, Ordering::SeqCst);
        if self.ready.is_empty(&self.shared.ready) && self.arrivals.is_empty() {
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

    /// Somebody has found out that an actor hangs: what it has is lost, as it is in the hands of a thread that does not come
    /// back. One that was to be started anew cannot be.
    pub fn end_hung(&mut self) {
        if let Some(slot) = self.hung.take() {
            self.lose(slot, "injected: it did not return from a step");
        }
    }

    /// The actor whose step is under way is given up with the thread that runs it. Says whether there is one.
    pub(crate) fn abandon(&mut self) -> bool {
        let Some(slot) = self.running.take() else { return false };
        self.lose(slot, "it did not return from a step");
        true
    }

    /// An actor is in the hands of a thread that does not come back.
    fn lose(&mut self, id: SlotId, why: &str) {
        let Some(slot) = self.slots.get(&id) else { return };
        (slot.revoke)();
        let death = if slot.restarts.is_some() { Death::Escalated } else { Death::Ended };
        self.casualties.push(Casualty { slot: id, name: slot.name, fault: Fault::new(why), death });
        self.stop(id);
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
            let revoke = cell.revoke();
            self.slots.insert(slot, Slot { name, cell: Some(cell), revoke, deadline: None, restarts });
        }
        while let Ok(slot) = self.departures.try_recv() {
            self.stop(slot);
        }
    }

    /// Takes an actor back after its step. Gives what it has to do at once.
    pub(crate) fn done(&mut self, now: Time, mut job: Job, outcome: Outcome) -> Option<Job> {
        self.running = None;
        let id = job.id;
        match outcome {
            Outcome::Done => {}
            Outcome::Hung => self.hung = Some(id),
            Outcome::Died(fault) => {
                // What a step that did not end had sent is not sent.
                drop(outbox::take());
                job.act = match job.act {
                    Act::Restart(first) => {
                        self.bury(id, failed_restart(first, &fault), Death::Escalated);
                        return None;
                    }
                    _ => self.admit_restart(now, id, fault)?,
                };
                self.running = Some(id);
                return Some(job);
            }
        }
        let slot = self.slots.get_mut(&id)?;
        slot.cell = Some(job.cell);
        self.plan(now, id);
        if let Act::Restart(fault) = job.act {
            // What waits behind the message that it died of.
            self.shared.schedule(id);
            self.casualties.push(Casualty { slot: id, name: job.name, fault, death: Death::Restarted });
        }
        None
    }

    /// An actor died: says that it is to be started anew, if it is one that is, and may be.
    fn admit_restart(&mut self, now: Time, id: SlotId, fault: Fault) -> Option<Act> {
        let slot = self.slots.get_mut(&id)?;
        let Some(restarts) = &mut slot.restarts else {
            self.bury(id, fault, Death::Ended);
            return None;
        };
        if restarts.admit(now) {
            return Some(Act::Restart(fault));
        }
        let Intensity { restarts, period } = restarts.intensity();
        let what = format!("more than {restarts} times within {period:?}; at last: {}", fault.what);
        self.bury(id, Fault::new(what), Death::Escalated);
        None
    }

    fn bury(&mut self, id: SlotId, fault: Fault, death: Death) {
        let Some(name) = self.slots.get(&id).map(|slot| slot.name) else { return };
        self.stop(id);
        self.casualties.push(Casualty { slot: id, name, fault, death });
    }

    /// Notes when an actor wants to be woken.
    fn plan(&mut self, now: Time, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        // An actor that names a moment already past is still woken, but not in an endless loop.
        let soonest = Time(now.0.saturating_add(1));
        let deadline = slot.cell.as_ref().and_then(|cell| cell.deadline()).map(|it| it.max(soonest));
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
}

/// What a stage is to do next.
pub(crate) enum Next {
    Step(Job),
    /// Nothing; and whether anything ran.
    Over(bool),
}

/// What an actor is to do.
enum Act {
    Run,
    Wake,
    Settle,
    /// Start anew, having died of this.
    Restart(Fault),
}

/// An actor taken out of its stage for a step.
pub(crate) struct Job {
    id: SlotId,
    name: &'static str,
    cell: Box<dyn Run>,
    act: Act,
}

/// What became of a step.
pub(crate) enum Outcome {
    Done,
    Died(Fault),
    /// It plays at not returning.
    Hung,
}

impl Job {
    /// Does the step; a fault or a panic costs that actor alone.
    pub(crate) fn act(mut self, now: Time, faults: &Faults) -> (Self, Outcome) {
        let round = Round { now, name: self.name, faults };
        let (cell, act) = (&mut self.cell, &self.act);
        // What a panic leaves of the cell is dropped, or made good by its restart, before anybody else sees it.
        let outcome = catch_unwind(AssertUnwindSafe(|| match act {
            Act::Run => cell.run(round),
            Act::Wake => cell.wake(round),
            Act::Settle => cell.settle(),
            Act::Restart(_) => cell.restart(now),
        }));
        let outcome = match outcome {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(fault)) => Outcome::Died(fault),
            Err(panic) if panic.is::<Hung>() => Outcome::Hung,
            Err(panic) => Outcome::Died(Fault::new(panic_text(panic.as_ref()))),
        };
        (self, outcome)
    }
}

/// An actor died, and its restart failed.
fn failed_restart(mut first: Fault, then: &Fault) -> Fault {
    let how = if then.what.starts_with(PANICKED) {
        "when it was started anew it"
    } else {
        "it cannot be started anew:"
    };
    first.what = format!("{}; {how} {}", first.what, then.what);
    first
}

/// How often actors settle in one run: enough that looking at descriptors in between costs next to nothing.
const ROUNDS: usize = 8;

/// What the faults of panics begin with.
const PANICKED: &str = "panicked: ";

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("{PANICKED}{}", text.unwrap_or("no message"))
}
