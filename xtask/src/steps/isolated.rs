//! Programs that have a daemon and a device process of their own.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::daemon::clean;
use crate::failure::{Context, Failure, Result};
use crate::process::{Finished, Task, tail};
use crate::report::Outcome;
use crate::steps::Session;
use crate::workspace::Workspace;

/// Two at once draw right, a program's exit code is passed on, and nothing of theirs stays.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    let folder = tempfile::Builder::new().prefix("virgld-").tempdir().context(|| "no folder".into())?;
    let meeting = folder.path().join("run");
    let isolated = |program: &[&str]| apart(workspace, "--isolated", &meeting, program);
    let check = || isolated(&["glcheck", "--expect-renderer", "virgl"]);
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(check);
        (check(), other.join().map_err(|_| Failure::new("a thread of xtask panicked")))
    });
    for finished in [one?, other??] {
        if !finished.success() {
            return Err(Failure::new(format!("glcheck failed:\n{}", tail(&finished.text, 30))));
        }
    }
    let finished = isolated(&["glcheck", "--platform", "none"])?;
    if finished.status.and_then(|status| status.code()) != Some(2) {
        return Err(Failure::new(format!("the program's code 2 became {:?}", finished.status)));
    }
    let left: Vec<_> = fs::read_dir(&meeting).context(|| "the directory is gone".into())?.flatten().collect();
    if !left.is_empty() {
        return Err(Failure::new(format!("something stayed behind: {left:?}")));
    }
    Ok(Outcome::Passed("two at once; exit code passed on; nothing left behind".into()))
}

/// Runs a program that is not on the one daemon of all, in a `way` of `virgld run`.
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
