//! The supervision tree, in OTP's terms: who is started anew with whom when somebody dies, and who must decide when that
//! happens too often.
//!
//! It knows no threads, no actors and no clock: it is told of a death and says what follows. The [`crate::Stage`] carries
//! that out.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use crate::actor::Time;
use crate::supervise::{Intensity, Restarts};

/// Who is started anew when a child died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// That child alone.
    OneForOne,
    /// That child, and those that were started after it: they build on it. They are stopped first, the last of them first.
    RestForOne,
}

/// Which supervisor of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SupervisorId(usize);

/// Whether a child is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Whenever it dies.
    Permanent,
    /// Never, and its death counts for nothing.
    Temporary,
}

/// What follows from a death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict<W> {
    /// Nothing: it was a temporary child, or nobody's.
    Gone,
    /// Some are started anew.
    Restart {
        /// To be stopped before anybody is started, in this order. Without the one that died.
        stop: Vec<W>,
        /// To be started, in this order.
        start: Vec<W>,
        /// Whether a supervisor of the one that died is begun anew itself, with all below it.
        escalated: bool,
    },
    /// It is too much for the highest supervisor: whoever is above must decide.
    End {
        /// To be stopped, in this order. Without the one that died.
        stop: Vec<W>,
        /// Which limits were passed.
        limits: String,
    },
}

/// Supervisors and their children, in the order in which they were started.
#[derive(Debug)]
pub(crate) struct Tree<W> {
    supervisors: Vec<Supervisor<W>>,
    /// Whose child each worker is.
    whose: HashMap<W, SupervisorId>,
}

#[derive(Debug)]
struct Supervisor<W> {
    name: &'static str,
    above: Option<SupervisorId>,
    strategy: Strategy,
    /// Those of late.
    restarts: Restarts,
    /// All of them.
    total: u64,
    children: Vec<Child<W>>,
}

#[derive(Debug)]
enum Child<W> {
    Worker { worker: W, name: &'static str, lifetime: Lifetime, restarts: u64 },
    Supervisor(SupervisorId),
}

impl<W: Copy + Eq + Hash> Tree<W> {
    pub(crate) fn new() -> Self {
        Self { supervisors: Vec::new(), whose: HashMap::new() }
    }

    /// Another supervisor, the last child of the one above it.
    pub(crate) fn supervisor(
        &mut self,
        above: Option<SupervisorId>,
        name: &'static str,
        strategy: Strategy,
        intensity: Intensity,
    ) -> SupervisorId {
        let id = SupervisorId(self.supervisors.len());
        let restarts = Restarts::new(intensity);
        let children = Vec::new();
        self.supervisors.push(Supervisor { name, above, strategy, restarts, total: 0, children });
        if let Some(above) = above {
            self.at(above).children.push(Child::Supervisor(id));
        }
        id
    }

    /// Another worker, the last child of its supervisor.
    pub(crate) fn worker(&mut self, under: SupervisorId, worker: W, name: &'static str, lifetime: Lifetime) {
        self.whose.insert(worker, under);
        self.at(under).children.push(Child::Worker { worker, name, lifetime, restarts: 0 });
    }

    /// A worker has come to its end, and was to.
    pub(crate) fn forget(&mut self, worker: W) {
        if let Some(under) = self.whose.remove(&worker) {
            self.at(under).children.retain(|child| !child.is(worker));
        }
    }

    /// Whether a worker is started anew when it dies.
    pub(crate) fn is_permanent(&self, worker: W) -> bool {
        let children = self.whose.get(&worker).and_then(|under| self.supervisors.get(under.0));
        let mut children = children.into_iter().flat_map(|supervisor| &supervisor.children);
        children.any(|child| child.is(worker) && child.is_permanent())
    }

    /// A worker died of a fault.
    pub(crate) fn died(&mut self, now: Time, worker: W) -> Verdict<W> {
        let Some(mut at) = self.whose.get(&worker).copied().filter(|_| self.is_permanent(worker)) else {
            self.forget(worker);
            return Verdict::Gone;
        };
        let (mut stop, mut limits, mut failed) = (Vec::new(), Vec::new(), Failed::Worker(worker));
        loop {
            let supervisor = self.at(at);
            // PANIC: a worker is its supervisor's child, and so is a supervisor of the one above it.
            let index = supervisor.children.iter().position(|child| failed.is(child)).expect("it is a child");
            if supervisor.restarts.admit(now) {
                supervisor.total += 1;
                let start = self.restart(at, index, &mut stop);
                return Verdict::Restart { stop, start, escalated: !limits.is_empty() };
            }
            // It gives up, and all its children with it.
            let Intensity { restarts, period } = supervisor.restarts.intensity();
            limits.push(format!("more than {restarts} restarts within {period:?} under {}", supervisor.name));
            let (above, all) = (supervisor.above, supervisor.children.len());
            stop.extend(self.workers(at, index + 1..all).into_iter().rev());
            stop.extend(self.workers(at, 0..index).into_iter().rev());
            let Some(above) = above else { return Verdict::End { stop, limits: limits.join(", ") } };
            (failed, at) = (Failed::Supervisor(at), above);
        }
    }

    /// A child of a supervisor failed: adds to those that are to be stopped, and gives those that are to be started.
    fn restart(&mut self, id: SupervisorId, index: usize, stop: &mut Vec<W>) -> Vec<W> {
        let strategy = self.at(id).strategy;
        let end = |tree: &Self| match strategy {
            Strategy::OneForOne => index + 1,
            Strategy::RestForOne => tree.children(id),
        };
        let last = end(self);
        stop.extend(self.workers(id, index + 1..last).into_iter().rev());
        // Of those that are stopped the temporary ones are not started again.
        for worker in stop {
            if !self.is_permanent(*worker) {
                self.forget(*worker);
            }
        }
        let last = end(self);
        self.begin_anew(id, index..last)
    }

    /// The supervisors, each before those below it.
    pub(crate) fn report(&self) -> Vec<SupervisorReport> {
        let mut reports = Vec::new();
        for (id, supervisor) in self.supervisors.iter().enumerate() {
            if supervisor.above.is_none() {
                self.report_from(SupervisorId(id), 0, &mut reports);
            }
        }
        reports
    }

    fn report_from(&self, id: SupervisorId, depth: usize, reports: &mut Vec<SupervisorReport>) {
        let Some(supervisor) = self.supervisors.get(id.0) else { return };
        let (mut children, mut temporary, mut below) = (Vec::new(), 0, Vec::new());
        for child in &supervisor.children {
            match child {
                Child::Worker { lifetime: Lifetime::Temporary, .. } => temporary += 1,
                Child::Worker { name, restarts, .. } => children.push((*name, *restarts)),
                Child::Supervisor(id) => below.push(*id),
            }
        }
        reports.push(SupervisorReport {
            name: supervisor.name,
            depth,
            strategy: supervisor.strategy,
            intensity: supervisor.restarts.intensity(),
            restarts: supervisor.total,
            children,
            temporary,
        });
        below.into_iter().for_each(|id| self.report_from(id, depth + 1, reports));
    }

    fn at(&mut self, id: SupervisorId) -> &mut Supervisor<W> {
        // PANIC: only this tree makes such numbers, and none is ever taken out of it.
        self.supervisors.get_mut(id.0).expect("a supervisor of this tree")
    }

    /// The workers of some of a supervisor's children, in the order in which they were started.
    fn workers(&self, id: SupervisorId, which: std::ops::Range<usize>) -> Vec<W> {
        let children = self.supervisors.get(id.0).and_then(|supervisor| supervisor.children.get(which));
        let workers = children.into_iter().flatten().flat_map(|child| match child {
            Child::Worker { worker, .. } => vec![*worker],
            Child::Supervisor(below) => self.workers(*below, 0..self.children(*below)),
        });
        workers.collect()
    }

    /// How many children a supervisor has.
    fn children(&self, id: SupervisorId) -> usize {
        self.supervisors.get(id.0).map_or(0, |supervisor| supervisor.children.len())
    }

    /// Counts the start anew of some of a supervisor's children, and gives the workers that it makes.
    fn begin_anew(&mut self, id: SupervisorId, which: std::ops::Range<usize>) -> Vec<W> {
        let mut start = Vec::new();
        for index in which {
            match self.at(id).children.get_mut(index) {
                Some(Child::Worker { worker, restarts, .. }) => {
                    *restarts += 1;
                    start.push(*worker);
                }
                Some(Child::Supervisor(below)) => {
                    let below = *below;
                    self.at(below).restarts.forget();
                    start.extend(self.begin_anew(below, 0..self.children(below)));
                }
                None => {}
            }
        }
        start
    }
}

/// Which child of a supervisor failed.
#[derive(Debug, Clone, Copy)]
enum Failed<W> {
    Worker(W),
    Supervisor(SupervisorId),
}

impl<W: Copy + Eq> Failed<W> {
    fn is(self, child: &Child<W>) -> bool {
        match (self, child) {
            (Self::Worker(own), Child::Worker { worker, .. }) => own == *worker,
            (Self::Supervisor(own), Child::Supervisor(supervisor)) => own == *supervisor,
            _ => false,
        }
    }
}

impl<W: Copy + Eq> Child<W> {
    fn is(&self, of: W) -> bool {
        Failed::Worker(of).is(self)
    }

    fn is_permanent(&self) -> bool {
        matches!(self, Self::Worker { lifetime: Lifetime::Permanent, .. })
    }
}

/// A supervisor's account of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorReport {
    /// Its name.
    pub name: &'static str,
    /// How many are above it.
    pub depth: usize,
    /// Who is started anew with whom.
    pub strategy: Strategy,
    /// How often, before it gives up.
    pub intensity: Intensity,
    /// How often something below it was, so far, by its decision.
    pub restarts: u64,
    /// The names of its own workers, in the order in which they were started, and how often each was started anew.
    pub children: Vec<(&'static str, u64)>,
    /// How many it has besides that are never started anew.
    pub temporary: usize,
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::OneForOne => "one for one",
            Self::RestForOne => "rest for one",
        })
    }
}

#[cfg(test)]
mod tests;
