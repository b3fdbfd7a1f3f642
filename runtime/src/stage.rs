//! Stages: the threads that run actors.
//!
//! A message between two actors of one stage costs no thread switch and no system call; a message to another
//! stage wakes its thread if that sleeps. Which actors share a stage is decided at wiring.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use foldhash::HashMap;

use crate::actor::{Actor, Fault, Restart, Time};
use crate::cell::{Cell, Hung, Round, Run};
use crate::fault::{Faults, Injector};
use crate::mailbox::Mailbox;
use crate::outbox;
use crate::queue::{Queue, Taken};
use crate::supervise::Intensity;
use crate::tree::{Lifetime, Strategy, SupervisorId, SupervisorReport, Tree, Verdict};

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
    /// Who is started anew with whom. Looked at when actors come, go and die.
    tree: Mutex<Tree<SlotId>>,
}

impl StageShared {
    pub(crate) fn schedule(&self, slot: SlotId) {
        // The stage is gone at shutdown; then nobody is left to run.
        self.ready.put(slot);
        if self.asleep.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    fn tree(&self) -> MutexGuard<'_, Tree<SlotId>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An actor on its way to its stage.
struct Arrival {
    slot: SlotId,
    name: &'static str,
    cell: Box<dyn Run>,
    another: Option<Another>,
}

/// Makes another of an actor that does not come back.
type Another = Box<dyn FnMut() -> Box<dyn Run> + Send>;

/// The authority to start actors on a stage. The stage gives it, and who has it passes it on by [`Spawner::grant`].
///
/// ```compile_fail,E0451
/// # use virgld_runtime::Spawner;
/// # fn forge() -> Spawner {
/// Spawner { shared: panic!(), under: None }
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::Spawner;
/// fn must_copy<T: Clone>() {}
/// fn copy() { must_copy::<Spawner>() }
/// ```
///
/// Nobody says where an actor runs but by its mailbox.
///
/// ```compile_fail,E0423
/// # use virgld_runtime::{SlotId, Spawner};
/// fn end_another(spawner: &Spawner) { spawner.stop(SlotId(1)) }
/// ```
pub struct Spawner {
    shared: Arc<StageShared>,
    /// Whose children they are. Nobody's, if there is none: whoever runs the stage hears of their deaths.
    under: Option<SupervisorId>,
}

/// The authority to start actors that are started anew when they die ([`Actor::restart`]), as the children of one supervisor.
pub struct Supervisor {
    shared: Arc<StageShared>,
    id: SupervisorId,
}

impl Spawner {
    /// A mailbox for an actor to come: capabilities to it can be made and used before it runs.
    pub fn mailbox<M: Send + 'static>(&self) -> Mailbox<M> {
        // Relaxed: only uniqueness matters. Incarnations share the numbering, so no epoch ever comes twice.
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        Mailbox::new(self.shared.clone(), SlotId(number), number)
    }

    /// Starts `actor` behind `mailbox`. It must be this spawner's. It is never started anew.
    pub fn start<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
    ) -> SlotId {
        if let Some(under) = self.under {
            self.shared.tree().worker(under, mailbox.slot(), name, Lifetime::Temporary);
        }
        self.shared.admit(name, mailbox, actor, false, None)
    }

    /// The highest supervisor of a tree. When it gives up, whoever runs the stage must decide.
    pub fn supervisor(&self, name: &'static str, strategy: Strategy, intensity: Intensity) -> Supervisor {
        let id = self.shared.tree().supervisor(self.under, name, strategy, intensity);
        Supervisor { shared: self.shared.clone(), id }
    }

    /// What supervisors there are, and what they have done; those above before those below.
    pub fn supervisors(&self) -> Vec<SupervisorReport> {
        self.shared.tree().report()
    }

    /// The authority to make things go wrong on this stage.
    pub fn injector(&self) -> Injector {
        Injector::new(Arc::clone(&self.shared.faults))
    }

    /// Ends an actor, after the message that it may be handling now.
    pub fn stop(&self, slot: SlotId) {
        let _ = self.shared.departures.send(slot);
        self.shared.changed.store(true, Ordering::Release);
        self.shared.schedule(slot);
    }

    /// An equal authority to pass on.
    pub fn grant(&self) -> Self {
        Self { shared: self.shared.clone(), under: self.under }
    }
}

impl Supervisor {
    /// Starts an actor as its last child. The mailbox and the capabilities to it outlive its deaths; of what waits there
    /// only the message that it died of while handling it is lost.
    pub fn start<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
    ) -> SlotId {
        self.shared.tree().worker(self.id, mailbox.slot(), name, Lifetime::Permanent);
        self.shared.admit(name, mailbox, actor, true, None)
    }

    /// Starts an actor that can be made from nothing, because others know all that it must know. Where it does not return
    /// from a step another takes its place, with its mailbox.
    pub fn start_by<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        mut make: impl FnMut() -> A + Send + 'static,
    ) -> SlotId {
        self.shared.tree().worker(self.id, mailbox.slot(), name, Lifetime::Permanent);
        let (actor, succession) = (make(), mailbox.succession());
        let another: Another = Box::new(move || Box::new(Cell::new(make(), succession.succeed(), true)));
        self.shared.admit(name, mailbox, actor, true, Some(another))
    }

    /// Another supervisor, as its last child. When that gives up it is begun anew, with all that is below it.
    pub fn supervisor(&self, name: &'static str, strategy: Strategy, intensity: Intensity) -> Self {
        let id = self.shared.tree().supervisor(Some(self.id), name, strategy, intensity);
        Self { shared: self.shared.clone(), id }
    }

    /// The authority to start children of it that are never started anew.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: self.shared.clone(), under: Some(self.id) }
    }
}

impl StageShared {
    fn admit<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
        lasting: bool,
        another: Option<Another>,
    ) -> SlotId {
        let slot = mailbox.slot();
        let cell = Box::new(Cell::new(actor, mailbox, lasting));
        let _ = self.arrivals.send(Arrival { slot, name, cell, another });
        self.changed.store(true, Ordering::Release);
        // What was sent before it ran must be looked at.
        self.schedule(slot);
        slot
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
    /// Who was started anew with it, because that builds on it.
    pub with: Vec<&'static str>,
}

/// What becomes of an actor that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It was started anew.
    Restarted,
    /// It is gone, and was to be.
    Ended,
    /// It was to be started anew, but its supervisors have given up, or it could not be: whoever is above must decide.
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
    /// Who is to be started anew, in this order, before anybody acts: until then they count as stopped.
    restarts: VecDeque<(SlotId, Revival)>,
    /// An actor that does not return, where that is only played.
    hung: Option<SlotId>,
    /// Whose step is under way.
    running: Option<SlotId>,
    /// When it began.
    now: Time,
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
    /// What takes its place where it does not come back, if anything can.
    another: Option<Another>,
    deadline: Option<Time>,
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
            tree: Mutex::new(Tree::new()),
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
            restarts: VecDeque::new(),
            hung: None,
            running: None,
            now: Time(0),
            ran: false,
            settling: None,
            settled: 0,
        }
    }

    /// The authority to start actors here.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: self.shared.clone(), under: None }
    }

    /// Ends an actor: its mailbox closes, every capability to it is dead.
    pub fn stop(&mut self, slot: SlotId) {
        self.shared.tree().forget(slot);
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
                    let (done, outcome) = job.act(now, &faults);
                    self.done(now, done, outcome);
                }
            }
        }
    }

    /// What is to be done next, with the actor that is to do it, or that there is nothing more.
    pub(crate) fn next(&mut self, now: Time) -> Next {
        self.now = now;
        loop {
            self.change();
            if self.hung.is_some() {
                return self.over(true);
            }
            if let Some((slot, revival)) = self.restarts.pop_front() {
                if let Some(job) = self.take_out(slot, Act::Restart(revival)) {
                    return Next::Step(job);
                }
                continue;
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
    /// back. One that was to be started anew cannot be, unless it can be made from nothing.
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
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let Some(another) = &mut slot.another {
            slot.cell = Some(another());
            return self.died(self.now, id, Fault::new(why), Act::Run, true);
        }
        (slot.revoke)();
        let death = if self.shared.tree().is_permanent(id) { Death::Escalated } else { Death::Ended };
        self.bury(id, Fault::new(why), death);
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
        while let Ok(Arrival { slot, name, cell, another }) = self.arrivals.try_recv() {
            if cell.settles() {
                self.settlers.push(slot);
            }
            let revoke = cell.revoke();
            self.slots.insert(slot, Slot { name, cell: Some(cell), revoke, another, deadline: None });
        }
        while let Ok(slot) = self.departures.try_recv() {
            self.stop(slot);
        }
    }

    /// Takes an actor back after its step.
    pub(crate) fn done(&mut self, now: Time, mut job: Job, outcome: Outcome) {
        self.running = None;
        if let Outcome::Died(_) = outcome {
            // What a step that did not end had sent is not sent.
            drop(outbox::take());
        }
        let broke_off = job.cell.broke_off();
        // Whoever stopped it meanwhile has seen to the rest.
        let Some(slot) = self.slots.get_mut(&job.id) else { return };
        slot.cell = Some(job.cell);
        match (outcome, job.act) {
            (Outcome::Done, Act::Restart(revival)) => {
                self.plan(now, job.id);
                // What waits behind the message that it died of.
                self.shared.schedule(job.id);
                self.revived(job.id, revival);
            }
            (Outcome::Done, _) => self.plan(now, job.id),
            (Outcome::Hung, _) => self.hung = Some(job.id),
            (Outcome::Died(fault), act) => self.died(now, job.id, fault, act, broke_off),
        }
    }

    /// An actor died of a fault, perhaps when it was started anew.
    fn died(&mut self, now: Time, id: SlotId, fault: Fault, act: Act, broke_off: bool) {
        let verdict = self.shared.tree().died(now, id);
        let first = if let Act::Restart(Revival { fault, .. }) = act { fault } else { None };
        match verdict {
            Verdict::Gone => self.bury(id, fault, Death::Ended),
            Verdict::Restart { stop, start, escalated } => {
                for slot in stop.iter().filter(|slot| !start.contains(slot)) {
                    self.bury(*slot, Fault::new("its supervisor begins anew"), Death::Ended);
                }
                let doubt = broke_off || escalated;
                let others = start.iter().filter(|slot| **slot != id).filter_map(|slot| self.slots.get(slot));
                let mut cause = Some((first.unwrap_or(fault), others.map(|it| it.name).collect()));
                // Those that are to be started anew already, and not with this one, come after it.
                let rest = std::mem::take(&mut self.restarts);
                self.restarts.extend(start.iter().map(|slot| {
                    let (fault, with) = cause.take_if(|_| *slot == id).unzip();
                    (*slot, Revival { fault, with: with.unwrap_or_default(), doubt })
                }));
                self.restarts.extend(rest.into_iter().filter(|(slot, _)| !start.contains(slot)));
            }
            Verdict::End { stop, limits } => {
                let last = match first {
                    Some(first) => failed_restart(first, &fault),
                    None => fault,
                };
                self.bury(id, Fault::new(format!("{limits}; at last: {last}")), Death::Escalated);
                self.restarts.clear();
                stop.into_iter().for_each(|slot| self.stop(slot));
            }
        }
    }

    /// An actor was started anew. It is a casualty if it is the one that died.
    fn revived(&mut self, id: SlotId, revival: Revival) {
        let Some(name) = self.slots.get(&id).map(|slot| slot.name) else { return };
        let Revival { fault, with, .. } = revival;
        self.casualties.extend(fault.map(|fault| Casualty {
            slot: id,
            name,
            fault,
            death: Death::Restarted,
            with,
        }));
    }

    fn bury(&mut self, id: SlotId, fault: Fault, death: Death) {
        let Some(name) = self.slots.get(&id).map(|slot| slot.name) else { return };
        self.stop(id);
        self.casualties.push(Casualty { slot: id, name, fault, death, with: Vec::new() });
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
    Restart(Revival),
}

/// A start anew.
struct Revival {
    /// What it died of, if it is the one that died.
    fault: Option<Fault>,
    /// Who is started anew with it then.
    with: Vec<&'static str>,
    doubt: bool,
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
            Act::Restart(Revival { doubt, .. }) => cell.restart(Restart { now, doubt: *doubt }),
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
