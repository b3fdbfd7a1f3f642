//! Shares buffers between two processes by dmabuf: one exports, the other imports and answers.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use virgld_programs::share::{export, import};
use virgld_programs::stop::Stop;

/// What automatic tests take for "not tried".
const SKIPPED: u8 = 77;

/// Shares buffers between two processes by dmabuf. Ends with 77 if the driver offers none.
#[derive(Parser)]
struct Options {
    /// How many times each buffer goes back and forth.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Which end to be; the exporter starts the importer by itself.
    #[arg(long, value_enum, default_value_t = Role::Exporter, hide = true)]
    role: Role,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Exporter,
    Importer,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.role {
        Role::Exporter => export::run(options.rounds),
        Role::Importer => import::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Skipped(reason)) => {
            println!("skip glshare: {reason}");
            ExitCode::from(SKIPPED)
        }
        Err(Stop::Failed(reason)) => {
            println!("FAIL glshare: {reason}");
            ExitCode::FAILURE
        }
    }
}
