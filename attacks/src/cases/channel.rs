//! Breaking the rules of the channel.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::pwrite;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use virgld_protocol::channel::{
    CHANNEL_BYTES, HEAD, Hello, KIND_IOCTL, KIND_SERVICE, MAGIC, NO_SLOT, RING_BYTES, RING_OFFSET, Record,
    SLOTS_OFFSET, TAIL, VERSION,
};
use virgld_protocol::client::GetCap;
use zerocopy::IntoBytes;

use super::{Case, Noise, must};
use crate::picture::{Picture, copy, submit};
use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome, is_closed_soon, send};

pub(super) const CASES: &[(&str, Case)] = &[
    ("channel-malformed-records", malformed),
    ("channel-torn-counters", torn_counters),
    ("channel-noise", noise),
    ("channel-written-while-read", written_while_read),
    ("channel-half-greetings", half_greetings),
    ("channel-descriptor-flood", descriptor_flood),
    ("channel-scribbled-answers", scribbled),
];

fn malformed(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let good = Record {
        length: 64,
        kind: KIND_IOCTL,
        number: 9,
        slot: NO_SLOT,
        serial: 1,
        payload: 8,
        ..Record::default()
    };
    let lies = [
        Record { length: 0, ..good },
        Record { length: 31, ..good },
        Record { length: 48, ..good },
        Record { length: u32::MAX, ..good },
        Record { payload: 33, ..good },
        Record { payload: u32::MAX, ..good },
        Record { kind: 0, ..good },
        Record { kind: 9, ..good },
        Record { serial: 0, ..good },
        Record { serial: 2, ..good },
        Record { serial: u64::MAX, ..good },
        Record { slot: 64, ..good },
        Record { slot: 200, ..good },
        Record { reserved: 1, ..good },
        Record { descriptors: 1, ..good },
        Record { descriptors: u32::MAX, ..good },
        Record { kind: KIND_SERVICE, number: 200, slot: 1, ..good },
        Record { kind: KIND_SERVICE, slot: NO_SLOT, ..good },
        // One that wants no answer cannot be told that there is no such ioctl.
        Record { number: 0x7f, ..good },
    ];
    for lie in lies {
        let mut client = door.open()?;
        client.tail = 64 - u64::from(lie.length).min(64);
        client.write(RING_OFFSET, lie.as_bytes())?;
        client.tail = 64;
        client.show_tail()?;
        must(&format!("{lie:?} was accepted"), client.is_cut_off_soon())?;
    }
    victim.check()?;
    Ok(format!("{} records, each of which cost its file and nobody else's", lies.len()))
}

fn torn_counters(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let ring = RING_BYTES as u64;
    for tail in [1, 31, 33, ring + 32, u64::MAX, u64::MAX - 31, 1 << 63] {
        let mut client = door.open()?;
        client.tail = tail;
        client.show_tail()?;
        must(&format!("a tail of {tail:#x} was accepted"), client.is_cut_off_soon())?;
    }
    // Back behind what was taken, after a good call.
    let mut client = door.open()?;
    client.ioctl(&GetCap { capability: 1, value: 0 }, &[])?;
    client.tail = 0;
    client.show_tail()?;
    must("a tail that runs backwards was accepted", client.is_cut_off_soon())?;
    // The daemon's own counter is not read back from where a client can write it.
    let mut client = door.open()?;
    client.ioctl(&GetCap { capability: 1, value: 0 }, &[])?;
    client.write(HEAD, &u64::MAX.to_le_bytes())?;
    client.write(HEAD, &0_u64.to_le_bytes())?;
    client.ioctl(&GetCap { capability: 1, value: 0 }, &[])?;
    victim.check()?;
    Ok("impossible counters cost the file; the daemon keeps its own".into())
}

fn noise(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut noise = Noise(99);
    for round in 0..40 {
        let mut client = door.open()?;
        let bytes: Vec<u8> = (0..RING_BYTES / 16).flat_map(|_| noise.word().to_le_bytes()).collect();
        client.write(RING_OFFSET, &bytes)?;
        if round % 2 == 0 {
            // A sound head before noise, so that more of it is looked at.
            let number = noise.word().to_le_bytes()[0];
            let payload = noise.below(200);
            let head = Record {
                length: 256,
                kind: KIND_IOCTL,
                number,
                slot: 0,
                serial: 1,
                payload,
                ..Record::default()
            };
            client.write(RING_OFFSET, head.as_bytes())?;
        }
        client.tail = 4096;
        client.show_tail()?;
        must("noise was accepted", client.is_cut_off_soon())?;
    }
    victim.check()?;
    Ok("40 rings of noise, each cut off".into())
}

fn written_while_read(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut calls = 0;
    for round in 0..20 {
        let mut client = door.open()?;
        let own = Picture::new(&mut client, 0)?;
        let memory = rustix::io::dup(&client.memory)?;
        let stop = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut noise = Noise(round + 1);
                while !stop.load(Ordering::Relaxed) {
                    // Counts, lengths and the stream change under the daemon's eyes.
                    let place = RING_OFFSET as u64 + u64::from(noise.below(4096));
                    let _ = pwrite(&memory, &noise.word().to_le_bytes(), place);
                }
            });
            let mut outcome = Ok(());
            for _ in 0..200 {
                calls += 1;
                outcome = submit(&mut client, &copy(own.resource, own.resource), own.handle);
                if matches!(outcome, Err(Failed::CutOff | Failed::Late)) {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
            outcome
        });
        match outcome {
            // An answer can be missing: the attacker overwrote the record's slot.
            Ok(()) | Err(Failed::Errno(_) | Failed::CutOff) => {}
            Err(other) => return Err(other),
        }
    }
    victim.check()?;
    Ok(format!(
        "{calls} submits rewritten while they were read: each was taken as it was at one moment, or cut off"
    ))
}

fn half_greetings(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let hello = Hello { magic: MAGIC, version: VERSION };
    for bytes in [&hello.as_bytes()[..1], &hello.as_bytes()[..7], &[0; 8], &[0xff; 64]] {
        let connection = door.connect()?;
        send(connection.as_fd(), bytes, &[])?;
    }
    // A greeting without a socket, with several, or with other things: each costs the file.
    let null = std::fs::File::open("/dev/null").map_err(|error| Failed::Setup(error.to_string()))?;
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for with in [&[][..], &[one.as_fd(), other.as_fd()], &[one.as_fd(); 16], &[null.as_fd()]] {
        let connection = door.connect()?;
        send(connection.as_fd(), hello.as_bytes(), with)?;
        must("a greeting without its one socket was borne", is_closed_soon(connection.as_fd()))?;
    }
    let quiet: Vec<_> = (0..50).map(|_| door.connect()).collect::<Outcome<_>>()?;
    victim.check()?;
    drop(quiet);
    Ok("half a greeting, none, or one with a strange descriptor opens nothing".into())
}

fn descriptor_flood(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let client = door.open()?;
    let null = std::fs::File::open("/dev/null").map_err(|error| Failed::Setup(error.to_string()))?;
    let sixteen = [null.as_fd(); 16];
    let mut sent = 0;
    // Until the daemon reads no more of them.
    while sent < 4000 && send(client.line.as_fd(), &(1000 + sent as u64).to_le_bytes(), &sixteen).is_ok() {
        sent += 1;
    }
    victim.check()?;
    let other = door.open();
    must("another client cannot come in", other.is_ok())?;
    // A record that asks for some finds what it did not send.
    let mut client = client;
    let asked = Record {
        length: 64,
        kind: KIND_IOCTL,
        number: 0x2e,
        serial: 1,
        payload: 12,
        descriptors: 1,
        ..Record::default()
    };
    client.post_raw(asked, &[0; 12])?;
    must("descriptors of no record were taken for it", client.is_cut_off_soon())?;
    Ok(format!("{sent} packets of 16 descriptors, none of which the daemon ever had"))
}

fn scribbled(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    // All that the daemon writes and the attacker may overwrite: counters, slots, answers.
    for offset in (0..CHANNEL_BYTES).step_by(64).take_while(|offset| *offset < SLOTS_OFFSET + 4096) {
        if offset != TAIL {
            client.write(offset, &[0xff; 32])?;
        }
    }
    let _ = submit(&mut client, &[0], own.handle);
    victim.check()?;
    Ok("the daemon reads nothing back that it wrote".into())
}
