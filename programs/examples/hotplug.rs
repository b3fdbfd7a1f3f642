//! Listens to udev for a display that changes, as a compositor does that is linked to libudev, and ends when it has heard.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virgld_programs::stop::{Stop, Verdict};
use virgld_programs::udev::Monitor;

/// Waits until a display changes.
#[derive(Parser)]
struct Options {
    /// For how many seconds at most.
    #[arg(long, default_value_t = 20)]
    seconds: u16,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            println!("FAIL hotplug: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Verdict {
    let monitor = Monitor::of_cards()?;
    println!("listening");
    io::stdout().flush()?;
    let patience = Timespec { tv_sec: options.seconds.into(), tv_nsec: 0 };
    loop {
        let descriptor = monitor.descriptor();
        if poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&patience))? == 0 {
            return Err(Stop::failed(format!("no display changed within {} seconds", options.seconds)));
        }
        if monitor.hear() == Some(true) {
            println!("a display changed");
            return Ok(());
        }
    }
}
