//! The daemon and its tools on Linux.

mod busy_poll;
mod command_line;
mod control;
mod core;
mod device;
mod directory;
mod fault;
mod faults;
mod info;
mod isolated;
mod leaks;
mod pictures;
mod policy;
mod report;
mod run;
mod sandbox;
mod screenshot;
mod serve;
mod spread;
mod starter;
mod status;
mod timed;
mod tree;
mod view;
mod watchdog;
mod wiring;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use command_line::{Arguments, Command};

/// Runs what the command line asks for.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let default = if matches!(arguments.command, Command::Serve(_)) { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match arguments.command {
        Command::Serve(options) => serve::serve(&options).map(|()| ExitCode::SUCCESS),
        Command::Run(options) => run::run(&options),
        Command::Info(options) => info::info(&options).map(|()| ExitCode::SUCCESS),
        Command::Status(options) => status::status(&options).map(|()| ExitCode::SUCCESS),
        Command::Leaks(options) => leaks::leaks(&options),
        Command::Fault(options) => fault::fault(&options).map(|()| ExitCode::SUCCESS),
        Command::Resize(options) => fault::resize(&options).map(|()| ExitCode::SUCCESS),
        Command::View(options) => view::view(&options).map(|()| ExitCode::SUCCESS),
        Command::Screenshot(options) => screenshot::screenshot(&options).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("virgld: {error}");
        ExitCode::FAILURE
    })
}

/// Writes to the standard output. A reader that has seen enough, as `head` has, is no failure.
fn show(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Anything that ends a command, in words for whoever typed it.
type Error = Box<dyn std::error::Error>;
