//! What a client that floods the device leaves to another: not an attack that is won or lost, but figures.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use virgld_protocol::channel::{KIND_IOCTL, NO_SLOT};
use virgld_protocol::client::{Execbuffer, Ioctl};
use zerocopy::IntoBytes;

use crate::picture::{BYTES, Picture, clear, copy, submit};
use crate::wire::{Client, Door, Failed, Outcome};

/// A flood's command stream has so many copies of a texture.
const COPIES: usize = 1000;

/// Small frames alone, large submits one at a time alone, small frames beside a flood of large submits.
pub(crate) fn measure(door: &Door, time: Duration) -> Outcome<()> {
    let alone = frames(door, time)?;
    println!("small frames alone: {alone}");
    let large = one_at_a_time(door, time)?;
    println!("large submits alone, one at a time: {large}");
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let (beside, flooded) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(door, &stop));
        std::thread::sleep(Duration::from_millis(500));
        let beside = frames(door, time);
        stop.store(true, Ordering::Relaxed);
        (beside, flood.join())
    });
    let (beside, lasted) = (beside?, begin.elapsed());
    let flooded = flooded.map_err(|_| Failed::Setup("the flood panicked".into()))??;
    println!("small frames beside a flood: {beside} ({flooded} large submits were made)");
    // Of a device that is shared equally, each of two has half.
    println!("of the rate that half of the device would give: {:.0} %", 200.0 * beside.rate() / alone.rate());
    let large_rate = flooded as f64 / lasted.as_secs_f64();
    println!("and the flood: {:.0} %", 200.0 * large_rate / large.rate());
    Ok(())
}

/// How long each took.
struct Times(Vec<Duration>);

impl Times {
    fn mean(&self) -> f64 {
        self.0.iter().sum::<Duration>().as_secs_f64() / self.0.len().max(1) as f64
    }

    fn rate(&self) -> f64 {
        1.0 / self.mean()
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
        write!(to, "{:.0}/s, median {:?}, 99 % within {:?}", self.rate(), at(50), at(99))
    }
}

/// Submits one after another, each waited for.
fn each(client: &mut Client, stream: &[u32], own: u32, time: Duration) -> Outcome<Times> {
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < time {
        let start = Instant::now();
        submit(client, stream, own)?;
        times.push(start.elapsed());
    }
    Ok(Times(times))
}

fn frames(door: &Door, time: Duration) -> Outcome<Times> {
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    submit(&mut client, &clear(own.resource, 1), own.handle)?;
    // The surface is there from here on.
    let again = clear(own.resource, 1)[6..].to_vec();
    each(&mut client, &again, own.handle, time)
}

fn one_at_a_time(door: &Door, time: Duration) -> Outcome<Times> {
    let mut client = door.open()?;
    let (own, stream) = large(&mut client)?;
    each(&mut client, &stream, own.handle, time)
}

/// A texture, and a large stream that copies it over and over.
fn large(client: &mut Client) -> Outcome<(Picture, Vec<u32>)> {
    let own = Picture::new(client, 0)?;
    own.upload(client, &[1; BYTES])?;
    let target = Picture::new(client, 0)?;
    let stream = copy(own.resource, target.resource).repeat(COPIES);
    Ok((own, stream))
}

/// Large submits as fast as the daemon takes them; none is waited for.
fn flood(door: &Door, stop: &AtomicBool) -> Outcome<usize> {
    let mut client = door.open()?;
    let (own, stream) = large(&mut client)?;
    let size = u32::try_from(size_of_val(&*stream)).unwrap_or(u32::MAX);
    let fixed = Execbuffer { size, num_bo_handles: 1, fence_fd: -1, ..Execbuffer::default() };
    let payload = [fixed.as_bytes(), stream.as_bytes(), [own.handle].as_bytes()].concat();
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        client.post(KIND_IOCTL, Execbuffer::TABLE.number, NO_SLOT, &payload, &[])?;
        made += 1;
    }
    Ok(made)
}
