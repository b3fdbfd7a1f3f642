//! A thousand short-lived clients one after another, and some that are killed, after which nothing of theirs is left.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{self, Daemon, Usage};
use crate::failure::{Failure, Result};
use crate::process::{interrupted, tail};
use crate::report::Outcome;
use crate::steps::Session;
use crate::workspace::Workspace;

const CLIENTS: usize = 1000;

/// Clients that run before the count starts: pools and caches fill with the first ones.
const WARM_UP: usize = 20;

/// Clients that do not live to see the end of their work.
const KILLED: u64 = 25;

/// Memory that an allocator may keep for itself, in KiB: a leak of 8 KiB a client is twice that.
const SLACK: u64 = 4096;

/// Runs the clients and looks at what the daemon holds before and after.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        clients(workspace, daemon, WARM_UP)?;
        let before = settled(daemon)?;
        clients(workspace, daemon, CLIENTS)?;
        killed(workspace, daemon)?;
        let after = settled(daemon)?;
        judge(before, after)
    })
}

fn clients(workspace: &Workspace, daemon: &Daemon, count: usize) -> Result<()> {
    let started = Instant::now();
    for index in 1..=count {
        if interrupted() {
            return Err(Failure::new("interrupted"));
        }
        let client = daemon.run(workspace.release("glcheck")).args(["--expect-renderer", "virgl", "clear"]);
        let finished = client.limit(Duration::from_secs(30)).capture()?;
        if !finished.success() {
            return Err(Failure::new(format!("client {index} failed:\n{}", tail(&finished.text, 20))));
        }
        if index % 100 == 0 {
            println!("{index} of {count} clients, {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// Clients that are ended at a moment of their own, most in the middle of their work.
fn killed(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    for index in 0..KILLED {
        let client = daemon.run(workspace.release("glcheck")).args(["--expect-renderer", "virgl"]);
        client.limit(Duration::from_millis(40 * index)).capture()?;
    }
    Ok(())
}

/// What the daemon holds once it says that no client is left, and its leak report is empty; fails where something stays
/// for five seconds.
pub(crate) fn settled(daemon: &Daemon) -> Result<Usage> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let status = daemon.status()?;
        let mut left: Vec<_> = ["clients", "contexts", "resources", "fences", "syncobjs", "buffers"]
            .into_iter()
            .filter(|name| amount(&status, name) != Some(0))
            .map(|name| format!("{name}: {}", status.get(name).unwrap_or(&Value::Null)))
            .collect();
        if status.pointer("/leaks/total").and_then(Value::as_u64) != Some(0) {
            left.push(format!("leaks: {}", status.get("leaks").unwrap_or(&Value::Null)));
        }
        if left.is_empty() {
            return daemon.usage();
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("left behind by clients that are gone: {}", left.join(", "))));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A count in the status: a number, or a list with an entry for each.
fn amount(status: &Value, name: &str) -> Option<u64> {
    let value = status.get(name)?;
    value.as_u64().or_else(|| value.as_array().map(|list| list.len() as u64))
}

fn judge(before: Usage, after: Usage) -> Result<Outcome> {
    let seen = format!(
        "{CLIENTS} clients and {KILLED} killed; descriptors {} then {}, memory {} then {} KiB",
        before.descriptors, after.descriptors, before.memory, after.memory
    );
    if after.descriptors > before.descriptors || after.memory > before.memory + SLACK {
        return Ok(Outcome::Failed(format!("something is left behind: {seen}")));
    }
    Ok(Outcome::Passed(seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_numbers_and_lists() {
        let status = serde_json::json!({ "clients": 3, "contexts": [1, 2] });
        assert_eq!(amount(&status, "clients"), Some(3));
        assert_eq!(amount(&status, "contexts"), Some(2));
        assert_eq!(amount(&status, "resources"), None);
    }

    #[test]
    fn a_descriptor_more_is_a_leak() {
        let before = Usage { descriptors: 9, memory: 10_000 };
        let leak = Usage { descriptors: 10, memory: 10_000 };
        assert!(matches!(judge(before, before), Ok(Outcome::Passed(_))));
        assert!(matches!(judge(before, leak), Ok(Outcome::Failed(_))));
    }
}
