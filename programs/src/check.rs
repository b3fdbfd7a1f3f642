//! The pixel checks: each case draws something and compares it with what was computed without GL.

mod buffers;
mod clear;
mod compute;
mod contexts;
mod draw;
mod framebuffer;
mod gbm;
mod queries;
mod sharing;
mod stage;
mod testing;
mod textures;

use std::path::Path;

pub use stage::Stage;

use crate::egl::Display;
use crate::stop::{Stop, Verdict};

/// A named check.
#[derive(Clone, Copy)]
pub struct Case {
    /// What one types to run it.
    pub name: &'static str,
    run: fn(&Stage<'_>) -> Verdict,
}

/// All cases, in the order in which they run.
pub fn cases() -> impl Iterator<Item = Case> {
    let groups = [
        clear::CASES,
        draw::CASES,
        textures::CASES,
        framebuffer::CASES,
        testing::CASES,
        buffers::CASES,
        queries::CASES,
        compute::CASES,
        contexts::CASES,
        sharing::CASES,
        gbm::CASES,
    ];
    groups.into_iter().flatten().map(|&(name, run)| Case { name, run })
}

type Listed = (&'static str, fn(&Stage<'_>) -> Verdict);

impl Case {
    /// Runs the case in a context of its own; a GL error that is left over is a failure.
    pub fn run(self, display: &Display, pictures: Option<&Path>) -> Verdict {
        let context = display.context()?;
        let stage = Stage::new(&context, self.name, pictures);
        (self.run)(&stage)?;
        context.activate()?;
        context.gl().check()
    }
}

/// How many cases ended in each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Cases without a complaint.
    pub passed: usize,
    /// Cases that saw something wrong.
    pub failed: usize,
    /// Cases that the driver does not offer.
    pub skipped: usize,
}

impl Tally {
    /// Counts an outcome, and says in one line what it was.
    pub fn count(&mut self, case: Case, outcome: &Verdict) -> String {
        let name = case.name;
        match outcome {
            Ok(()) => {
                self.passed += 1;
                format!("ok {name}")
            }
            Err(Stop::Failed(reason)) => {
                self.failed += 1;
                format!("FAIL {name}: {reason}")
            }
            Err(Stop::Skipped(reason)) => {
                self.skipped += 1;
                format!("skip {name}: {reason}")
            }
        }
    }
}
