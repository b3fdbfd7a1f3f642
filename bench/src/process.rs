//! Processes that are started here: each leads a group of its own, which ends with it, by number, on every way
//! out, and nothing is waited for without a limit.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::failure::{Context, Failure, Result};

/// A process; dropping it ends its group.
pub(crate) struct Running {
    child: Child,
    group: Pid,
    ended: OwnedFd,
    reaped: bool,
}

impl Running {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.process_group(0).spawn().context(format_args!("cannot start {program}"))?;
        let group = Pid::from_child(&child);
        match pidfd_open(group, PidfdFlags::empty()) {
            Ok(ended) => Ok(Self { child, group, ended, reaped: false }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Failure::new(format!("cannot watch {program}: {error}")))
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input and output, if they are pipes and were not taken before.
    pub(crate) fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// Whether it has exited already.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits at most until `deadline`; `None` where that came first.
    fn wait(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.ends_within(left.min(GLANCE)) {
                return self.reap().map(Some);
            }
            heed_interrupts()?;
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Asks the group to end, insists after a while, and reaps the leader.
    fn end(&mut self) {
        let _ = kill_process_group(self.group, Signal::TERM);
        self.ends_within(Duration::from_secs(3));
        let _ = self.reap();
    }

    /// Kills what is left of the group before its number can be given to another.
    fn reap(&mut self) -> Result<ExitStatus> {
        let _ = kill_process_group(self.group, Signal::KILL);
        self.reaped = true;
        self.child.wait().context("cannot wait for a process")
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let Ok(timeout) = Timespec::try_from(limit) else { return false };
        let mut fds = [PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timeout)), Ok(count) if count > 0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.end();
        }
    }
}

/// Runs commands at the same time and gives what each wrote to its standard output.
pub(crate) fn outputs(commands: Vec<Command>, limit: Duration) -> Result<Vec<String>> {
    let deadline = Instant::now() + limit;
    let start = |mut command: Command| {
        let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let pipe = running.child.stdout.take();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            pipe.map(|mut pipe| pipe.read_to_string(&mut text));
            text
        });
        Ok((running, reader))
    };
    let started = commands.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    let finish = |(mut running, reader): (Running, thread::JoinHandle<String>)| {
        let status = running.wait(deadline)?;
        drop(running);
        let text = reader.join().unwrap_or_default();
        match status {
            Some(status) if status.success() => Ok(text),
            Some(status) => Err(Failure::new(format!("it ended with {status}"))),
            None => Err(Failure::new(format!("it did not end within {limit:?}"))),
        }
    };
    started.into_iter().map(finish).collect()
}

/// Makes the first Ctrl-C end everything in order, and the second end this process at once.
pub(crate) fn catch_interrupts() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&INTERRUPTED))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)))
            .context("cannot catch signals")?;
    }
    Ok(())
}

/// Fails once the person at the terminal wants an end.
pub(crate) fn heed_interrupts() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Failure::new("interrupted")) } else { Ok(()) }
}

/// How long an interrupt may go unnoticed.
pub(crate) const GLANCE: Duration = Duration::from_millis(200);

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
