//! What a device process writes to its standard error, on its way to the daemon's log: a bounded number of lines in a
//! time. Strangers' command streams have it complain, and must not be able to fill a disk with that.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;

use super::clock::now;
use super::log_limit::{LogLimit, MOST_LINES, PERIOD};
use super::process::wait_readable;

/// Copies what the device says to the log, line by line, until it closes its end. A line that is too long is cut
/// into several.
pub(super) fn copy(stderr: impl Read + AsFd, name: &str) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut limit = LogLimit::default();
    loop {
        // Where the device falls silent after a flood, nothing else would tell how much was left out.
        if let Some(due) = limit.to_be_told()
            && reader.buffer().is_empty()
            && !wait_readable(reader.get_ref().as_fd(), Some(due.since(now())))
        {
            told(limit.renew(now()), name);
            continue;
        }
        let Ok(1..) = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) else { break };
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if HARMLESS.iter().any(|harmless| text.contains(harmless)) {
            tracing::debug!(device = name, "{text}");
        } else if !text.is_empty() {
            let (admitted, left_out) = limit.take(now());
            told(left_out, name);
            if admitted {
                tracing::info!(device = name, "{text}");
            }
        }
        line.clear();
    }
    told(limit.left_out(), name);
}

fn told(left_out: u64, name: &str) {
    if left_out > 0 {
        tracing::warn!(device = name, "{left_out} lines left out: the log takes {MOST_LINES} in {PERIOD:?}");
    }
}

/// What devices say though nothing is wrong.
const HARMLESS: [&str; 4] = [
    "MESA-LOADER: failed to retrieve device information",
    "failed to get driver name for fd",
    "gl_version ",
    "GLSL feature level ",
];

/// In bytes.
const LONGEST_LINE: u64 = 2000;
