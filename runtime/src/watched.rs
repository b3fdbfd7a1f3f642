//! A stage whose thread is watched: where an actor does not return from a step, the stage goes on without it and without
//! the thread that it holds.
//!
//! The stage is behind a lock that is not held while an actor acts: what a thread that does not come back has is the one
//! actor that it ran. A thread runs a stage in its *tenure*. When that was revoked, nothing that the thread sends arrives
//! any more, and should the actor return after all, the thread is told to end.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::actor::Time;
use crate::stage::{Next, Stage, StageShared};

thread_local! {
    /// The tenure in which this thread runs a stage. There is one stage to a thread.
    static TENURE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Whether this thread runs a stage in a tenure that was revoked.
pub(crate) fn is_abandoned(current: &AtomicU64) -> bool {
    // Relaxed: what was sent at the very moment may arrive or not. Zero where no thread was ever abandoned.
    let current = current.load(Ordering::Relaxed);
    current > 1 && TENURE.get().is_some_and(|own| own != current)
}

/// A watched stage.
pub struct Watched {
    /// None after the end.
    stage: Mutex<Option<Stage>>,
    shared: Arc<StageShared>,
}

/// The right of one thread to run a stage, until it is revoked.
///
/// ```compile_fail,E0423
/// # use virgld_runtime::Tenure;
/// fn forge() -> Tenure { Tenure(7) }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::Tenure;
/// fn must_copy<T: Clone>() {}
/// fn copy() { must_copy::<Tenure>() }
/// ```
#[derive(Debug)]
pub struct Tenure(u64);

/// The tenure was revoked, or the stage has ended: the thread is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this thread's right to run the stage was revoked")]
pub struct Revoked;

/// What came of it that a thread was to be given up.
#[derive(Debug)]
pub enum Abandonment {
    /// It was, with the actor that it has. Another thread may run the stage.
    Done(Tenure),
    /// Something has gone on meanwhile: nobody was given up.
    MovedOn,
    /// It is not an actor that hangs.
    NoActor,
}

impl Watched {
    /// Nobody runs it yet.
    pub fn new(stage: Stage) -> Self {
        let shared = Arc::clone(&stage.shared);
        Self { stage: Mutex::new(Some(stage)), shared }
    }

    /// The right to run it; whoever had it has it no more.
    pub fn tenure(&self) -> Tenure {
        Tenure(self.shared.tenure.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// As [`Stage::run`], but that nobody dozes: see [`Watched::doze`]. The lock is not held while an actor acts. The `clock`
    /// is looked at when the run begins, and whenever actors settle.
    pub fn run(&self, tenure: &Tenure, clock: impl Fn() -> Time) -> Result<bool, Revoked> {
        TENURE.set(Some(tenure.0));
        self.go_on(tenure, clock, self.enter(tenure)?)
    }

    /// The thread is about to sleep: whoever shares memory with others is to be told of what comes from now on. Says whether
    /// something came before; then it may not sleep.
    pub fn doze(&self, tenure: &Tenure, clock: impl Fn() -> Time) -> Result<bool, Revoked> {
        let mut guard = self.enter(tenure)?;
        Self::stage(&mut guard)?.begin_to_doze();
        self.go_on(tenure, clock, guard)
    }

    fn go_on<'a>(
        &'a self,
        tenure: &Tenure,
        clock: impl Fn() -> Time,
        mut guard: MutexGuard<'a, Option<Stage>>,
    ) -> Result<bool, Revoked> {
        let mut now = clock();
        loop {
            let mut job = match Self::stage(&mut guard)?.next(now) {
                Next::Over(ran) => return Ok(ran),
                Next::Tour => {
                    now = clock();
                    continue;
                }
                Next::Step(job) => job,
            };
            drop(guard);
            let outcome = job.act(now, &self.shared.faults);
            guard = self.enter(tenure)?;
            Self::stage(&mut guard)?.done(now, job, outcome);
        }
    }

    /// Does something with it between two runs.
    pub fn with<T>(&self, tenure: &Tenure, what: impl FnOnce(&mut Stage) -> T) -> Result<T, Revoked> {
        Self::stage(&mut self.enter(tenure)?).map(what)
    }

    /// How many steps actors have made: what does not grow may hang.
    pub fn steps(&self) -> u64 {
        self.shared.steps.load(Ordering::Relaxed)
    }

    /// Gives up the thread that runs it, with the actor whose step that does not return from, and gives another thread the
    /// right to run it. `steps` is what was seen when it was found that nothing goes on: since then that step may have
    /// ended after all, and whichever actor acts now has done no wrong.
    pub fn abandon(&self, steps: u64) -> Abandonment {
        let mut guard = match self.stage.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.steps() == steps => return Abandonment::NoActor,
            Err(TryLockError::WouldBlock) => return Abandonment::MovedOn,
        };
        // Steps are counted under the lock.
        if self.steps() != steps {
            return Abandonment::MovedOn;
        }
        let abandoned = guard.as_mut().is_some_and(Stage::abandon);
        if abandoned { Abandonment::Done(self.tenure()) } else { Abandonment::NoActor }
    }

    /// The end: all actors end but one that may hang.
    pub fn end(&self) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(stage);
    }

    fn enter(&self, tenure: &Tenure) -> Result<MutexGuard<'_, Option<Stage>>, Revoked> {
        // Nothing that panics runs under the lock.
        let guard = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.tenure.load(Ordering::Relaxed) == tenure.0 { Ok(guard) } else { Err(Revoked) }
    }

    fn stage<'a>(guard: &'a mut MutexGuard<'_, Option<Stage>>) -> Result<&'a mut Stage, Revoked> {
        let stage = guard.as_mut().ok_or(Revoked)?;
        let steps = &stage.shared.steps;
        // One thread writes at a time: the lock is held.
        steps.store(steps.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        Ok(stage)
    }
}
