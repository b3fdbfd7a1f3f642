//! The loop of the one stage, and who sees to it that it goes round.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use virgld_platform::host::clock::now;
use virgld_protocol::message::scheme;
use virgld_runtime::{Abandonment, Respond, Revoked, Tenure, Time, Watched};

use super::Error;
use super::busy_poll::BusyPoll;
use super::report::{Accounts, Report};
use super::watchdog::Watch;
use super::wiring::System;

/// How often the loop looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(250);
/// How often it looks at descriptors while it finds things to do without them.
const DESCRIPTORS: Duration = Duration::from_micros(100);
/// How long the device may take at the daemon's end to let go of what clients had that are gone.
const GRACE: Duration = Duration::from_secs(1);

/// What the threads have that run the actors, one after the other.
struct Core {
    stage: Watched,
    /// Nobody has it while an actor acts.
    rest: Mutex<Rest>,
    stop: Arc<AtomicBool>,
    idle_exit: Option<Duration>,
    /// Turns of the loop.
    turns: AtomicUsize,
}

/// What belongs to the loop but for the stage.
struct Rest {
    system: System,
    poll: BusyPoll,
    idleness: Idleness,
    next_glance: Time,
    /// When descriptors are looked at though there is something to do.
    next_descriptors: Time,
}

/// How a thread's time with the stage ended: in words, if something is gone that cannot be had again.
type End = Result<(), String>;

/// Runs the actors until `stop` is set, something is gone that cannot be had again, or nobody has had a file open for
/// `idle_exit`. An actor that does not return from a step for as long as `watch` allows is given up, and the thread with it.
/// Before the thread sleeps it looks for as long as `poll` says.
pub(crate) fn run(
    system: System,
    stop: &Arc<AtomicBool>,
    idle_exit: Option<Duration>,
    mut watch: Watch,
    poll: BusyPoll,
) -> Result<(), Error> {
    let (stage, system) = system.part()?;
    let next_glance = now().after(GLANCE);
    let core = Arc::new(Core {
        stage: Watched::new(stage),
        rest: Mutex::new(Rest {
            system,
            poll,
            idleness: Idleness::new(),
            next_glance,
            next_descriptors: Time::default(),
        }),
        stop: Arc::clone(stop),
        idle_exit,
        turns: AtomicUsize::new(0),
    });
    let (ended, end) = sync_channel(1);
    let mut tenure = Some(core.stage.tenure());
    let end = loop {
        if let Some(tenure) = tenure.take() {
            start(&core, tenure, ended.clone())?;
        }
        match wait(&core, &end, &mut watch) {
            Waited::Ended(end) => break end,
            Waited::Hung { steps } => tenure = core.give_up(steps, &watch)?,
        }
    };
    core.end();
    Ok(end?)
}

/// Starts a thread that runs the stage in its tenure.
fn start(core: &Arc<Core>, tenure: Tenure, ended: SyncSender<End>) -> Result<(), Error> {
    let core = Arc::clone(core);
    let body = move || {
        // One whose tenure was revoked has nothing to say.
        if let Ok(end) = core.run(&tenure) {
            let _ = ended.send(end);
        }
    };
    thread::Builder::new().name("actors".into()).spawn(body).map(drop)?;
    Ok(())
}

/// What was waited for.
enum Waited {
    /// The stage's thread has ended.
    Ended(End),
    /// It does not come round any more: so many steps were made, and no more for as long as the watch allows.
    Hung { steps: u64 },
}

/// Waits until the stage's thread has ended, or does not come round any more.
fn wait(core: &Core, end: &Receiver<End>, watch: &mut Watch) -> Waited {
    loop {
        // The core keeps no sender, but this function's caller does: there always is one.
        if let Ok(end) = end.recv_timeout(watch.interval()) {
            return Waited::Ended(end);
        }
        let steps = core.stage.steps();
        // Neither ever shrinks: where the sum has not grown, none of them has.
        if watch.look(steps.wrapping_add(core.turns.load(Ordering::Relaxed) as u64)) {
            return Waited::Hung { steps };
        }
    }
}

impl Core {
    /// The loop. Ends with an error when the tenure was revoked.
    fn run(&self, tenure: &Tenure) -> Result<End, Revoked> {
        while !self.stop.load(Ordering::Acquire) {
            self.turns.fetch_add(1, Ordering::Relaxed);
            match self.turn(tenure)? {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Ok(Err(error)),
            }
        }
        let mut left = self.what_is_left(tenure)?;
        let patience = now().after(GRACE);
        // What a client had that has just gone may yet be in the device's hands.
        while left.as_ref().is_some_and(|left| left.clients.is_empty() && left.leaks.total > 0) {
            if now() >= patience || !matches!(self.turn(tenure)?, Ok(true)) {
                break;
            }
            left = self.what_is_left(tenure)?;
        }
        tell(left);
        Ok(Ok(()))
    }

    /// One turn of the loop. Says whether there is to be another.
    fn turn(&self, tenure: &Tenure) -> Result<Result<bool, String>, Revoked> {
        self.stage.run(tenure, now)?;
        let mut rest = self.rest();
        let casualties = self.stage.with(tenure, |stage| stage.casualties())?;
        for casualty in casualties {
            if let Err(error) = rest.system.supervisor.mourn(&casualty) {
                return Ok(Err(error.to_string()));
            }
        }
        let idle = now();
        let looked = self.look(tenure, &mut rest, idle)?;
        let outcome = if looked == Ok(false) {
            drop(rest);
            self.stage.doze(tenure, now)?;
            rest = self.rest();
            self.sleep(tenure, &mut rest)?
        } else {
            looked.map(drop)
        };
        if let Err(error) = outcome {
            return Ok(Err(error.to_string()));
        }
        rest.poll.idled(now().since(idle));
        Ok(Ok(idle < rest.next_glance || rest.glance(idle, self.idle_exit)))
    }

    /// Looks for something to do for a while. Says whether there is something. Whoever else wants the processor has it.
    fn look(&self, tenure: &Tenure, rest: &mut Rest, idle: Time) -> Result<Result<bool, Errno>, Revoked> {
        let until = idle.after(rest.poll.window());
        let mut time = idle;
        while time < until {
            // The thread counts as awake, so what others send comes without a wake-up, and what they write without a call.
            let found = self.stage.with(tenure, |stage| stage.has_work(time))?;
            if !found || time >= rest.next_descriptors {
                rest.next_descriptors = time.after(DESCRIPTORS);
                match rest.system.reactor.wait(Some(Duration::ZERO), || ()) {
                    Ok(0) => {}
                    Ok(_) => return Ok(Ok(true)),
                    Err(error) => return Ok(Err(error)),
                }
            }
            if found {
                return Ok(Ok(true));
            }
            thread::yield_now();
            time = now();
        }
        Ok(Ok(false))
    }

    /// Sleeps until there is something to do.
    fn sleep(&self, tenure: &Tenure, rest: &mut Rest) -> Result<Result<(), Errno>, Revoked> {
        let timeout = self.stage.with(tenure, |stage| {
            if stage.may_sleep() {
                let until = stage.deadline().map(|deadline| deadline.since(now()));
                until.unwrap_or(GLANCE).min(GLANCE)
            } else {
                Duration::ZERO
            }
        })?;
        let awake = || {
            // A revoked tenure is found in the next turn.
            let _ = self.stage.with(tenure, |stage| stage.awake());
        };
        Ok(rest.system.reactor.wait(Some(timeout), awake).map(drop))
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An actor hangs: gives it up, and the thread that it has. A context costs its file alone, and the device
    /// keeper is made anew; with another actor goes what only it knows, and the supervisor says so in the next turn. None where it has returned at the last moment.
    fn give_up(&self, steps: u64, watch: &Watch) -> Result<Option<Tenure>, Error> {
        let patience = watch.patience();
        match self.stage.abandon(steps) {
            Abandonment::Done(tenure) => {
                tracing::error!(
                    "an actor has not returned from a step for {patience:?}: it is given up, with its thread"
                );
                Ok(Some(tenure))
            }
            Abandonment::MovedOn => Ok(None),
            Abandonment::NoActor => {
                // An actor that returns at this very moment holds the lock, and has not been counted yet.
                thread::sleep(watch.interval());
                if self.stage.steps() == steps {
                    return Err(
                        format!("nothing has gone on for {patience:?}, and no actor is at fault").into()
                    );
                }
                Ok(None)
            }
        }
    }

    /// Ends the actors, and then what must not end before them.
    fn end(&self) {
        self.stage.end();
        let kept = self.rest().system.kept.take();
        drop(kept);
    }

    /// What clients that are there have, and what those that are gone left behind; nothing if an actor does not say.
    fn what_is_left(&self, tenure: &Tenure) -> Result<Option<Report>, Revoked> {
        let accounts = Arc::new(Mutex::new(Accounts::default()));
        let locked = |accounts: &Mutex<Accounts>| {
            std::mem::take(&mut *accounts.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let parts = Arc::clone(&accounts);
        let asked = self.rest().system.parts.ask(move |part| {
            parts.lock().unwrap_or_else(PoisonError::into_inner).take(part);
        });
        self.stage.run(tenure, now)?;
        Ok(asked.ok().and_then(|()| self.rest().system.parts.complete(&locked(&accounts))))
    }
}

impl Rest {
    /// By the clock, and not when nothing happens: clients can see to it that something always does. Says whether the
    /// daemon is to go on.
    fn glance(&mut self, now: Time, idle_exit: Option<Duration>) -> bool {
        self.next_glance = now.after(GLANCE);
        let supervisor = &self.system.supervisor;
        self.system.kept.if_ended(|how| supervisor.device_ended(&how));
        idle_exit.is_none_or(|limit| self.idleness.lasts(&self.system) <= limit)
    }
}

/// For how long nobody has had a file open.
struct Idleness {
    files: Arc<AtomicUsize>,
    since: Time,
}

impl Idleness {
    fn new() -> Self {
        Self { files: Arc::default(), since: now() }
    }

    /// Asks the scheme anew, and goes by what it said last.
    fn lasts(&mut self, system: &System) -> Duration {
        let files = Arc::clone(&self.files);
        let respond = Respond::new(move |report: scheme::Report| {
            files.store(report.files.len(), Ordering::Relaxed);
        });
        // A scheme that is gone is found by the supervisor.
        let _ = system.supervisor.scheme().send(scheme::Service::Report(respond));
        if self.files.load(Ordering::Relaxed) > 0 {
            self.since = now();
        }
        now().since(self.since)
    }
}

/// The leak report at the daemon's end.
fn tell(left: Option<Report>) {
    let Some(report) = left else {
        tracing::warn!("cannot tell what is left: an actor is gone");
        return;
    };
    for object in &report.leaks.objects {
        tracing::warn!("still alive: {object}");
    }
    match report.leaks.total {
        0 => tracing::info!("nothing is left of any client"),
        total => {
            tracing::warn!("{total} objects are alive at the end, of {} open files", report.clients.len());
        }
    }
}
