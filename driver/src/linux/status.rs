//! `virgld status`.

use std::io::Read;
use std::time::Duration;

use super::command_line::{Meeting, Status};
use super::report::Report;
use super::{Error, show};

/// Shows what a running daemon is doing.
pub(crate) fn status(options: &Status) -> Result<(), Error> {
    let report = ask(&options.meeting)?;
    if options.json {
        show(&format!("{}\n", serde_json::to_string_pretty(&report)?))
    } else {
        show(&report.to_string())
    }
}

/// The state of the daemon that serves in a directory.
pub(crate) fn ask(meeting: &Meeting) -> Result<Report, Error> {
    let mut stream = meeting.daemon().map_err(|error| {
        let directory = meeting.directory();
        format!("no daemon serves in {}: {error}; start one with `virgld serve`", directory.display())
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(|error| format!("the daemon does not answer: {error}"))?;
    Ok(serde_json::from_slice(&text)
        .map_err(|error| format!("the daemon's answer makes no sense: {error}"))?)
}
