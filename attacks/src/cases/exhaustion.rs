//! Wanting everything.

use rustix::io::Errno;
use virgld_protocol::channel::SERVICE_FENCES;
use virgld_protocol::client::{GemClose, ResourceCreate, SyncobjCreate, SyncobjHandleToFd};
use zerocopy::IntoBytes;

use super::{Case, must, must_refuse, room_again};
use crate::picture::{Picture, SHARED};
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("quota-of-memory", memory),
    ("quota-of-shareable-buffers", shareable),
    ("quota-of-copied-memory", copied),
    ("quota-of-fences", fences),
    ("quota-of-shared-syncobjs", shared_syncobjs),
    ("connection-flood", connections),
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
