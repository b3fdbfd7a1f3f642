//! Measures virgld beside its floor and its peers, in one run, and reports ratios.
//!
//! The process that a person starts measures nothing itself: it starts players (this same program, with a
//! hidden argument) on each side and tells them, turn by turn, which case to measure and for how long.
#![deny(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::failure::Result;
use crate::options::Options;

mod case;
mod failure;
mod floor;
mod gl;
mod ioctl;
mod machine;
mod memory;
mod options;
mod peers;
mod player;
mod process;
mod report;
mod results;
mod rounds;
mod side;
mod team;

/// Measures virgld beside its floor (the same device commands with nothing in between), Mesa on llvmpipe, and
/// Mesa's virpipe on virgl_test_server. All sides take turns, round by round.
///
/// The figures are ratios of what was measured in the same round; nothing passes or fails.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what the standard input asks for: how this program uses itself.
    #[command(hide = true)]
    Play {
        /// What to measure on.
        ground: Ground,
    },
}

/// What a player measures on.
#[derive(Clone, Copy, ValueEnum)]
enum Ground {
    /// A device process of its own.
    Floor,
    /// The DRM node.
    Ioctl,
    /// A device process of its own, without 3D, that shows something.
    FloorScreen,
    /// The card's node, on which it sets a mode.
    Screen,
    /// GL.
    Gl,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Play { ground }) => play(ground),
        None => measure(&arguments.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    process::catch_interrupts()?;
    let results = rounds::run(options)?;
    report::write(options, &results)
}

fn play(ground: Ground) -> Result<()> {
    match ground {
        Ground::Floor => player::play(floor::Floor::start),
        Ground::Ioctl => player::play(ioctl::Ioctls::open),
        Ground::FloorScreen => player::play(floor::FloorScreen::start),
        Ground::Screen => player::play(ioctl::Screen::open),
        Ground::Gl => player::play(gl::GlPlayer::open),
    }
}
