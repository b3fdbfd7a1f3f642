//! `virgld serve`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::command_line::Serve;
use super::policy::Policy;
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
    // What does not exist cannot be allowed; what it must be like is the door's to say.
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    if options.no_sandbox {
        tracing::warn!("not confined, as asked");
    } else {
        sandbox::enter(&options.device, &directory)?;
    }
    let system = wiring::wire(&options.device, &directory, options.command_deadline, &policy)?;
    tracing::info!(directory = %directory.display(), "serving");
    core::run(system, &stop, options.idle_exit.map(Duration::from_secs))?;
    tracing::info!("stopped");
    Ok(())
}

/// Each client costs a handful of descriptors and each fence one: take what the system grants.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}
