//! The portable crates compile for Redox.

use std::time::Duration;

use crate::failure::Result;
use crate::redox_toolchain;
use crate::report::Outcome;
use crate::steps::Session;

/// The crates that must compile for Redox: all but the Linux client library and the tools.
const PORTABLE: &[&str] = &[
    "virgld-protocol",
    "virgld-runtime",
    "virgld-transport",
    "virgld-ctrlq",
    "virgld-cursorq",
    "virgld-keeper",
    "virgld-context",
    "virgld-resource",
    "virgld-scheme",
    "virgld-platform",
    "virgld",
];

/// Checks them with the standard library built from source: two to four minutes when it is the first time.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let compiler = redox_toolchain::compiler(&session.workspace)?;
    session
        .workspace
        .cargo(["check", "-Zbuild-std=std,panic_abort", "--target", "x86_64-unknown-redox"])
        .args(PORTABLE.iter().flat_map(|name| ["--package", name]))
        .env("RUSTC", compiler)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", session.workspace.target_folder("redox")?)
        .limit(Duration::from_secs(900))
        .show()?;
    Ok(Outcome::Passed(
        PORTABLE.iter().map(|name| name.trim_start_matches("virgld-")).collect::<Vec<_>>().join(" "),
    ))
}
