//! The two commands of virgld and the checks behind them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{Context, Result};
use crate::packages::{BENCH, DEVICE, PROGRAMS};
use crate::workspace::Workspace;

mod compositor;
mod daemon;
mod demo;
mod failure;
mod follow;
mod fuzz;
mod packages;
mod process;
mod redox_toolchain;
mod report;
mod setup;
mod sheet;
mod soak;
mod steps;
mod vm;
mod windows;
mod workspace;

/// Everything there is to do in this repository, each with its own set-up.
///
/// On a fresh Debian 12 machine with Rust, start with
///
///     cargo xtask demo     to see GL programs render through virgld
///     cargo xtask test     to check everything
///
/// Missing Debian packages are installed if you are root; otherwise you are shown
/// the command that installs them. No GPU and no /dev/dri are needed.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the Debian packages that demo and bench need, or show the command that does.
    ///
    /// The other commands do this by themselves, each for what it needs; `test` needs piglit too (2 GB).
    Setup,
    /// Check everything that must hold, step by step; fails where a step does.
    ///
    /// Prints a table of the steps at the end, and as its last line `N passed, N failed, N skipped`. The
    /// steps from glcheck on run programs on a daemon and a device process of their own. Some examples:
    ///
    ///     cargo xtask test
    ///     cargo xtask test --only fmt,clippy,unit
    ///     cargo xtask test --only piglit
    #[command(verbatim_doc_comment)]
    Test {
        /// Run only these steps, separated by commas.
        #[arg(long, value_name = "STEP", value_delimiter = ',')]
        only: Vec<String>,
        /// List the steps and end.
        #[arg(long)]
        list: bool,
    },
    /// Run several unmodified GL programs at once through virgld and keep pictures of what they rendered.
    ///
    /// Shows each program's renderer and frame rate. The pictures lie in target/demo/; all.png has them all.
    Demo,
    /// Measure virgld beside its floor, llvmpipe and virpipe with virgl_test_server.
    ///
    /// Everything after `bench` goes to the program virgld-bench: `cargo xtask bench --help` shows its options.
    /// With `--vm` it is other programs, in a virtual machine, beside the kernel's driver: `cargo xtask bench --vm --help`.
    #[command(disable_help_flag = true)]
    Bench {
        /// Measure on a PCI device in a virtual machine.
        #[arg(long)]
        vm: bool,
        /// Arguments of virgld-bench.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Feed random input to everything that hears strangers, guided by coverage, for so long as you like.
    ///
    /// Without a name, every target gets an equal part of the time. What was learnt stays in target/fuzz/corpus for the next
    /// run. An input that fails is kept in target/fuzz/found, and the command that runs it again is printed. The
    /// bounded run in `cargo xtask test` is part of the step `unit`. See docs/fuzzing.md.
    Fuzz {
        /// How long, for all targets together.
        #[arg(long, default_value_t = 10)]
        minutes: u32,
        /// The targets: `cargo run --package virgld-fuzz -- list` names them.
        targets: Vec<String>,
    },
    /// Endurance: clients come, go and are killed at random, the device is killed at random; memory and descriptors of
    /// the daemon must stay as they are, and its leak report empty.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// What decides the order of events.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the picture goes; without it, target/soak/soak.svg.
        #[arg(long, value_name = "FILE.svg")]
        picture: Option<std::path::PathBuf>,
    },
    /// The fault matrix: every actor and the device by every fault, on the simulated system, as a table and a picture.
    ///
    /// docs/faults.md has both and says what must be so; the step `unit` checks it.
    Matrix {
        /// Where the table goes.
        #[arg(long, value_name = "FILE.md", default_value = "target/matrix.md")]
        markdown: std::path::PathBuf,
        /// Where the picture goes.
        #[arg(long, value_name = "FILE.svg", default_value = "target/matrix.svg")]
        picture: std::path::PathBuf,
    },
    /// Find the files and functions that docs/follow-execbuffer.md names and that are gone.
    Follow,
}

fn main() -> ExitCode {
    match process::catch_interrupts().and_then(|()| run(Arguments::parse().command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked; tells whether all that was checked holds.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Setup => {
            setup::ensure(&[&DEVICE, &PROGRAMS, &BENCH]).map(|()| println!("nothing is missing"))?
        }
        Command::Test { list: true, .. } => steps::list(),
        Command::Test { only, .. } => return steps::run(&only),
        Command::Demo => {
            setup::ensure(&[&DEVICE, &PROGRAMS])?;
            demo::run(&Workspace::load()?)?;
        }
        Command::Bench { vm: true, arguments } => vm::bench::run(&arguments)?,
        Command::Bench { vm: false, arguments } => bench(&arguments)?,
        Command::Fuzz { minutes, targets } => return fuzz::run(&Workspace::load()?, minutes, &targets),
        Command::Soak { minutes, seed, picture } => {
            setup::ensure(&[&DEVICE, &PROGRAMS])?;
            return soak::run(&Workspace::load()?, &soak::Plan { minutes, seed, picture });
        }
        Command::Matrix { markdown, picture } => matrix(&markdown, &picture)?,
        Command::Follow => follow::run(&Workspace::load()?.root)?,
    }
    Ok(true)
}

/// Has the testkit go through all cells, and shows them.
fn matrix(markdown: &std::path::Path, picture: &std::path::Path) -> Result<()> {
    let workspace = Workspace::load()?;
    let task =
        process::Task::new("cargo").args(["run", "--quiet", "--package", "virgld-testkit", "--example"]);
    let task = task.arg("matrix").arg("--").arg(markdown).arg(picture).folder(&workspace.root);
    task.limit(std::time::Duration::from_secs(900)).show().context(|| "the fault matrix".into())
}

/// Runs the benchmark in this terminal until it ends.
fn bench(arguments: &[String]) -> Result<()> {
    setup::ensure(&[&DEVICE, &PROGRAMS, &BENCH])?;
    let workspace = Workspace::load()?;
    workspace.build_to_measure()?;
    let program = workspace.release("virgld-bench");
    let task = process::Task::new(&program).args(arguments).folder(&workspace.root);
    task.limit(std::time::Duration::from_secs(3600)).show().context(|| "the benchmark".into())
}
