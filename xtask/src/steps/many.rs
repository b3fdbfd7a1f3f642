//! Sixteen programs at once through one daemon, each with its pixels checked.

use std::thread;
use std::time::Duration;

use crate::daemon::{self, Daemon};
use crate::failure::{Failure, Result};
use crate::process::{Finished, tail};
use crate::report::Outcome;
use crate::steps::Session;
use crate::workspace::Workspace;

const PROGRAMS: usize = 16;

/// Starts them together and waits for all.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        let results: Vec<_> = thread::scope(|scope| {
            let programs: Vec<_> = (0..PROGRAMS).map(|_| scope.spawn(|| check(workspace, daemon))).collect();
            programs.into_iter().map(|program| program.join()).collect()
        });
        for (index, result) in results.into_iter().enumerate() {
            let finished = result.map_err(|_| Failure::new("a thread of xtask panicked"))??;
            println!("program {index}: {:.1} s", finished.took.as_secs_f64());
            if !finished.success() {
                return Err(Failure::new(format!("program {index} failed:\n{}", tail(&finished.text, 30))));
            }
        }
        Ok(Outcome::Passed(format!("{PROGRAMS} programs, pixels right in each")))
    })
}

fn check(workspace: &Workspace, daemon: &Daemon) -> Result<Finished> {
    daemon
        .run(workspace.release("glcheck"))
        .args(["--expect-renderer", "virgl"])
        .limit(Duration::from_secs(240))
        .capture()
}
