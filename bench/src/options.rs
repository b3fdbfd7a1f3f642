//! What is to be measured, for how long, and where the results go.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::case::{DEVICE_CASES, MAPPED_CASES, NEIGHBOURS, SCREEN_CASES, gl_cases};
use crate::failure::{Failure, Result};
use crate::side::Side;

/// The options of a measurement.
#[derive(Args)]
pub(crate) struct Options {
    /// Measure for about two minutes rather than nine.
    #[arg(long)]
    quick: bool,
    /// Measure only these cases, separated by commas.
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    only: Vec<String>,
    /// How many GL clients there are at once, one after the other, separated by commas.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 4, 16], value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: Vec<u16>,
    /// In place of all else, measure with GL what `virgld serve --survive` costs: virgld with it and without, in turns.
    #[arg(long)]
    survive: bool,
    /// In place of all else, measure what it costs that the device has no place for a client's memory, so that copies are
    /// kept: virgld with such a device (`--regions 1`) and with the usual, in turns. Below GL with buffers that are mapped,
    /// and with GL.
    #[arg(long, conflicts_with = "survive")]
    copies: bool,
    /// Write the tables to this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Write a bar chart of the ratios to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Write all that was measured to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How often and how long each case is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pace {
    /// Rounds.
    pub(crate) rounds: usize,
    /// Seconds for each side in each round.
    pub(crate) seconds: f64,
}

impl Options {
    /// Refuses names that no case has.
    pub(crate) fn check(&self) -> Result<()> {
        let known = || {
            let below = DEVICE_CASES.iter().chain(&SCREEN_CASES).chain(&MAPPED_CASES).map(|case| case.name);
            let beside = NEIGHBOURS.iter().map(|case| case.name);
            below.chain(gl_cases().map(|(name, _)| name)).chain(beside)
        };
        match self.only.iter().find(|name| !known().any(|other| other == *name)) {
            Some(name) => {
                let known: Vec<_> = known().collect();
                Err(Failure::new(format!("there is no case {name}; there are {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// The side that virgld is measured beside, in place of all others.
    pub(crate) fn variant(&self) -> Option<Side> {
        if self.survive {
            return Some(Side::Surviving);
        }
        self.copies.then_some(Side::Copying)
    }

    /// Whether a case is to be measured.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == case)
    }

    /// How many GL clients there are at once.
    pub(crate) fn clients(&self) -> impl Iterator<Item = usize> {
        self.clients.iter().map(|count| usize::from(*count))
    }

    /// The pace below GL.
    pub(crate) fn device_pace(&self) -> Pace {
        if self.quick { Pace { rounds: 3, seconds: 0.2 } } else { Pace { rounds: 7, seconds: 0.4 } }
    }

    /// The pace of screens: a flip takes its time.
    pub(crate) fn screen_pace(&self) -> Pace {
        if self.quick { Pace { rounds: 3, seconds: 0.5 } } else { Pace { rounds: 5, seconds: 1.0 } }
    }

    /// The pace with so many GL clients: the more there are, the longer they take to keep step.
    pub(crate) fn gl_pace(&self, clients: usize) -> Pace {
        let (rounds, seconds) = match (self.quick, clients) {
            (true, 1) => (3, 0.2),
            (true, 2..=7) => (1, 0.4),
            (true, _) => (1, 0.6),
            (false, 1) => (5, 0.4),
            (false, 2..=7) => (3, 0.7),
            (false, _) => (3, 1.0),
        };
        Pace { rounds, seconds }
    }
}
