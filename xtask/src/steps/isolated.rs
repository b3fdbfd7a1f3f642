//! Programs that have a daemon and a device process of their own.

use std::fs;

use crate::failure::{Context, Failure, Result};
use crate::report::Outcome;
use crate::steps::Session;
use crate::steps::apart::{apart, check_at_once};

/// Two at once draw right, a program's exit code is passed on, and nothing of theirs stays.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    let folder = tempfile::Builder::new().prefix("virgld-").tempdir().context(|| "no folder".into())?;
    let meeting = folder.path().join("run");
    check_at_once(workspace, "--isolated", &meeting, 2)?;
    let finished = apart(workspace, "--isolated", &meeting, &["glcheck", "--platform", "none"])?;
    if finished.status.and_then(|status| status.code()) != Some(2) {
        return Err(Failure::new(format!("the program's code 2 became {:?}", finished.status)));
    }
    let left: Vec<_> = fs::read_dir(&meeting).context(|| "the directory is gone".into())?.flatten().collect();
    if !left.is_empty() {
        return Err(Failure::new(format!("something stayed behind: {left:?}")));
    }
    Ok(Outcome::Passed("two at once; exit code passed on; nothing left behind".into()))
}
