//! The far end of a [`crate::team::Team`]: a process that measures one case at a time, as it is told.
//!
//! It says what it measures on, in one line; then it answers each line `CASE SECONDS` with one line of JSON, and
//! ends when its standard input does. So it never outlives who started it by more than a case.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use virgld_programs::bench::Figures;
use virgld_programs::stop::{Stop, Verdict};

use crate::failure::{Context, Failure, Result};

/// Something that can be measured.
pub(crate) trait Player {
    /// What it measures on.
    fn about(&self) -> String;

    /// Measures one case for `seconds`.
    fn measure(&mut self, case: &str, seconds: f64) -> Verdict<Figures>;
}

/// A line from a player.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// It is ready, and measures on this.
    Ready(String),
    /// What it measured.
    Measured(Figures),
    /// Why it did not.
    Failed(String),
}

/// Plays what `open` gives until there is nothing left to do.
pub(crate) fn play<P: Player>(open: impl FnOnce() -> Verdict<P>) -> Result<()> {
    let mut player = open().map_err(|stop| Failure::new(stop.to_string()))?;
    say(&Line::Ready(player.about()))?;
    for line in io::stdin().lock().lines() {
        let line = line.context("cannot read what to measure")?;
        say(&match asked(&line).and_then(|(case, seconds)| player.measure(case, seconds)) {
            Ok(figures) => Line::Measured(figures),
            Err(stop) => Line::Failed(stop.to_string()),
        })?;
    }
    Ok(())
}

fn asked(line: &str) -> Verdict<(&str, f64)> {
    let parts = line.split_once(' ').and_then(|(case, seconds)| Some((case, seconds.parse().ok()?)));
    parts.ok_or_else(|| Stop::failed(format!("expected a case and seconds, saw {line:?}")))
}

fn say(line: &Line) -> Result<()> {
    let text = serde_json::to_string(line).context("cannot write JSON")?;
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).context("nobody listens any more")
}
