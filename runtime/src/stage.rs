//! Stages: the threads that run actors.
//!
//! A message between two actors of one stage costs no thread switch and no system call; a message to another
//! stage wakes its thread if that sleeps. Which actors share a stage is decided at wiring.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use foldhash::HashMap;

use crate::actor::{Fault, Restart, Time};
use crate::cell::{Hung, Round, Run};
use crate::deadlines::Deadlines;
use crate::death::{Casualty, Revival, panic_text};
use crate::fault::Faults;
use crate::outbox;
use crate::queue::Queue;
use crate::spawn::{Another, Arrival, Spawner};
use crate::tree::Tree;

/// Which actor of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub(crate) u64);

/// Ends the sleep of a stage's thread.
pub trait Wake: Send + Sync {
    /// Called from any thread.
    fn wake(&self);
}

/// What other threads see of a stage.
pub(crate) struct StageShared {
    ready: Queue<SlotId>,
    pub(crate) arrivals: Sender<Arrival>,
    pub(crate) departures: Sender<SlotId>,
    /// Whether there are arrivals or departures that the stage has not looked at.
    pub(crate) changed: AtomicBool,
    asleep: AtomicBool,
    pub(crate) next: AtomicU64,
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
        self.ready.put(slot);
        // Whoever is about to sleep says so before it looks at the queue: its lock is what makes sure that either it sees this
        // one or its word is seen here. Only one need wake it.
        if take(&self.asleep) {
            self.waker.wake();
        }
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree<SlotId>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's actors.
pub struct Stage {
    pub(crate) shared: Arc<StageShared>,
    arrivals: Receiver<Arrival>,
    departures: Receiver<SlotId>,
    pub(crate) slots: HashMap<SlotId, Slot>,
    settlers: Vec<SlotId>,
    deadlines: Deadlines,
    pub(crate) casualties: Vec<Casualty>,
    /// Who is to be started anew, in this order, before anybody acts: until then they count as stopped.
    pub(crate) restarts: VecDeque<(SlotId, Revival)>,
    /// An actor that does not return, where that is only played.
    pub(crate) hung: Option<SlotId>,
    /// Whose step is under way.
    pub(crate) running: Option<SlotId>,
    /// When it began.
    pub(crate) now: Time,
    /// Whether anything ran in this run.
    ran: bool,
    /// What the actors that share memory with others do one after the other, while they do, and which is next.
    tour: Option<(Tour, usize)>,
    /// How often they have settled in this run.
    settled: usize,
    /// Whether all of them doze: they want to be told of what comes, and nothing has happened since they said so.
    dozed: bool,
}

pub(crate) struct Slot {
    pub(crate) name: &'static str,
    /// Not here while its step is under way.
    pub(crate) cell: Option<Box<dyn Run>>,
    pub(crate) revoke: Box<dyn Fn() + Send>,
    /// What takes its place where it does not come back, if anything can.
    pub(crate) another: Option<Another>,
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
            arrivals,
            departures,
            slots: HashMap::default(),
            settlers: Vec::new(),
            deadlines: Deadlines::default(),
            casualties: Vec::new(),
            restarts: VecDeque::new(),
            hung: None,
            running: None,
            now: Time(0),
            ran: false,
            tour: None,
            settled: 0,
            dozed: false,
        }
    }

    /// The authority to start actors here.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: self.shared.clone(), under: None }
    }

    /// Ends an actor: its mailbox closes, every capability to it is dead.
    pub fn stop(&mut self, slot: SlotId) {
        self.shared.tree().forget(slot);
        self.slots.remove(&slot);
        self.deadlines.set(slot, None);
    }

    /// Runs until no message waits and no deadline has passed, then lets every actor settle, and doze, since the caller is
    /// about to sleep. Says whether anything ran. An actor that has more to do each time that it settles does not keep the
    /// caller: after a few rounds the rest waits for the next run, so that descriptors and the clock are looked at in
    /// between, and [`Stage::may_sleep`] says no.
    pub fn run(&mut self, now: Time) -> bool {
        let ran = self.run_awake(now);
        for _ in 0..ROUNDS {
            self.begin_to_doze();
            if !self.run_awake(now) {
                break;
            }
        }
        ran
    }

    /// The same for a caller that goes on looking for more to do: nobody dozes.
    fn run_awake(&mut self, now: Time) -> bool {
        let faults = Arc::clone(&self.shared.faults);
        loop {
            match self.next(now) {
                Next::Over(ran) => return ran,
                Next::Tour => {}
                Next::Step(mut job) => {
                    let outcome = job.act(now, &faults);
                    self.done(now, job, outcome);
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
            if let Some((tour, index)) = self.tour {
                if let Some(slot) = self.settlers.get(index).copied() {
                    self.tour = Some((tour, index + 1));
                    if let Some(job) = self.take_out(slot, tour.act()) {
                        return Next::Step(job);
                    }
                    continue;
                }
                self.tour = None;
                if tour == Tour::Settle {
                    self.settlers.retain(|slot| self.slots.contains_key(slot));
                    self.settled += 1;
                    if self.shared.ready.is_empty() || self.settled >= ROUNDS {
                        return self.over(true);
                    }
                }
            }
            let due = self.deadlines.soonest().filter(|(time, _)| *time <= now);
            let (slot, act) = if let Some((_, slot)) = due {
                self.deadlines.set(slot, None);
                (slot, Act::Wake)
            } else if let Some(slot) = self.shared.ready.take() {
                // It may have come in with this very message.
                self.change();
                (slot, Act::Run)
            } else if self.ran {
                self.tour = Some((Tour::Settle, 0));
                return Next::Tour;
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
        // A tour that a hang broke off has not been to all.
        self.dozed &= self.tour.is_none();
        (self.ran, self.tour, self.settled) = (false, None, 0);
        Next::Over(ran)
    }

    fn take_out(&mut self, id: SlotId, act: Act) -> Option<Job> {
        let slot = self.slots.get_mut(&id)?;
        let cell = slot.cell.take()?;
        self.running = Some(id);
        self.dozed &= matches!(act, Act::Doze);
        Some(Job { id, name: slot.name, cell, act })
    }

    /// Whether there is something to do: a message waits, or a deadline has come, or an actor sees something in memory that it
    /// shares with others.
    pub fn has_work(&mut self, now: Time) -> bool {
        !self.shared.ready.is_empty()
            || self.deadline().is_some_and(|deadline| deadline <= now)
            || self.glance()
    }

    /// Whether an actor sees something. It settles then in the next run.
    fn glance(&mut self) -> bool {
        let sees = |slot: &SlotId| {
            self.slots.get(slot).and_then(|slot| slot.cell.as_ref()).is_some_and(|cell| cell.glance())
        };
        let sees = self.hung.is_none() && self.settlers.iter().any(sees);
        self.ran |= sees;
        sees
    }

    /// Whoever shares memory with others dozes next.
    pub(crate) fn begin_to_doze(&mut self) {
        (self.tour, self.dozed) = (Some((Tour::Doze, 0)), true);
    }

    /// Announces that the thread is about to sleep. If it says no, messages came meanwhile, or not everybody dozes: run
    /// again.
    pub fn may_sleep(&self) -> bool {
        if !self.dozed {
            return false;
        }
        self.shared.asleep.store(true, Ordering::SeqCst);
        if self.shared.ready.is_empty() && self.arrivals.is_empty() {
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
        self.deadlines.soonest().map(|(time, _)| time)
    }

    /// Whether an actor plays at not returning ([`crate::fault::Wrong::Hang`]): then nobody else on this stage acts.
    pub fn is_hung(&self) -> bool {
        self.hung.is_some()
    }

    /// Actors that died since the last call.
    pub fn casualties(&mut self) -> Vec<Casualty> {
        std::mem::take(&mut self.casualties)
    }

    /// Lets in and out whoever came and whoever is to go. Asked before every step; of use before very few.
    #[inline]
    fn change(&mut self) {
        if take(&self.shared.changed) {
            self.let_in_and_out();
        }
    }

    #[cold]
    fn let_in_and_out(&mut self) {
        while let Ok(Arrival { slot, name, cell, another }) = self.arrivals.try_recv() {
            if cell.settles() {
                self.settlers.push(slot);
                self.dozed = false;
            }
            let revoke = cell.revoke();
            self.slots.insert(slot, Slot { name, cell: Some(cell), revoke, another });
        }
        while let Ok(slot) = self.departures.try_recv() {
            self.stop(slot);
        }
    }

    /// Takes an actor back after its step.
    pub(crate) fn done(&mut self, now: Time, mut job: Job, outcome: Outcome) {
        self.running = None;
        let mut broke_off = false;
        if let Outcome::Died(_) = outcome {
            // What a step that did not end had sent is not sent.
            drop(outbox::take());
            broke_off = job.cell.broke_off();
        }
        // Whoever stopped it meanwhile has seen to the rest.
        let Some(slot) = self.slots.get_mut(&job.id) else { return };
        slot.cell = Some(job.cell);
        match (outcome, job.act) {
            (Outcome::Done, Act::Restart(revival)) => {
                slot.plan(now, job.id, &mut self.deadlines);
                // What waits behind the message that it died of.
                self.shared.schedule(job.id);
                self.revived(job.id, revival);
            }
            (Outcome::Done, _) => slot.plan(now, job.id, &mut self.deadlines),
            (Outcome::Hung, _) => self.hung = Some(job.id),
            (Outcome::Died(fault), act) => self.died(now, job.id, fault, act, broke_off),
        }
    }
}

impl Slot {
    /// Notes when its actor wants to be woken.
    fn plan(&self, now: Time, id: SlotId, deadlines: &mut Deadlines) {
        // An actor that names a moment already past is still woken, but not in an endless loop.
        let soonest = Time(now.0.saturating_add(1));
        let deadline = self.cell.as_ref().and_then(|cell| cell.deadline()).map(|it| it.max(soonest));
        deadlines.set(id, deadline);
    }
}

/// What a stage is to do next.
pub(crate) enum Next {
    Step(Job),
    /// To look at the clock: whoever settles tells others of what was done, and plans by when that was.
    Tour,
    /// Nothing; and whether anything ran.
    Over(bool),
}

/// What all actors that share memory with others do, one after the other.
#[derive(Clone, Copy, PartialEq)]
enum Tour {
    Settle,
    Doze,
}

impl Tour {
    fn act(self) -> Act {
        match self {
            Self::Settle => Act::Settle,
            Self::Doze => Act::Doze,
        }
    }
}

/// What an actor is to do.
pub(crate) enum Act {
    Run,
    Wake,
    Settle,
    Doze,
    Restart(Revival),
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
    pub(crate) fn act(&mut self, now: Time, faults: &Faults) -> Outcome {
        let round = Round { now, name: self.name, faults };
        let (cell, act) = (&mut self.cell, &self.act);
        // What a panic leaves of the cell is dropped, or made good by its restart, before anybody else sees it.
        let outcome = catch_unwind(AssertUnwindSafe(|| match act {
            Act::Run => cell.run(round),
            Act::Wake => cell.wake(round),
            Act::Settle => cell.settle(now),
            Act::Doze => cell.doze(now),
            Act::Restart(revival) => cell.restart(Restart { now, doubt: revival.doubt }),
        }));
        match outcome {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(fault)) => Outcome::Died(fault),
            Err(panic) if panic.is::<Hung>() => Outcome::Hung,
            Err(panic) => Outcome::Died(Fault::new(panic_text(panic.as_ref()))),
        }
    }
}

/// Whether a flag was up; it is down now. Most are down, and looking at one costs less than exchanging it.
fn take(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Acquire) && flag.swap(false, Ordering::AcqRel)
}

/// How often actors settle in one run: enough that looking at descriptors in between costs next to nothing.
const ROUNDS: usize = 8;
