//! Steps that look at the code alone.

use std::time::Duration;

use crate::failure::{Context, Result};
use crate::process::{Finished, Task};
use crate::report::Outcome;
use crate::steps::Session;

/// The crates whose unit tests need nothing that Miri lacks: no sockets, no device, no child process, no shared mapping,
/// no property tests (too slow there). All of this is safe code: what Miri checks is what it stands on. The daemon's unsafe
/// code is not among it.
const UNDER_MIRI: &[&str] =
    &["virgld-protocol", "virgld-runtime", "virgld-context", "virgld-scheme", "virgld-transport"];

/// The tests of all crates take two minutes or three on two processors. Five times that is a test that hangs.
const TESTS_LIMIT: Duration = Duration::from_secs(600);

/// The code is formatted.
pub(crate) fn fmt(session: &Session) -> Result<Outcome> {
    session.workspace.cargo(["fmt", "--all", "--check"]).show()?;
    Ok(Outcome::Passed("formatted".into()))
}

/// Clippy has nothing to say.
pub(crate) fn clippy(session: &Session) -> Result<Outcome> {
    session.workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).show()?;
    Ok(Outcome::Passed("no warning".into()))
}

/// Unit, property and contract tests, and the examples in documentation. Some start a device process.
pub(crate) fn unit(session: &Session) -> Result<Outcome> {
    session.workspace.cargo(["test", "--workspace", "--no-run", "--quiet"]).show()?;
    let tests = session.workspace.cargo(["test", "--workspace"]).limit(TESTS_LIMIT);
    let (verdict, text) = tests.show_and_keep()?;
    verdict.context(|| unfinished(&text))?;
    refused_for_the_reason_given(session)?;
    Ok(Outcome::Passed("all tests pass".into()))
}

/// Which tests failed, and which had not come to an end long after they began, by what libtest wrote.
fn unfinished(text: &str) -> String {
    let mut failed = Vec::new();
    let mut slow = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("test ")) {
        if let Some((name, _)) = line.split_once(" has been running for over") {
            slow.push(name);
        } else if let Some((name, outcome)) = line.rsplit_once(" ... ") {
            slow.retain(|slow| *slow != name);
            if outcome == "FAILED" {
                failed.push(name);
            }
        }
    }
    let names =
        |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")));
    let told: Vec<String> =
        [names("failed", failed), names("came to no end", slow)].into_iter().flatten().collect();
    if told.is_empty() { "before any test failed".into() } else { told.join("; ") }
}

/// Examples that must not compile fail with the error that they name, and not because of a slip in the example. A stable
/// rustdoc compares no numbers unless it is told to behave as an unstable one, and what is built so is kept apart.
fn refused_for_the_reason_given(session: &Session) -> Result<()> {
    let packages = ["virgld-runtime", "virgld-protocol", "virgld-context"];
    session
        .workspace
        .cargo(["test", "--doc"])
        .args(packages.iter().flat_map(|name| ["--package", name]))
        .arg("--target-dir")
        .arg(session.workspace.target_folder("error-codes")?)
        .env("RUSTC_BOOTSTRAP", "1")
        .show()
}

/// The portable crates' tests under Miri.
pub(crate) fn miri(session: &Session) -> Result<Outcome> {
    let Some(toolchain) = toolchain_with_miri()? else {
        return Ok(Outcome::Skipped(
            "Miri is not installed: rustup component add miri --toolchain nightly".into(),
        ));
    };
    let crates = UNDER_MIRI.iter().flat_map(|name| ["--package", name]);
    Task::new("cargo")
        .args([toolchain, "miri", "test", "--lib"])
        .args(crates)
        .folder(&session.workspace.root)
        .without_env("CARGO")
        .without_env("RUSTUP_TOOLCHAIN")
        .limit(Duration::from_secs(600))
        .show()?;
    Ok(Outcome::Passed(UNDER_MIRI.join(", ")))
}

/// The toolchain argument by which `cargo miri` answers, if any does.
fn toolchain_with_miri() -> Result<Option<&'static str>> {
    for toolchain in ["+nightly", "+stable"] {
        let answer = Task::new("cargo")
            .args([toolchain, "miri", "--version"])
            .without_env("RUSTUP_TOOLCHAIN")
            .capture();
        if answer.as_ref().is_ok_and(Finished::success) {
            return Ok(Some(toolchain));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::unfinished;

    #[test]
    fn the_tests_that_failed_and_that_hang_are_named() {
        let text = "running 4 tests\n\
            test quick ... ok\n\
            test slow has been running for over 60 seconds\n\
            test stuck has been running for over 60 seconds\n\
            test slow ... ok\n\
            test wrong ... FAILED\n\
            test result: FAILED. 2 passed; 1 failed\n";
        assert_eq!(unfinished(text), "failed: wrong; came to no end: stuck");
        assert_eq!(unfinished("running 0 tests\n"), "before any test failed");
    }
}
