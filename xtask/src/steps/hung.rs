//! The daemon is stopped under a program. Let go on in time, it is as if nothing had been, and the program's pixels are
//! right. Otherwise the program comes to its end and says why; a program on another daemon notices nothing, and the daemon,
//! when it goes on after all, serves new programs.

use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Finished, tail};
use crate::report::Outcome;
use crate::steps::Session;
use crate::steps::faults::{UNDER_WAY, number, until};
use crate::workspace::Workspace;

/// How long the daemon is stopped that is let go on in time.
const STOPPED: Duration = Duration::from_secs(5);
/// How many seconds it is waited for where it is not.
const PATIENCE: &str = "2";
/// What a program says then.
const GIVEN_UP: &str = "virgld: /dev/dri/renderD128 is given up";

/// Both.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        in_time(workspace, daemon)?;
        daemon::with(workspace, |other| for_too_long(workspace, daemon, other))?;
        Ok(Outcome::Passed(format!(
            "stopped for {} s under a program: its pixels are right; for longer: it ended by itself and said why",
            STOPPED.as_secs()
        )))
    })
}

fn in_time(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let checked = thread::scope(|scope| {
        let program = scope.spawn(|| check(workspace, daemon, "30"));
        let stopped = stop_under_way(daemon);
        thread::sleep(STOPPED);
        let resumed = signal(daemon, Signal::CONT);
        stopped.and(resumed)?;
        program.join().map_err(|_| Failure::new("a thread of xtask panicked"))?
    })?;
    passes(&checked, "the daemon was stopped for a while, and the program failed")
}

fn for_too_long(workspace: &Workspace, daemon: &Daemon, other: &Daemon) -> Result<()> {
    let (victim, beside, late) = thread::scope(|scope| {
        let victim = scope.spawn(|| check(workspace, daemon, PATIENCE));
        let stopped = stop_under_way(daemon);
        let beside = scope.spawn(|| check(workspace, other, PATIENCE));
        let late = stopped.and_then(|()| check(workspace, daemon, PATIENCE));
        let victim = victim.join();
        let beside = beside.join();
        // Whatever was found: who is stopped does not end when asked to.
        signal(daemon, Signal::CONT)?;
        let panicked = |_| Failure::new("a thread of xtask panicked");
        Ok::<_, Failure>((victim.map_err(panicked)??, beside.map_err(panicked)??, late?))
    })?;
    gave_up(&victim, "the program that was under way")?;
    gave_up(&late, "a program that was started meanwhile")?;
    passes(&beside, "the other daemon's program failed")?;
    until(daemon, "the leak report is empty", |status| {
        let clients = status.get("clients").and_then(Value::as_array).map(Vec::len);
        Ok((status.pointer("/leaks/total").and_then(Value::as_u64), clients) == (Some(0), Some(0)))
    })?;
    passes(&check(workspace, daemon, PATIENCE)?, "the daemon goes on, and a new program failed")
}

/// Stops the daemon when a program is in the middle of its work.
fn stop_under_way(daemon: &Daemon) -> Result<()> {
    let before = number(&daemon.status()?, "commands")?;
    until(daemon, "the program is under way", |status| Ok(number(status, "commands")? > before + UNDER_WAY))?;
    signal(daemon, Signal::STOP)
}

fn signal(daemon: &Daemon, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(daemon.pid()).ok_or_else(|| Failure::new("the daemon has no process"))?;
    kill_process(pid, signal).context(|| "the daemon is gone".into())
}

fn check(workspace: &Workspace, daemon: &Daemon, patience: &str) -> Result<Finished> {
    daemon
        .run(workspace.release("glcheck"))
        .args(["--expect-renderer", "virgl"])
        .env("VIRGLD_PATIENCE", patience)
        .limit(Duration::from_secs(120))
        .capture()
}

fn passes(finished: &Finished, otherwise: &str) -> Result<()> {
    if finished.success() && !finished.text.contains(GIVEN_UP) {
        return Ok(());
    }
    Err(Failure::new(format!("{otherwise}:\n{}", tail(&finished.text, 30))))
}

/// It came to its end, and failed, and said why.
fn gave_up(finished: &Finished, what: &str) -> Result<()> {
    let text = tail(&finished.text, 30);
    if finished.status.is_none() {
        return Err(Failure::new(format!("{what} never ended:\n{text}")));
    }
    if finished.success() || !finished.text.contains(GIVEN_UP) {
        return Err(Failure::new(format!("{what} does not say that it gave a file up:\n{text}")));
    }
    Ok(())
}
