//! Command streams that name what is another's, or make no sense.

use virgld_protocol::client::Execbuffer;
use zerocopy::IntoBytes;

use super::{Case, Noise, must, must_refuse};
use crate::picture::{Picture, clear, copy, inline_write, submit, transfer};
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("stream-own-resources", own_resources),
    ("stream-reads-of-others", reads),
    ("stream-writes-to-others", writes),
    ("stream-every-number", every_number),
    ("stream-garbage", garbage),
    ("stream-truncated", truncated),
    ("stream-lengths", lengths),
];

fn armed(door: &Door) -> Outcome<(Client, Picture)> {
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    own.upload(&mut client, &vec![0x44; crate::picture::BYTES])?;
    Ok((client, own))
}

/// That the streams of this file do what they are to do, where they may.
fn own_resources(door: &Door, _: &mut Victim) -> Outcome<String> {
    let (mut client, own) = armed(door)?;
    let target = Picture::new(&mut client, 0)?;
    submit(&mut client, &copy(own.resource, target.resource), own.handle)?;
    must("a copy copies", target.download(&mut client)?.iter().all(|byte| *byte == 0x44))?;
    submit(&mut client, &inline_write(own.resource, 0x0102_0304), own.handle)?;
    must("a write writes", own.download(&mut client)?.starts_with(&[4, 3, 2, 1, 4, 3, 2, 1]))?;
    submit(&mut client, &clear(target.resource, 1), target.handle)?;
    must("a clear clears", target.download(&mut client)?.starts_with(&[0, 0, 255, 255]))?;
    Ok("copy, write and clear work on what is one's own: the attacks below are sound".into())
}

fn reads(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let theirs = victim.picture.resource;
    let copy_transfer = |own: u32| {
        let side = crate::picture::SIDE;
        vec![45 | 14 << 16, own, 0, 0, side * 4, 0, 0, 0, 0, side, side, 1, theirs, 0, 1]
    };
    let attempts: [&dyn Fn(u32) -> Vec<u32>; 3] =
        [&|own| copy(theirs, own), &|_| transfer(theirs, false), &copy_transfer];
    for attempt in attempts {
        let (mut client, own) = armed(door)?;
        submit(&mut client, &attempt(own.resource), own.handle)?;
        victim.is_unseen_in(&own.read()?)?;
        victim.is_unseen_in(&own.download(&mut client)?)?;
        victim.check()?;
    }
    Ok("copy, transfer and copying transfer of the victim's number show nothing".into())
}

fn writes(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let theirs = victim.picture.resource;
    let attempts: [&dyn Fn(u32) -> Vec<u32>; 4] =
        [&|own| copy(own, theirs), &|_| inline_write(theirs, 0xdead_beef), &|_| clear(theirs, 1), &|_| {
            transfer(theirs, true)
        }];
    for attempt in attempts {
        let (mut client, own) = armed(door)?;
        submit(&mut client, &attempt(own.resource), own.handle)?;
        victim.check()?;
    }
    Ok("copy, write, clear and transfer to the victim's number change nothing".into())
}

fn every_number(door: &Door, victim: &mut Victim) -> Outcome<String> {
    for number in (1..victim.picture.resource + 8).chain([u32::MAX, 1 << 31]) {
        let (mut client, own) = armed(door)?;
        if number == own.resource {
            continue;
        }
        submit(&mut client, &copy(number, own.resource), own.handle)?;
        victim.is_unseen_in(&own.download(&mut client)?)?;
        let (mut client, own) = armed(door)?;
        if number != own.resource {
            submit(&mut client, &inline_write(number, 0xdead_beef), own.handle)?;
        }
    }
    victim.check()?;
    Ok("no number of a resource reads or writes what is not the attacker's".into())
}

/// The device may refuse a stream or lose the context; the daemon and the others go on.
fn try_stream(door: &Door, stream: &[u32]) -> Outcome<()> {
    let (mut client, own) = armed(door)?;
    match submit(&mut client, stream, own.handle) {
        Ok(()) | Err(Failed::Errno(_)) => Ok(()),
        Err(other) => Err(other),
    }
}

fn garbage(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut noise = Noise(0x00c0_ffee);
    for round in 0..60 {
        let length = 1 + noise.below(400);
        let mut stream: Vec<u32> = (0..length).map(|_| noise.word()).collect();
        if round % 2 == 0 {
            // Heads that are well formed, so that more of it is looked at.
            stream.insert(0, noise.below(47) | noise.below(12) << 8 | (length & 0xffff) << 16);
        }
        try_stream(door, &stream)?;
        if round % 10 == 0 {
            victim.check()?;
        }
    }
    Ok("60 streams of noise: their contexts are lost, the device and the others live".into())
}

fn truncated(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let whole = [clear(1, 1), copy(1, 1), inline_write(1, 1)];
    for stream in &whole {
        for length in 1..stream.len().min(16) {
            try_stream(door, &stream[..length])?;
        }
    }
    for lie in [0xffff_0001_u32, 0xffff_0009, 0xffff_0007, 0xffff_ffff] {
        try_stream(door, &[lie, 1, 2, 3])?;
    }
    victim.check()?;
    Ok("streams that end too soon or claim to be longer are refused by the device".into())
}

fn lengths(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let none = Execbuffer { size: 0, fence_fd: -1, ..Execbuffer::default() };
    client.ioctl(&none, &[])?;
    let flags = Execbuffer { flags: !7, fence_fd: -1, ..Execbuffer::default() };
    must_refuse("unknown flags", client.ioctl(&flags, &[]), rustix::io::Errno::INVAL)?;
    for (size, handles) in [(64, 0), (u32::MAX, 0), (0, u32::MAX), (0, 2), (1 << 31, 1 << 30)] {
        let mut liar = door.open()?;
        let fixed = Execbuffer { size, num_bo_handles: handles, fence_fd: -1, ..Execbuffer::default() };
        let attempt = liar.ioctl(&fixed, &[[7_u32].as_bytes()]);
        must("a count without its bytes was believed", matches!(attempt, Err(Failed::CutOff)))?;
    }
    victim.check()?;
    Ok("a count that its bytes belie costs the liar its file".into())
}
