//! Whether the time that a refusal takes tells "not yours" from "does not exist": not won or lost, but figures.

use std::time::{Duration, Instant};

use virgld_protocol::channel::SERVICE_MAP;
use virgld_protocol::client::{GemClose, Map, ResourceInfo, TransferFromHost, Wait};
use zerocopy::IntoBytes;

use crate::picture::BYTES;
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome};

/// A number that nobody has.
const NOBODYS: u32 = 0x4000_0000;
/// The offset of no buffer.
const NOWHERE: u64 = 1 << 40;

/// One refusal: with the number of another's thing, or with one that names nothing.
type Attempt = fn(&mut Client, &Names) -> Outcome<()>;

/// What a refused call names.
struct Names {
    handle: u32,
    offset: u64,
}

const CALLS: &[(&str, Attempt)] = &[
    ("RESOURCE_INFO", |client, of| {
        client.ioctl(&ResourceInfo { bo_handle: of.handle, ..Default::default() }, &[]).map(drop)
    }),
    ("MAP", |client, of| client.ioctl(&Map { handle: of.handle, ..Map::default() }, &[]).map(drop)),
    ("WAIT", |client, of| client.ioctl(&Wait { handle: of.handle, flags: 1 }, &[]).map(drop)),
    ("TRANSFER_FROM_HOST", |client, of| {
        let fixed = TransferFromHost { bo_handle: of.handle, w: 1, h: 1, d: 1, ..Default::default() };
        client.ioctl(&fixed, &[]).map(drop)
    }),
    ("GEM_CLOSE", |client, of| client.ioctl(&GemClose { handle: of.handle, pad: 0 }, &[]).map(drop)),
    ("mmap", |client, of| client.service(SERVICE_MAP, [of.offset, BYTES as u64].as_bytes(), &[]).map(drop)),
];

/// Refusals of both kinds in turn, for each call, and how long they took.
pub(crate) fn measure(door: &Door, time: Duration) -> Outcome<()> {
    let victim = Victim::new(door)?;
    let theirs = Names { handle: victim.picture.handle, offset: victim.picture.offset };
    let none = Names { handle: NOBODYS, offset: NOWHERE };
    let mut client = door.open()?;
    client.eager = true;
    println!("{:20} {:>8} {:>22} {:>22}", "call", "pairs", "another\u{2019}s", "nobody\u{2019}s");
    for (name, attempt) in CALLS {
        let (mut of_others, mut of_nobody) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        while begin.elapsed() < time {
            of_others.push(refused(&mut client, *attempt, &theirs)?);
            of_nobody.push(refused(&mut client, *attempt, &none)?);
        }
        let pairs = of_others.len();
        println!("{name:20} {pairs:>8} {:>22} {:>22}", spread(of_others), spread(of_nobody));
    }
    Ok(())
}

fn refused(client: &mut Client, attempt: Attempt, of: &Names) -> Outcome<Duration> {
    let begin = Instant::now();
    match attempt(client, of) {
        Err(Failed::Errno(_)) => Ok(begin.elapsed()),
        Ok(()) => Err(Failed::Setup("what is to be refused was done".into())),
        Err(other) => Err(other),
    }
}

/// Median and quartiles in microseconds.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |quarter: usize| {
        times.get(times.len() * quarter / 4).copied().unwrap_or_default().as_secs_f64() * 1e6
    };
    format!("{:.2} ({:.2} to {:.2})", at(2), at(1), at(3))
}
