//! Asking without end for what costs the daemon something each time, while the victim goes on drawing.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::{Errno, pread};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use virgld_protocol::channel::{
    HEAD, Hello, KIND_IOCTL, MAGIC, NO_SLOT, RING_BYTES, RING_OFFSET, Record, VERSION,
};
use virgld_protocol::client::{GemClose, Ioctl};
use zerocopy::IntoBytes;

use super::{Case, must, room_again};
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome, send};

pub(super) const CASES: &[(&str, Case)] =
    &[("call-flood", calls), ("connection-churn", churn), ("greeting-flood", greetings)];

/// For how long each flood goes on.
const TIME: Duration = Duration::from_secs(2);

/// Floods in a thread of its own while the victim checks its texture over and over. Says how often the flood asked, and
/// how the victim fared: an answer that does not come in time fails the case.
pub(super) fn beside(
    victim: &mut Victim,
    flood: impl Fn(&AtomicBool) -> Outcome<u64> + Sync,
) -> Outcome<String> {
    let over = AtomicBool::new(false);
    let (times, asked) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&over));
        let times = checks(victim);
        over.store(true, Ordering::Relaxed);
        (times, flood.join())
    });
    let asked = asked.map_err(|_| Failed::Setup("the flood panicked".into()))??;
    let mut times = times?;
    times.sort_unstable();
    let at =
        |percent: usize| times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default();
    must("the flood did nothing", asked > 0)?;
    Ok(format!(
        "{asked} times; beside it the victim checked {} times, 99 % within {:?}, none longer than {:?}",
        times.len(),
        at(99),
        at(100)
    ))
}

fn checks(victim: &mut Victim) -> Outcome<Vec<Duration>> {
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < TIME {
        let start = Instant::now();
        victim.check()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// A ring that is never empty, of calls that need nothing of the device.
fn calls(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let gained = beside(victim, |over| {
        let mut client = door.open()?;
        let mut made = 0;
        while !over.load(Ordering::Relaxed) {
            made += refill(&mut client)?;
        }
        must("the flood was cut off", !client.is_cut_off())?;
        Ok(made)
    })?;
    Ok(format!("calls that ask for nothing, {gained}"))
}

/// Fills whatever of the ring is free.
fn refill(client: &mut Client) -> Outcome<u64> {
    const CALLS: u64 = 64;
    let call = GemClose { handle: u32::MAX, ..GemClose::default() };
    let payload = call.as_bytes();
    let length = (size_of::<Record>() + payload.len()).next_multiple_of(size_of::<Record>());
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut made = 0;
    loop {
        let mut head = 0_u64;
        pread(&client.memory, head.as_mut_bytes(), HEAD as u64)?;
        let block = CALLS * length as u64;
        if client.tail + block - head > RING_BYTES as u64 {
            return Ok(made);
        }
        let mut bytes = Vec::new();
        for _ in 0..CALLS {
            client.serial += 1;
            let record = Record {
                length: size(length),
                kind: KIND_IOCTL,
                number: GemClose::TABLE.number,
                slot: NO_SLOT,
                serial: client.serial,
                payload: size(payload.len()),
                ..Record::default()
            };
            bytes.extend_from_slice(record.as_bytes());
            bytes.extend_from_slice(payload);
            bytes.resize(bytes.len().next_multiple_of(size_of::<Record>()), 0);
        }
        let place = usize::try_from(client.tail % RING_BYTES as u64).unwrap_or(0);
        client.write(RING_OFFSET + place, &bytes)?;
        client.tail += block;
        client.show_tail()?;
        made += CALLS;
    }
}

/// Connections as fast as they can be made, none of which is kept.
fn churn(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let gained = beside(victim, |over| {
        let mut made = 0;
        while !over.load(Ordering::Relaxed) {
            // Whoever has too many open at once is refused, and goes on.
            match door.knock() {
                Ok(_) => made += 1,
                Err(Errno::AGAIN) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(made)
    })?;
    room_again(door)?;
    Ok(format!("connected and left {gained}"))
}

/// Greetings without end: each is well formed, and most are one too many.
fn greetings(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let hello = Hello { magic: MAGIC, version: VERSION };
    let gained = beside(victim, |over| {
        let connection = door.connect()?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut kept: Vec<OwnedFd> = vec![ours];
        kept.push(rustix::io::dup(&theirs)?);
        let mut made = 0;
        while !over.load(Ordering::Relaxed) {
            match send(connection.as_fd(), hello.as_bytes(), &[theirs.as_fd()]) {
                Ok(()) => made += 1,
                Err(Errno::AGAIN | Errno::TOOMANYREFS) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(made),
                Err(other) => return Err(other.into()),
            }
        }
        Ok(made)
    })?;
    room_again(door)?;
    Ok(format!("greeted {gained}"))
}
