//! A hostile client against a running daemon and its real device: each case tries something that must not work. Beside
//! it lives a victim, another client, whose texture must be as it was after each case, and who must see no error.
#![deny(unsafe_code)]

mod cases;
mod drawing;
mod fairness;
mod kept;
mod picture;
mod prisoner;
mod raw;
mod timing;
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
    /// In place of the other attacks, those that hang or crash the host renderer, which all who share the device feel.
    #[arg(long)]
    host: bool,
    /// The daemon has contexts outlive their device: the victim must keep its texture even where that is lost.
    #[arg(long, requires = "host")]
    survive: bool,
    /// Measure for so many seconds, in place of attacks, what a flood of large submits leaves to another client.
    #[arg(long, value_name = "SECONDS")]
    fairness: Option<u64>,
    /// Measure for so many seconds for each call, in place of attacks, how long it takes to refuse what is another's, and
    /// what is nobody's.
    #[arg(long, value_name = "SECONDS")]
    timing: Option<u64>,
    /// Work without end in this role, until killed: for the cases in which clients are.
    #[arg(long, hide = true)]
    play: Option<String>,
    #[arg(long, hide = true, default_value_t = 1)]
    seed: u64,
    /// Look at a file that was inherited: for the case in which a program does so.
    #[arg(long, hide = true)]
    inherit: Option<String>,
    /// The cases to run, all if none is named.
    cases: Vec<String>,
}

fn main() -> ExitCode {
    if prisoner::is_one() {
        return prisoner::look_around();
    }
    let options = Options::parse();
    let door = Door(options.runtime_dir);
    if let Some(role) = &options.play {
        return figures(role, cases::play(&door, role, options.seed));
    }
    if let Some(given) = &options.inherit {
        return figures("inherit", cases::inherit(given));
    }
    let seconds = std::time::Duration::from_secs;
    if let Some(time) = options.fairness {
        return figures("fairness", fairness::measure(&door, seconds(time)));
    }
    if let Some(time) = options.timing {
        return figures("timing", timing::measure(&door, seconds(time)));
    }
    let cases: Vec<_> = if options.host { cases::on_host().collect() } else { cases::all().collect() };
    if options.list {
        cases.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    let mut held = 0;
    let mut skipped = 0;
    for (name, case) in cases {
        if !options.cases.is_empty() && !options.cases.iter().any(|it| it == name) {
            continue;
        }
        match stand(&door, case, options.survive) {
            Ok(gained) => {
                held += 1;
                println!("ok {name}: {gained}");
            }
            Err(Failed::NotTried(reason)) => {
                skipped += 1;
                println!("skipped {name}: {reason}");
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error}");
            }
        }
    }
    println!("{held} held, {failed} failed, {skipped} skipped");
    if failed == 0 && held + skipped > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn figures(name: &str, measured: Result<(), Failed>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAIL {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a case beside a victim.
fn stand(door: &Door, case: cases::Case, survives: bool) -> Result<String, Failed> {
    let mut victim = Victim::new(door)?;
    victim.survives = survives;
    let gained = case(door, &mut victim)?;
    victim.check()?;
    Ok(gained)
}
