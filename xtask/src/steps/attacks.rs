//! A hostile client does its worst while a GL program beside it checks its own pixels, and leaves nothing behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::churn::settled;
use crate::daemon::{self, Daemon};
use crate::failure::{Failure, Result};
use crate::process::tail;
use crate::report::Outcome;
use crate::steps::Session;
use crate::workspace::Workspace;

/// It takes all files that a user may have, so no other program of the same user can start meanwhile.
const ALONE: &str = "connection-flood";

/// Runs all attacks; those that leave others room, beside a program that draws.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        draw(workspace, daemon)?;
        let before = settled(daemon)?.descriptors;
        let list = daemon.run(workspace.release("attacks")).arg("--list").output()?;
        let (alone, beside): (Vec<&str>, Vec<&str>) = list.lines().partition(|name| *name == ALONE);
        let over = AtomicBool::new(false);
        let drawn = thread::scope(|scope| {
            let victim = scope.spawn(|| {
                let mut drawn = 0;
                while !over.load(Ordering::Relaxed) {
                    draw(workspace, daemon)?;
                    drawn += 1;
                }
                Ok::<usize, Failure>(drawn)
            });
            let attacked = attack(workspace, daemon, &beside);
            over.store(true, Ordering::Relaxed);
            let drawn = victim.join().map_err(|_| Failure::new("a thread of xtask panicked"))?;
            attacked.and(drawn)
        })?;
        attack(workspace, daemon, &alone)?;
        draw(workspace, daemon)?;
        let after = settled(daemon)?.descriptors;
        if after > before {
            return Ok(Outcome::Failed(format!("descriptors left behind: {before} then {after}")));
        }
        let held = beside.len() + alone.len();
        Ok(Outcome::Passed(format!("{held} attacks; a program beside them drew {drawn} times, pixels right")))
    })
}

fn attack(workspace: &Workspace, daemon: &Daemon, cases: &[&str]) -> Result<()> {
    let attacks = daemon.run(workspace.release("attacks")).args(cases).limit(Duration::from_secs(400));
    let finished = attacks.capture()?;
    print!("{}", finished.text);
    if finished.success() { Ok(()) } else { Err(Failure::new(tail(&finished.text, 40))) }
}

fn draw(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let cases = ["--expect-renderer", "virgl", "clear", "draw-shaded"];
    let finished =
        daemon.run(workspace.release("glcheck")).args(cases).limit(Duration::from_secs(60)).capture()?;
    if finished.success() {
        return Ok(());
    }
    Err(Failure::new(format!("the program beside the attacker failed:\n{}", tail(&finished.text, 20))))
}
