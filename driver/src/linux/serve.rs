//! `virgld serve`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use virgld_faults::Plan;

use super::busy_poll::BusyPoll;
use super::command_line::Serve;
use super::directory::FAULTS;
use super::faults::Saboteur;
use super::policy::Policy;
use super::watchdog::Watch;
use super::{Error, core, sandbox, wiring};

/// Drives a device and serves programs until interrupted.
pub(crate) fn serve(options: &Serve) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    allow_descriptors();
    let directory = options.meeting.directory();
    let policy = Policy::read(options.policy.as_deref())?;
    let faults = faults(options.faults.as_deref())?;
    let device = options.device.settled()?;
    // What does not exist cannot be allowed; what it must be like is the door's to say.
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    if options.no_sandbox {
        tracing::warn!("not confined, as asked");
    } else {
        sandbox::enter(&device, &directory)?;
    }
    let system = wiring::wire(&device, &directory, options.command_deadline, &policy, options.journals())?;
    let saboteur = Saboteur::new(system.injector.clone(), &system.kept, system.monitor.clone());
    saboteur.inject(faults)?;
    saboteur.listen(&directory.join(FAULTS))?;
    tracing::info!(directory = %directory.display(), "serving");
    let idle_exit = options.idle_exit.map(Duration::from_secs);
    let poll = BusyPoll::new(options.busy_poll(&device));
    core::run(system, &stop, idle_exit, Watch::new(options.watchdog), poll)?;
    tracing::info!("stopped");
    Ok(())
}

/// What is to go wrong; without a plan, nothing.
fn faults(path: Option<&Path>) -> Result<Plan, Error> {
    let Some(path) = path else { return Ok(Plan::default()) };
    let failed = |what: String| format!("the fault plan {}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    tracing::warn!(plan = %path.display(), "faults are injected, as asked");
    Ok(Plan::parse_for_process(&text).map_err(|error| failed(error.to_string()))?)
}

/// Each client costs a handful of descriptors and each fence one: take what the system grants.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}
