//! External commands: each has a time limit and a process group of its own.
//!
//! A command never outlives its limit, nor do its children outlive it: when it ends, is interrupted or runs
//! too long, its whole group is killed before the leader is reaped, so the group's number still names it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::failure::{Context, Failure, Result};

/// A command to run, with its time limit.
pub(crate) struct Task {
    command: Command,
    limit: Duration,
}

/// How a captured command ended and what it wrote.
pub(crate) struct Finished {
    /// Its exit status; `None` where it ran into its limit.
    pub(crate) status: Option<ExitStatus>,
    /// Its standard output and, after it, its standard error.
    pub(crate) text: String,
    /// How long it ran.
    pub(crate) took: Duration,
}

impl Task {
    /// A command that may run for a minute unless [`Task::limit`] says otherwise.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0);
        Self { command, limit: Duration::from_secs(60) }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets one variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes one variable out of its environment.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the folder it runs in.
    pub(crate) fn folder(mut self, folder: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Sets how long it may run.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it with its output on the terminal; fails unless it exits with 0.
    pub(crate) fn show(mut self) -> Result<()> {
        let ended = self.spawn_group()?.wait(self.limit)?;
        self.judge(ended)
    }

    /// As [`Task::show`], and keeps what it writes to standard output beside the verdict.
    pub(crate) fn show_and_keep(mut self) -> Result<(Result<()>, String)> {
        self.command.stdout(Stdio::piped());
        let mut running = self.spawn_group()?;
        let output = running.child.stdout.take();
        let output = thread::spawn(move || {
            let mut text = String::new();
            for line in output.into_iter().flat_map(|output| BufReader::new(output).split(b'\n')).flatten() {
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                text.extend([&line, "\n"]);
            }
            text
        });
        let verdict = self.judge(running.wait(self.limit)?);
        Ok((verdict, joined(output)))
    }

    /// Runs it and keeps what it writes; a bad exit is the caller's to judge.
    pub(crate) fn capture(mut self) -> Result<Finished> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut running = self.spawn_group()?;
        let output = reader(running.child.stdout.take());
        let errors = reader(running.child.stderr.take());
        let status = running.wait(self.limit)?;
        let text = joined(output) + &joined(errors);
        Ok(Finished { status, text, took: started.elapsed() })
    }

    /// Runs it and gives what it wrote; fails, showing the end of it, unless it exits with 0.
    pub(crate) fn output(self) -> Result<String> {
        let (line, limit) = (self.line(), self.limit);
        let finished = self.capture()?;
        if finished.success() {
            return Ok(finished.text);
        }
        let verdict = verdict(finished.status, limit);
        Err(Failure::new(format!("{line} {verdict}; it wrote:\n{}", tail(&finished.text, 20))))
    }

    /// Starts it with its output in `log` and leaves it running.
    pub(crate) fn start(mut self, log: std::fs::File) -> Result<Running> {
        let copy = log.try_clone().context(|| "cannot copy a log's descriptor".into())?;
        self.command.stdout(log).stderr(copy);
        self.spawn_group()
    }

    fn spawn_group(&mut self) -> Result<Running> {
        let child = self.command.spawn().context(|| format!("cannot start {}", self.line()))?;
        Running::new(child)
    }

    fn judge(&self, ended: Option<ExitStatus>) -> Result<()> {
        match ended {
            Some(status) if status.success() => Ok(()),
            ended => Err(Failure::new(format!("{} {}", self.line(), verdict(ended, self.limit)))),
        }
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        format!("`{}`", words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }
}

impl Finished {
    /// Whether it exited with 0 within its limit.
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// A process that was started here; dropping it ends its whole group.
pub(crate) struct Running {
    child: Child,
    group: Pid,
    ended: OwnedFd,
    reaped: bool,
}

impl Running {
    fn new(mut child: Child) -> Result<Self> {
        let group = Pid::from_child(&child);
        match pidfd_open(group, PidfdFlags::empty()) {
            Ok(ended) => Ok(Self { child, group, ended, reaped: false }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Failure::new(format!("cannot watch a process: {error}")))
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Whether it has exited already.
    pub(crate) fn has_ended(&self) -> bool {
        self.exits_within(Duration::ZERO)
    }

    /// Waits at most `limit`, then ends the group: `None` where the limit passed first.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.exits_within(left.min(Duration::from_millis(200))) {
                return self.reap().map(Some);
            }
            if interrupted() {
                return Err(Failure::new("interrupted"));
            }
            if left.is_zero() {
                self.end()?;
                return Ok(None);
            }
        }
    }

    /// Asks the group to end, insists after three seconds, and reaps the leader.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        if !self.reaped {
            let _ = kill_process_group(self.group, Signal::TERM);
            self.exits_within(Duration::from_secs(3));
        }
        self.reap()
    }

    /// Kills the whole group at once, as a crash ends a program: it gets to do nothing.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.reap().map(drop)
    }

    fn reap(&mut self) -> Result<ExitStatus> {
        if !self.reaped {
            let _ = kill_process_group(self.group, Signal::KILL);
            self.reaped = true;
        }
        self.child.wait().context(|| "cannot wait for a process".into())
    }

    fn exits_within(&self, limit: Duration) -> bool {
        let Ok(timeout) = Timespec::try_from(limit) else { return false };
        let mut fds = [PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timeout)), Ok(count) if count > 0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.end();
        }
    }
}

/// Makes the first Ctrl-C end the running command in order, and the second end this process at once.
pub(crate) fn catch_interrupts() -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&INTERRUPTED))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)))
            .context(|| "cannot catch signals".into())?;
    }
    Ok(())
}

/// Whether the person at the terminal wants an end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The last `lines` lines of `text`.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn verdict(ended: Option<ExitStatus>, limit: Duration) -> String {
    match ended {
        None => format!("was ended: it did not finish within {} s", limit.as_secs()),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("failed with exit code {code}"),
            (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
        },
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn joined(reader: JoinHandle<String>) -> String {
    reader.join().unwrap_or_default()
}

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
