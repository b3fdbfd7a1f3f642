//! Banners while steps run, and the table at the end.

use std::time::{Duration, Instant};

use crate::failure::Result;

/// How one step ended.
pub(crate) enum Outcome {
    /// It holds; the text is what was seen, for the table.
    Passed(String),
    /// It does not hold.
    Failed(String),
    /// It could not be tried here; the text says why.
    Skipped(String),
}

/// The outcomes of a run, in order.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<(&'static str, Outcome, Duration)>,
}

impl Report {
    /// Runs one step under a banner and keeps its outcome.
    pub(crate) fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<Outcome>) {
        println!("\n==> {name}");
        let started = Instant::now();
        let outcome = run().unwrap_or_else(|failure| Outcome::Failed(failure.to_string()));
        let took = started.elapsed();
        println!("<== {name}: {} ({:.1} s)", outcome.word(), took.as_secs_f64());
        if let Outcome::Failed(text) = &outcome {
            println!("{text}");
        }
        self.rows.push((name, outcome, took));
    }

    /// Prints the table and the counts; tells whether nothing failed.
    pub(crate) fn finish(&self) -> bool {
        println!("\n{:<10} {:<8} {:>7}  what was seen", "step", "outcome", "seconds");
        for (name, outcome, took) in &self.rows {
            let line = outcome.text().lines().next().unwrap_or_default();
            println!("{name:<10} {:<8} {:>7.1}  {line}", outcome.word(), took.as_secs_f64());
        }
        let count = |word| self.rows.iter().filter(|(_, outcome, _)| outcome.word() == word).count();
        let failed = count("failed");
        println!("\n{} passed, {failed} failed, {} skipped", count("passed"), count("SKIPPED"));
        failed == 0
    }
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "SKIPPED",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Passed(text) | Self::Failed(text) | Self::Skipped(text) => text,
        }
    }
}
