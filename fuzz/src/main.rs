//! Lists the targets of fuzzing, and runs single inputs again.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Random input for everything in virgld that hears strangers. Long runs: cargo xtask fuzz
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the name of each target and what it covers.
    List,
    /// Runs the inputs in these files again; an input that fails panics with what is wrong.
    Replay {
        /// The target.
        target: String,
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Runs inputs that are changed seeds, without guidance: so many of them, from a number on.
    Blind {
        /// The target.
        target: String,
        /// The folder with the seeds.
        seeds: PathBuf,
        /// The number of the first.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// How many.
        #[arg(long, default_value_t = 1)]
        count: u64,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), String> {
    match command {
        Command::List => {
            for target in virgld_fuzz::TARGETS {
                println!("{:<10}  {}", target.name, target.about);
            }
        }
        Command::Replay { target, files } => {
            let target = find(&target)?;
            for file in files {
                let bytes =
                    fs::read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
                println!("{}: {} bytes", file.display(), bytes.len());
                (target.run)(&bytes);
            }
        }
        Command::Blind { target, seeds, first, count } => {
            let target = find(&target)?;
            let seeds = read_all(&seeds)?;
            for number in first..first.saturating_add(count) {
                println!("input {number}");
                (target.run)(&virgld_fuzz::blind::mutation(&seeds, number));
            }
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static virgld_fuzz::Target, String> {
    let names = || virgld_fuzz::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    virgld_fuzz::find(name).ok_or_else(|| format!("there is no target {name:?}; the targets are {}", names()))
}

/// Every file of a folder, by name.
fn read_all(folder: &PathBuf) -> Result<Vec<Vec<u8>>, String> {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).map_err(failed)?.flatten().map(|it| it.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).map_err(failed)).collect()
}
