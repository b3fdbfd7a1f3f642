//! `virgld run --isolated`: a program with a daemon and a device process of its own.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use virgld_platform::host::door::private_directory;

use super::Error;
use super::command_line::Run;
use super::run::{cannot_run, program, start_daemon};

/// Runs the program and passes its end on: its exit code, or 128 and the signal that ended it.
pub(crate) fn run(options: &Run, directory: &Path) -> Result<ExitCode, Error> {
    let directory = private_directory(&directory.join(format!("isolated-{}", std::process::id())))?;
    let mut command = program(options, &directory)?;
    let ground = Ground::start(options, directory)?;
    // A terminal's interrupts reach the program by themselves, and it may go on after them: so must its daemon.
    let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP])?;
    let mut child = command.spawn().map_err(|error| cannot_run(&command, &error))?;
    let pid = Pid::from_child(&child);
    let handle = signals.handle();
    let forwarder = std::thread::spawn(move || {
        for signal in signals.forever() {
            let signal = match signal {
                SIGTERM => Signal::TERM,
                SIGHUP => Signal::HUP,
                _ => continue,
            };
            // It may have ended just now; its number is its own until it is waited for below.
            let _ = kill_process(pid, signal);
        }
    });
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    handle.close();
    forwarder.join().map_err(|_| "the thread that passes signals on died")?;
    let status = child.wait()?;
    drop(ground);
    Ok(exit_code(status))
}

/// As a shell tells it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The daemon and its directory.
struct Ground {
    daemon: Option<Child>,
    directory: PathBuf,
}

impl Ground {
    fn start(options: &Run, directory: PathBuf) -> Result<Self, Error> {
        let mut ground = Self { daemon: None, directory };
        ground.daemon = Some(start_daemon(&options.device, &ground.directory)?);
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
            let _ = daemon.wait();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "the directory stays");
        }
    }
}
