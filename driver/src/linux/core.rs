//! The loop of the one stage.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use virgld_platform::host::clock::now;
use virgld_protocol::message::scheme;
use virgld_runtime::{Respond, Time};

use super::Error;
use super::report::Accounts;
use super::watchdog::{self, Pulse};
use super::wiring::System;

/// How often the loop looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(250);

/// Runs the actors until `stop` is set, something is gone that cannot be had again, or nobody has had a file open for `idle_exit`.
pub(crate) fn run(
    mut system: System,
    stop: &Arc<AtomicBool>,
    idle_exit: Option<Duration>,
) -> Result<(), Error> {
    let pulse = Pulse::default();
    watchdog::start(&pulse)?;
    let mut idleness = Idleness::new();
    let mut next_glance = now().after(GLANCE);
    while !stop.load(Ordering::Acquire) {
        pulse.beat();
        let begin = now();
        system.stage.run(begin);
        for casualty in system.stage.casualties() {
            system.supervisor.mourn(&casualty)?;
        }
        let timeout = if system.stage.may_sleep() {
            let until = system.stage.deadline().map(|deadline| deadline.since(now()));
            until.unwrap_or(GLANCE).min(GLANCE)
        } else {
            Duration::ZERO
        };
        system.reactor.wait(Some(timeout), || system.stage.awake())?;
        // By the clock, and not when nothing happens: clients can see to it that something always does.
        if begin < next_glance {
            continue;
        }
        next_glance = begin.after(GLANCE);
        system.kept.if_ended(|how| system.supervisor.device_ended(&how));
        if idle_exit.is_some_and(|limit| idleness.lasts(&system) > limit) {
            break;
        }
    }
    tell_what_is_left(&mut system);
    Ok(())
}

/// The leak report at the daemon's end: what clients that are there had, and what those that are gone left behind.
fn tell_what_is_left(system: &mut System) {
    let accounts = Arc::new(Mutex::new(Accounts::default()));
    let locked = |accounts: &Mutex<Accounts>| {
        std::mem::take(&mut *accounts.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let parts = Arc::clone(&accounts);
    let asked = system.parts.ask(move |part| {
        parts.lock().unwrap_or_else(PoisonError::into_inner).take(part);
    });
    system.stage.run(now());
    let report = asked.ok().and_then(|()| system.parts.complete(&locked(&accounts)));
    let Some(report) = report else {
        return tracing::warn!("cannot tell what is left: an actor is gone");
    };
    for object in &report.leaks.objects {
        tracing::warn!("still alive: {object}");
    }
    match report.leaks.total {
        0 => tracing::info!("nothing is left of any client"),
        total => {
            tracing::warn!("{total} objects are alive at the end, of {} open files", report.clients.len())
        }
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
