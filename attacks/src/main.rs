//! A hostile client against a running daemon and its real device: each case tries something that must not work. Beside
//! it lives a victim, another client, whose texture must be as it was after each case, and who must see no error.
#![forbid(unsafe_code)]

mod cases;
mod fairness;
mod picture;
mod victim;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::victim::Victim;
use crate::wire::{Door, Failed};

/// Attacks a running daemon as a hostile client would.
#[derive(Parser)]
struct Options {
    /// The daemon's runtime directory.
    #[arg(long, value_name = "DIR", env = "VIRGLD_DIR")]
    runtime_dir: PathBuf,
    /// List the cases and end.
    #[arg(long)]
    list: bool,
    /// Measure for so many seconds, in place of attacks, what a flood of large submits leaves to another client.
    #[arg(long, value_name = "SECONDS")]
    fairness: Option<u64>,
    /// Work without end, until killed: for the case in which clients are.
    #[arg(long, hide = true)]
    hammer: bool,
    /// The cases to run, all if none is named.
    cases: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let door = Door(options.runtime_dir);
    if options.hammer {
        // It is killed; whatever ends it before is seen by who waits for that.
        return if cases::hammer(&door).is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    if let Some(seconds) = options.fairness {
        return match fairness::measure(&door, std::time::Duration::from_secs(seconds)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("FAIL fairness: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if options.list {
        cases::all().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    let mut held = 0;
    for (name, case) in cases::all() {
        if !options.cases.is_empty() && !options.cases.iter().any(|it| it == name) {
            continue;
        }
        match stand(&door, case) {
            Ok(gained) => {
                held += 1;
                println!("ok {name}: {gained}");
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error}");
            }
        }
    }
    println!("{held} held, {failed} failed");
    if failed == 0 && held > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case beside a victim.
fn stand(door: &Door, case: cases::Case) -> Result<String, Failed> {
    let mut victim = Victim::new(door)?;
    let gained = case(door, &mut victim)?;
    victim.check()?;
    Ok(gained)
}
