//! Memory of others, and what memory held before.

use rustix::io::Errno;
use virgld_protocol::client::{GemClose, TransferFromHost, TransferToHost};

use super::{Case, Noise, must, must_refuse};
use crate::picture::{BYTES, Picture, SIDE, map_offset, wait};
use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("mmap-offset-of-others", offset_of_others),
    ("mmap-forged-offsets", forged_offsets),
    ("memory-recycled", recycled),
    ("memory-of-closed-clients", of_closed_clients),
    ("transfers-out-of-bounds", out_of_bounds),
];

fn offset_of_others(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let _own = Picture::new(&mut client, 0)?;
    for length in [1, 4096, 1 << 30] {
        let attempt = map_offset(&mut client, victim.picture.offset, length);
        must_refuse("the victim's offset", attempt, Errno::INVAL)?;
    }
    Ok("the offset that MAP gave the victim maps nothing here".into())
}

fn forged_offsets(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    let (_, mapped) = map_offset(&mut client, own.offset, BYTES as u64)?;
    let region = |number: u64| number << 36;
    let regions = (0..64).map(region).chain((6..64).map(|bit| 1 << bit));
    let mut tried = 0;
    for offset in regions.chain([u64::MAX, u64::MAX - 4095]) {
        let inside = offset.checked_sub(mapped.base).is_some_and(|place| place < mapped.covers);
        if !inside {
            must_refuse("a forged offset", map_offset(&mut client, offset, 4096), Errno::INVAL)?;
            tried += 1;
        }
    }
    for (offset, length) in
        [(own.offset, u64::MAX), (own.offset, mapped.covers + 4096), (mapped.base, mapped.covers + 1)]
    {
        must_refuse("a length that is too long", map_offset(&mut client, offset, length), Errno::INVAL)?;
    }
    victim.check()?;
    Ok(format!("{tried} offsets and 3 lengths, each refused"))
}

/// Fails unless all bytes are zero.
fn must_be_zero(what: &str, bytes: &[u8]) -> Outcome<()> {
    must(what, bytes.iter().all(|byte| *byte == 0))
}

fn recycled(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    for bind in [0, crate::picture::SHARED] {
        for _ in 0..50 {
            let picture = Picture::new(&mut client, bind)?;
            must_be_zero("new memory has old contents", &picture.read()?)?;
            picture.upload(&mut client, &[0xc3; BYTES])?;
            client.ioctl(&GemClose { handle: picture.handle, pad: 0 }, &[])?;
        }
    }
    Ok("100 buffers one after another, each zeroed".into())
}

fn of_closed_clients(door: &Door, _: &mut Victim) -> Outcome<String> {
    for _ in 0..10 {
        let mut first = door.open()?;
        let picture = Picture::new(&mut first, 0)?;
        picture.upload(&mut first, &[0xc3; BYTES])?;
        drop(first);
        let mut second = door.open()?;
        let picture = Picture::new(&mut second, 0)?;
        must_be_zero("new memory has another client's contents", &picture.read()?)?;
        let texture = picture.download(&mut second)?;
        must("a new texture has another client's contents", !texture.contains(&0xc3))?;
    }
    Ok("nothing of what a client left, in memory or texture".into())
}

fn out_of_bounds(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut noise = Noise(7);
    let mut refused = 0;
    for round in 0..60 {
        let mut client = door.open()?;
        let own = Picture::new(&mut client, 0)?;
        own.write(&vec![0x11; BYTES])?;
        let (offset, big) = (noise.word() >> noise.below(32), 1 << noise.below(32));
        let (x, y, w, h) = (noise.below(64), noise.below(64), SIDE.max(big), SIDE + noise.below(1 << 16));
        let handle = own.handle;
        let outcome = if round % 2 == 0 {
            let it = TransferToHost { bo_handle: handle, x, y, w, h, d: 1, offset, ..Default::default() };
            client.ioctl(&it, &[]).map(drop)
        } else {
            let it = TransferFromHost { bo_handle: handle, x, y, w, h, d: 1, offset, ..Default::default() };
            client.ioctl(&it, &[]).map(drop)
        };
        match outcome {
            // The device is to refuse it.
            Ok(()) => wait(&mut client, handle)?,
            Err(Failed::Errno(_)) => refused += 1,
            Err(other) => return Err(other),
        }
        victim.is_unseen_in(&own.read()?)?;
    }
    Ok(format!("60 transfers beyond texture or memory: {refused} refused here, the rest by the device"))
}
