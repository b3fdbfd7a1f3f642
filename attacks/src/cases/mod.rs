//! The attacks. Each says what the attacker got.

mod channel;
mod draws;
mod ends;
mod exhaustion;
mod floods;
mod forks;
mod handles;
mod host;
mod killed;
mod memory;
mod play;
mod screens;
mod sharing;
mod strangers;
mod streams;
mod views;

use std::time::{Duration, Instant};

use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome};

pub(crate) use forks::inherit;
pub(crate) use play::play;

/// One attack.
pub(crate) type Case = fn(&Door, &mut Victim) -> Outcome<String>;

/// All attacks with their names.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Case)> {
    [
        handles::CASES,
        memory::CASES,
        sharing::CASES,
        views::CASES,
        streams::CASES,
        draws::CASES,
        screens::CASES,
        channel::CASES,
        exhaustion::CASES,
        floods::CASES,
        ends::CASES,
        killed::CASES,
        forks::CASES,
        strangers::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Attacks that cost the device. They are not among the others: whoever shares the device feels them.
pub(crate) fn on_host() -> impl Iterator<Item = (&'static str, Case)> {
    host::CASES.iter().copied()
}

/// Fails unless an attempt was refused with this error.
fn must_refuse<T>(what: &str, attempt: Outcome<T>, errno: rustix::io::Errno) -> Outcome<()> {
    match attempt {
        Err(Failed::Errno(got)) if got == errno.raw_os_error() => Ok(()),
        Err(other) => Err(Failed::Setup(format!("{what}: {other}, and not {errno:?}"))),
        Ok(_) => Err(Failed::Setup(format!("{what}: it worked"))),
    }
}

/// Waits until files can be opened again: the daemon learns of the end of each by itself.
fn room_again(door: &Door) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while door.open().is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    must("nobody is let in any more", door.open().is_ok())
}

fn must(what: &str, holds: bool) -> Outcome<()> {
    if holds { Ok(()) } else { Err(Failed::Setup(what.into())) }
}

/// Numbers without a pattern, the same in each run.
struct Noise(u64);

impl Noise {
    fn word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let [a, b, c, d, ..] = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.word() % bound.max(1)
    }
}
