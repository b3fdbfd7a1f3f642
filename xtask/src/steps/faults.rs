//! The device is killed, aborted and stopped in the middle of a program: that program ends, and one that starts
//! afterwards, or while there is no device, passes its checks. Where contexts are to survive, that program goes on.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Finished, tail};
use crate::report::Outcome;
use crate::steps::{Session, survival};
use crate::workspace::Workspace;

/// What happens to the device.
const FAULTS: [(&str, Signal); 4] = [
    ("killed", Signal::KILL),
    ("aborted", Signal::ABORT),
    ("stopped", Signal::STOP),
    ("killed again", Signal::KILL),
];

/// Seconds that the device may take for a command here: a stopped one is noticed soon, and a slow one on a busy machine is
/// not taken for stopped.
const DEADLINE: &str = "10";

/// Commands after which a program is in the middle of its work.
const UNDER_WAY: u64 = 500;

/// Runs each fault with a daemon that lives through all of them.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with_arguments(workspace, &["--command-deadline", DEADLINE], |daemon| {
        let mut seen = Vec::new();
        for (index, (name, signal)) in FAULTS.into_iter().enumerate() {
            seen.push(fault(workspace, daemon, name, signal, index as u64 + 1)?);
        }
        Ok(seen)
    })
    .and_then(|mut seen: Vec<String>| {
        seen.push(hang(workspace)?);
        seen.push(survival::run(workspace)?);
        Ok(Outcome::Passed(seen.join("; ")))
    })
}

fn fault(workspace: &Workspace, daemon: &Daemon, name: &str, signal: Signal, losses: u64) -> Result<String> {
    let before = number(&daemon.status()?, "commands")?;
    let (victim, survivor) = thread::scope(|scope| {
        let victim = scope.spawn(|| check(workspace, daemon));
        let struck = until(daemon, "the program is under way", |status| {
            Ok(number(status, "commands")? > before + UNDER_WAY)
        })
        .and_then(|_| kill_process(daemon.device()?, signal).context(|| "the device is gone".into()));
        // It starts while there is no device, or as soon as there is another.
        let noticed = struck.and_then(|()| {
            until(daemon, "the loss is noticed", |status| Ok(number(status, "losses")? == losses))
        });
        let survivor = noticed.and_then(|_| check(workspace, daemon));
        (victim.join(), survivor)
    });
    let victim = victim.map_err(|_| Failure::new("a thread of xtask panicked"))??;
    let survivor = survivor?;
    if victim.status.is_none() {
        return Err(Failure::new(format!(
            "device {name}: the program never ended:\n{}",
            tail(&victim.text, 5)
        )));
    }
    if !survivor.success() {
        let text = tail(&survivor.text, 30);
        return Err(Failure::new(format!(
            "device {name}: a program that started afterwards failed:\n{text}"
        )));
    }
    let status = until(daemon, "the leak report is empty", |status| {
        let clients = status.get("clients").and_then(Value::as_array);
        let left = (status.pointer("/leaks/total").and_then(Value::as_u64), clients.map(Vec::len));
        Ok(left == (Some(0), Some(0)) && number(status, "losses")? == losses)
    })?;
    let outage = status.pointer("/device/last_outage_ms").and_then(Value::as_f64).unwrap_or(f64::NAN);
    Ok(format!("{name}: {outage:.0} ms without a device"))
}

/// The actor of a program's context hangs: that program fails, one beside it passes, and the daemon goes on.
fn hang(workspace: &Workspace) -> Result<String> {
    daemon::with_arguments(workspace, &["--watchdog", "2"], |daemon| {
        let victim = thread::scope(|scope| {
            let victim = scope.spawn(|| check(workspace, daemon));
            let under_way = until(daemon, "the program is under way", |status| {
                Ok(number(status, "commands")? > UNDER_WAY)
            });
            let struck = under_way.and_then(|_| {
                daemon.tool("fault").args(["inject", "--actor", "context", "--do", "hang"]).output()
            });
            (victim.join(), struck)
        });
        victim.1?;
        let victim = victim.0.map_err(|_| Failure::new("a thread of xtask panicked"))??;
        if victim.success() || victim.status.is_none() {
            return Err(Failure::new("a program whose context hung did not fail, or did not end"));
        }
        let beside = check(workspace, daemon)?;
        if !beside.success() {
            let text = tail(&beside.text, 30);
            return Err(Failure::new(format!("a context hung, and a program of afterwards failed:\n{text}")));
        }
        until(daemon, "the leak report is empty", |status| {
            Ok(status.pointer("/leaks/total").and_then(Value::as_u64) == Some(0))
        })?;
        Ok("a context hung: it alone was given up".into())
    })
}

fn check(workspace: &Workspace, daemon: &Daemon) -> Result<Finished> {
    daemon
        .run(workspace.release("glcheck"))
        .args(["--expect-renderer", "virgl"])
        .limit(Duration::from_secs(120))
        .capture()
}

/// The status as soon as it is as wanted.
pub(super) fn until(daemon: &Daemon, what: &str, is_so: impl Fn(&Value) -> Result<bool>) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = daemon.status()?;
        if is_so(&status)? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("waited in vain until {what}; the daemon says {status}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A count of the device's.
fn number(status: &Value, name: &str) -> Result<u64> {
    let found = status.pointer(&format!("/device/{name}")).and_then(Value::as_u64);
    found.ok_or_else(|| Failure::new(format!("the daemon's status has no device.{name}")))
}
