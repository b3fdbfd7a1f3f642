//! What the crates may depend on: each other by the design's arrows, others by `deny.toml`.

use crate::failure::Result;
use crate::process::Finished;
use crate::report::Outcome;
use crate::steps::{Session, arrows, licences};

/// Checks arrows and unsafe code, then licences, sources and duplicates.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = &session.workspace;
    let mut offences = arrows::offences(&workspace.metadata);
    offences.extend(arrows::crates_that_allow_unsafe(&workspace.metadata)?);
    let cargo_deny = workspace.cargo(["deny", "--version"]).capture()?;
    let judge = if Finished::success(&cargo_deny) {
        workspace.cargo(["deny", "check", "bans", "licenses", "sources"]).show()?;
        "cargo-deny"
    } else {
        offences.extend(licences::offences(workspace)?);
        "own check of deny.toml (cargo-deny is not installed)"
    };
    if offences.is_empty() {
        return Ok(Outcome::Passed(format!("arrows, unsafe, licences and duplicates hold; {judge}")));
    }
    Ok(Outcome::Failed(offences.join("\n")))
}
