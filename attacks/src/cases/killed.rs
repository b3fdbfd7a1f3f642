//! Clients that are killed in the middle of a call: of every ioctl that there is, and of what goes before and after one.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use virgld_protocol::client::layout_of;

use super::{Case, Noise, must, play};
use crate::kept::nothing_is_kept_for;
use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("killed-at-any-moment", |door, victim| {
        let killed = kill(door, victim, "everything", 20, 120_000)?;
        nothing_is_kept_for(door, &killed.processes)?;
        Ok("20 clients killed while they did all kinds of calls".into())
    }),
    ("killed-in-each-ioctl", each_ioctl),
    ("killed-with-half-a-record", |door, victim| ends(door, victim, play::HALF_A_RECORD)),
    ("killed-with-descriptors-on-the-way", |door, victim| ends(door, victim, play::DESCRIPTORS)),
    ("killed-with-all-slots-waiting", |door, victim| ends(door, victim, play::ALL_SLOTS)),
    ("killed-behind-a-fence-of-others", |door, victim| ends(door, victim, play::BEHIND_A_FENCE)),
    ("killed-with-its-own-sockets-on-the-way", |door, victim| ends(door, victim, play::OWN_SOCKETS)),
    ("killed-while-greeting", |door, victim| ends(door, victim, play::GREETING)),
];

fn each_ioctl(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const TIMES: usize = 4;
    let numbers: Vec<u8> = (0..=u8::MAX).filter(|number| layout_of(*number).is_some()).collect();
    let mut killed = HashSet::new();
    for number in &numbers {
        killed.extend(kill(door, victim, &format!("{number}"), TIMES, 6000)?.processes);
    }
    nothing_is_kept_for(door, &killed)?;
    let ioctls = numbers.len();
    must("no ioctls", ioctls > 70)?;
    Ok(format!(
        "{TIMES} clients killed in each of {ioctls} ioctls, {} in all: nothing is left of them",
        killed.len()
    ))
}

fn ends(door: &Door, victim: &mut Victim, role: &str) -> Outcome<String> {
    // The last of these are let go of after ten seconds, and have the screen until then.
    let times = if role == play::BEHIND_A_FENCE { 2 } else { 8 };
    let killed = kill(door, victim, role, times, 10_000)?;
    nothing_is_kept_for(door, &killed.processes)?;
    Ok(format!("{times} clients killed with {role}: nothing is left of them"))
}

/// Clients that were.
#[derive(Default)]
struct Killed {
    /// Their numbers.
    processes: HashSet<u32>,
    /// What would signal the fences that they had from here, and never does.
    _fences: Vec<OwnedFd>,
}

/// Starts clients of this role, and kills each within so many microseconds after it began.
fn kill(door: &Door, victim: &mut Victim, role: &str, times: usize, within: u32) -> Outcome<Killed> {
    let mut noise = Noise(5);
    let here = std::env::current_exe().map_err(|error| Failed::Setup(error.to_string()))?;
    let mut killed = Killed::default();
    for round in 0..times {
        let (fence, signal) = pipe_with(PipeFlags::CLOEXEC)?;
        killed._fences.push(signal);
        let mut child = Command::new(&here)
            .args(["--play", role, "--seed", &format!("{}", round + 1), "--runtime-dir"])
            .arg(&door.0)
            .stdin(fence)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failed::Setup(error.to_string()))?;
        let begun = child.stdout.take().map(|output| BufReader::new(output).lines().next());
        std::thread::sleep(Duration::from_micros(u64::from(noise.below(within))));
        let ended = child.try_wait();
        let _ = child.kill();
        let _ = child.wait();
        if !matches!((begun, &ended), (Some(Some(Ok(_))), Ok(None))) {
            return Err(Failed::Setup(format!("the client to be killed in {role} ended before: {ended:?}")));
        }
        killed.processes.insert(child.id());
        victim.check().map_err(|error| Failed::Setup(format!("after a kill in {role}: {error}")))?;
    }
    Ok(killed)
}
