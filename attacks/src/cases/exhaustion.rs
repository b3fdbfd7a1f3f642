//! Wanting everything.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use virgld_protocol::channel::SERVICE_FENCES;
use virgld_protocol::client::{GemClose, GetCap, ResourceCreate, SyncobjCreate, SyncobjHandleToFd};
use zerocopy::IntoBytes;

use super::{Case, must, must_refuse, room_again};
use crate::picture::{Picture, SHARED};
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome, is_closed, is_closed_soon, send};

pub(super) const CASES: &[(&str, Case)] = &[
    ("quota-of-memory", memory),
    ("quota-of-shareable-buffers", shareable),
    ("quota-of-copied-memory", copied),
    ("quota-of-fences", fences),
    ("quota-of-shared-syncobjs", shared_syncobjs),
    ("connection-flood", connections),
    ("silent-connections", silent),
    ("log-of-a-noisy-client", noisy),
];

fn create(client: &mut Client, size: u32, bind: u32) -> Outcome<u32> {
    let asked = ResourceCreate {
        target: 0,
        format: 64,
        bind,
        width: 4096,
        height: 1,
        depth: 1,
        array_size: 1,
        size,
        ..Default::default()
    };
    client.ioctl(&asked, &[]).map(|made| made.bo_handle)
}

/// Does it until it is refused with this error, and says how often it worked.
fn until_refused<T>(
    most: usize,
    expected: Errno,
    mut attempt: impl FnMut() -> Outcome<T>,
) -> Outcome<(usize, Failed, Vec<T>)> {
    let mut got = Vec::new();
    while got.len() < most {
        match attempt() {
            Ok(one) => got.push(one),
            Err(Failed::Errno(errno)) if errno == expected.raw_os_error() => {
                return Ok((got.len(), Failed::Errno(errno), got));
            }
            Err(Failed::Errno(errno)) => {
                let got = got.len();
                return Err(Failed::Setup(format!(
                    "{}, and not {expected:?}, after {got}",
                    Failed::Errno(errno)
                )));
            }
            Err(other) => return Err(other),
        }
    }
    Err(Failed::Setup(format!("{most} were given without end")))
}

fn others_go_on(door: &Door, victim: &mut Victim) -> Outcome<()> {
    victim.check()?;
    let mut other = door.open()?;
    Picture::new(&mut other, 0)?.upload(&mut other, &victim.texels)
}

fn memory(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let (count, error, _) = until_refused(64, Errno::NOMEM, || create(&mut client, 128 << 20, 0))?;
    others_go_on(door, victim)?;
    Ok(format!("{count} buffers of 128 MiB, then {error}; others go on"))
}

fn shareable(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let (count, error, _) = until_refused(5000, Errno::NOMEM, || create(&mut client, 4096, SHARED))?;
    others_go_on(door, victim)?;
    Ok(format!("{count} buffers with memory of their own, then {error}; others go on"))
}

/// The device has 32 places for regions at most: what finds none is kept three times, and two of these are the daemon's.
fn copied(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const PLACES: usize = 32;
    const LARGE: u32 = 32 << 20;
    let mut client = door.open()?;
    // Its arena has a place at the device.
    create(&mut client, 4096, 0)?;
    for _ in 0..PLACES {
        create(&mut client, 4096, SHARED)?;
    }
    let (count, error, large) = until_refused(64, Errno::NOMEM, || create(&mut client, LARGE, SHARED))?;
    // Its quota of shareable buffers alone would allow for twice as many.
    must("it is refused for another reason", count * LARGE as usize <= 1 << 29)?;
    create(&mut client, LARGE, 0)?;
    others_go_on(door, victim)?;
    let mut other = door.open()?;
    create(&mut other, LARGE, SHARED)?;
    for handle in large {
        client.ioctl(&GemClose { handle, pad: 0 }, &[])?;
    }
    create(&mut client, LARGE, SHARED)?;
    Ok(format!(
        "{count} buffers of 32 MiB that are copied, then {error}; what needs no copies is made, others go on"
    ))
}

fn fences(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let (count, error, _) = until_refused(5000, Errno::MFILE, || {
        client.service(SERVICE_FENCES, 1_u32.as_bytes(), &[]).map(|it| it.descriptors)
    })?;
    others_go_on(door, victim)?;
    Ok(format!("{count} fences in advance, then {error}; others go on"))
}

fn shared_syncobjs(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let (count, error, _) = until_refused(5000, Errno::MFILE, || {
        let handle = client.ioctl(&SyncobjCreate::default(), &[])?.handle;
        let asked = SyncobjHandleToFd { handle, fd: -1, ..Default::default() };
        client.ioctl_with(&asked, &[], &[]).map(|(_, descriptors)| descriptors)
    })?;
    others_go_on(door, victim)?;
    Ok(format!("{count} shared synchronisation objects, then {error}; others go on"))
}

fn connections(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let (count, error, files) = until_refused(2000, Errno::MFILE, || door.open())?;
    victim.check()?;
    must_refuse("one more", door.open().map(drop), Errno::MFILE)?;
    drop(files);
    room_again(door)?;
    Ok(format!("{count} files, then {error}; those that are open work on, and afterwards there is room"))
}

/// Connections that say nothing, as many as there may be, and one that greeted and has been idle since.
fn silent(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut idle = door.open()?;
    let (count, _, silent) = until_refused(2000, Errno::MFILE, || door.connect())?;
    must_refuse("at once", door.open().map(drop), Errno::MFILE)?;
    let begin = Instant::now();
    let patience = Duration::from_secs(20);
    while door.open().is_err() {
        must("silent connections keep others out", begin.elapsed() < patience)?;
        sleep(Duration::from_millis(100));
    }
    let waited = begin.elapsed().as_secs();
    let [first, .., last] = &silent[..] else { return Err(Failed::Setup("too few connections".into())) };
    must("it is not the first that gave way", is_closed_soon(first.as_fd()))?;
    must("more gave way than there was need for", !is_closed(last.as_fd()))?;
    // Each that comes takes a place, and those that spoke keep theirs.
    let come: Vec<Client> = (0..count).map(|_| door.open()).collect::<Outcome<_>>()?;
    idle.ioctl(&GetCap { capability: 1, value: 0 }, &[])?;
    must_refuse("once all have spoken", door.open().map(drop), Errno::MFILE)?;
    victim.check()?;
    drop((come, silent, idle));
    room_again(door)?;
    Ok(format!(
        "{count} silent connections keep others out for {waited} s, then give way one by one; who spoke stays"
    ))
}

/// Breaks rules without end, while somebody else breaks one. Who reads the log must find them there.
fn noisy(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const TIMES: usize = 600;
    for _ in 0..TIMES {
        rude(door)?;
    }
    let here = std::env::current_exe().map_err(|error| Failed::Setup(error.to_string()))?;
    let mut other = Command::new(here);
    other.args(["--play", super::play::ONE_RUDE_WORD, "--runtime-dir"]).arg(&door.0).stdout(Stdio::null());
    let mut other = other.spawn().map_err(|error| Failed::Setup(error.to_string()))?;
    let ended = other.wait().map_err(|error| Failed::Setup(error.to_string()))?;
    must("who breaks one rule", ended.success())?;
    victim.check()?;
    Ok(format!("process {} broke one rule after {TIMES} of process {}", other.id(), std::process::id()))
}

/// Says what is no greeting, and is cut off.
pub(super) fn rude(door: &Door) -> Outcome<()> {
    let connection = door.connect()?;
    send(connection.as_fd(), b"rude", &[])?;
    must("it was borne", is_closed_soon(connection.as_fd()))
}
