//! Programs that are not on the one daemon of all.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::daemon::clean;
use crate::failure::{Failure, Result};
use crate::process::{Finished, Task, tail};
use crate::workspace::Workspace;

/// So many at once draw right.
pub(super) fn check_at_once(workspace: &Workspace, way: &str, meeting: &Path, programs: usize) -> Result<()> {
    let check = || apart(workspace, way, meeting, &["glcheck", "--expect-renderer", "virgl"]);
    thread::scope(|scope| {
        let programs: Vec<_> = (0..programs).map(|_| scope.spawn(check)).collect();
        for program in programs {
            let finished = program.join().map_err(|_| Failure::new("a thread of xtask panicked"))??;
            if !finished.success() {
                return Err(Failure::new(format!("glcheck failed:\n{}", tail(&finished.text, 30))));
            }
        }
        Ok(())
    })
}

/// Runs a program in a `way` of `virgld run`.
pub(super) fn apart(workspace: &Workspace, way: &str, meeting: &Path, program: &[&str]) -> Result<Finished> {
    clean(Task::new(workspace.release("virgld")))
        .args(["run", way, "--runtime-dir"])
        .arg(meeting)
        .arg("--")
        .arg(workspace.release(program[0]))
        .args(&program[1..])
        .limit(Duration::from_secs(240))
        .capture()
}
