//! Descriptors that are not ours, and those that are passed round and taken back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::Errno;
use rustix::pipe::pipe;
use virgld_protocol::channel::{SERVICE_MERGE, SERVICE_RESTRICT, SERVICE_REVOKE};
use virgld_protocol::client::{PrimeFdToHandle, PrimeHandleToFd, ResourceInfo};
use virgld_protocol::rights::Rights;
use zerocopy::IntoBytes;

use super::{Case, must, must_refuse};
use crate::picture::{BYTES, Picture, SHARED, copy, map, submit};
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("prime-strange-descriptors", strange),
    ("prime-round-and-twice", round),
    ("prime-of-dead-clients", of_the_dead),
    ("prime-with-fewer-rights", fewer_rights),
    ("prime-revoked", revoked),
    ("fences-strange-descriptors", strange_fences),
];

pub(super) fn import(client: &mut Client, descriptor: BorrowedFd<'_>) -> Outcome<u32> {
    let asked = PrimeFdToHandle { handle: 0, flags: 0, fd: 0 };
    client.ioctl_with(&asked, &[], &[descriptor]).map(|(made, _)| made.handle)
}

pub(super) fn export(client: &mut Client, handle: u32) -> Outcome<OwnedFd> {
    let (_, descriptors) = client.ioctl_with(&PrimeHandleToFd { handle, flags: 2, fd: -1 }, &[], &[])?;
    descriptors.into_iter().next().ok_or(Failed::Setup("no descriptor came".into()))
}

fn resource_of(client: &mut Client, handle: u32) -> Outcome<u32> {
    client.ioctl(&ResourceInfo { bo_handle: handle, ..Default::default() }, &[]).map(|info| info.res_handle)
}

/// Descriptors of all kinds that are no buffers of this device.
fn strangers(client: &Client) -> Outcome<Vec<OwnedFd>> {
    let again = |descriptor: BorrowedFd<'_>| rustix::io::dup(descriptor);
    let (reading, writing) = pipe()?;
    Ok(vec![
        open("/dev/null", OFlags::RDWR, Mode::empty())?,
        open("/", OFlags::RDONLY, Mode::empty())?,
        memfd_create("arena", MemfdFlags::CLOEXEC)?,
        eventfd(0, EventfdFlags::CLOEXEC)?,
        writing,
        reading,
        again(client.memory.as_fd())?,
        again(client.line.as_fd())?,
    ])
}

fn strange(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    let (arena, ..) = map(&mut client, own.handle)?;
    let mut strangers = strangers(&client)?;
    strangers.push(arena);
    for stranger in &strangers {
        must_refuse("an import", import(&mut client, stranger.as_fd()), Errno::INVAL)?;
    }
    let none = client.ioctl(&PrimeFdToHandle { handle: 0, flags: 0, fd: 0 }, &[]);
    must_refuse("an import of nothing", none, Errno::INVAL)?;
    victim.check()?;
    Ok(format!("{} descriptors, each refused: among them the channel's own and an arena", strangers.len()))
}

fn round(door: &Door, _: &mut Victim) -> Outcome<String> {
    let [mut one, mut two] = [door.open()?, door.open()?];
    let made = Picture::new(&mut one, SHARED)?;
    let descriptor = export(&mut one, made.handle)?;
    let first = import(&mut two, descriptor.as_fd())?;
    must("a second handle", import(&mut two, descriptor.as_fd())? == first)?;
    let back = export(&mut two, first)?;
    must("another handle for its own", import(&mut one, back.as_fd())? == made.handle)?;
    must("another buffer", resource_of(&mut two, first)? == made.resource)?;
    Ok("one buffer has one handle in a file, however often and by whomever it comes".into())
}

fn of_the_dead(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut one = door.open()?;
    let made = Picture::new(&mut one, SHARED)?;
    let descriptor = export(&mut one, made.handle)?;
    made.upload(&mut one, &[0x77; BYTES])?;
    drop(one);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut two = door.open()?;
    let handle = import(&mut two, descriptor.as_fd())?;
    must("its number is another's", resource_of(&mut two, handle)? == made.resource)?;
    let (memory, place, _) = map(&mut two, handle)?;
    let mut texels = vec![0; BYTES];
    rustix::io::pread(&memory, &mut texels, place)?;
    must("its contents are gone", texels.iter().all(|byte| *byte == 0x77))?;
    Ok("the buffer that was given, as on Linux, and no other".into())
}

fn fewer_rights(door: &Door, _: &mut Victim) -> Outcome<String> {
    let [mut maker, mut other] = [door.open()?, door.open()?];
    let made = Picture::new(&mut maker, SHARED)?;
    made.upload(&mut maker, &[0x21; BYTES])?;
    let only_map = [made.handle, Rights::MAP.bits()];
    maker.service(SERVICE_RESTRICT, only_map.as_bytes(), &[])?;
    let descriptor = export(&mut maker, made.handle)?;
    let own = Picture::new(&mut other, 0)?;
    let handle = import(&mut other, descriptor.as_fd())?;
    must_refuse("passing it on", export(&mut other, handle), Errno::ACCESS)?;
    must_refuse("executing", submit(&mut other, &[0], handle), Errno::ACCESS)?;
    let widen = [handle, Rights::all().bits()];
    must_refuse("widening", other.service(SERVICE_RESTRICT, widen.as_bytes(), &[]), Errno::ACCESS)?;
    // Nor by its number in a stream: it was never attached.
    submit(&mut other, &copy(made.resource, own.handle), own.handle)?;
    must("it was drawn from", !own.download(&mut other)?.contains(&0x21))?;
    Ok("what was given to be mapped alone is only mapped".into())
}

fn revoked(door: &Door, _: &mut Victim) -> Outcome<String> {
    let [mut maker, mut other] = [door.open()?, door.open()?];
    let mut made = Picture::new(&mut maker, SHARED)?;
    made.upload(&mut maker, &[0x31; BYTES])?;
    let descriptor = export(&mut maker, made.handle)?;
    let own = Picture::new(&mut other, 0)?;
    let handle = import(&mut other, descriptor.as_fd())?;
    submit(&mut other, &copy(made.resource, own.resource), handle)?;
    must("it could not be read when it was shared", own.download(&mut other)? == [0x31; BYTES])?;
    let (memory, place, _) = map(&mut other, handle)?;
    must_refuse(
        "revoking what is another's",
        other.service(SERVICE_REVOKE, handle.as_bytes(), &[]),
        Errno::ACCESS,
    )?;
    maker.service(SERVICE_REVOKE, made.handle.as_bytes(), &[])?;
    let again = map(&mut maker, made.handle)?;
    made.remap(again);
    made.upload(&mut maker, &[0x32; BYTES])?;
    must_refuse("using it", resource_of(&mut other, handle), Errno::NOENT)?;
    must_refuse("importing it", import(&mut other, descriptor.as_fd()), Errno::INVAL)?;
    let mut seen = vec![0; BYTES];
    rustix::io::pread(&memory, &mut seen, place)?;
    must("what was mapped shows what came later", !seen.contains(&0x32))?;
    rustix::io::pwrite(&memory, &[0x33; BYTES], place)?;
    // Its number in a stream: the context is in error from here on, and reads nothing.
    submit(&mut other, &copy(made.resource, own.resource), own.handle)?;
    must("its texture was read", !own.download(&mut other)?.contains(&0x32))?;
    must("its memory or texture was written", made.download(&mut maker)? == [0x32; BYTES])?;
    Ok("handle, descriptor, mapping and number are worth nothing any more".into())
}

fn strange_fences(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let strangers = strangers(&client)?;
    for stranger in &strangers {
        let both = [stranger.as_fd(), stranger.as_fd()];
        match client.service(SERVICE_MERGE, &[], &both) {
            // A pipe may be another driver's fence.
            Ok(_) | Err(Failed::Errno(_)) => {}
            Err(other) => return Err(other),
        }
    }
    victim.check()?;
    Ok("nothing but pipes that never signal".into())
}
