//! Other clients' resource numbers, where streams draw with them or onto them.

use std::collections::HashSet;
use std::os::fd::AsFd;

use super::sharing::export;
use super::{Case, must};
use crate::drawing::{Numbers, READINGS, WRITINGS, again, command, sample};
use crate::picture::{BYTES, Picture, SHARED, submit};
use crate::victim::{Victim, secret, shows, words};
use crate::wire::{Client, Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("draw-own-resources", own_resources),
    ("draw-reads-of-others", reads),
    ("draw-reads-of-every-number", every_number),
    ("draw-writes-to-others", writes),
    ("draw-in-other-sub-contexts", sub_contexts),
];

/// Two files of one attacker: one draws, the other looks at what was drawn, by a context that has broken no rule.
struct Pair {
    drawing: Client,
    target: Picture,
    results: Picture,
    looking: Client,
    seen: Picture,
}

impl Pair {
    fn new(door: &Door) -> Outcome<Self> {
        let (mut drawing, mut looking) = (door.open()?, door.open()?);
        let (target, results) = (Picture::new(&mut drawing, SHARED)?, Picture::results(&mut drawing)?);
        target.upload(&mut drawing, &[BLANK; BYTES])?;
        let descriptor = export(&mut drawing, target.handle)?;
        let seen = Picture::imported(&mut looking, descriptor.as_fd())?;
        Ok(Self { drawing, target, results, looking, seen })
    }

    fn numbers(&self) -> Numbers {
        Numbers { texture: self.target.resource, buffer: 0, results: self.results.resource }
    }

    /// Draws, and says what is in the target then. A stream that is refused, and a context that is lost for it, is as good as
    /// one that does nothing.
    fn draw(&mut self, stream: &[u32]) -> Outcome<Vec<u8>> {
        match submit(&mut self.drawing, stream, self.target.handle) {
            Ok(()) | Err(Failed::Errno(_)) => self.seen.download(&mut self.looking),
            Err(other) => Err(other),
        }
    }
}

/// What is in a target before anything is drawn.
const BLANK: u8 = 0x11;

/// More of the attacker's own, full of what is to be found again.
struct Own {
    pictures: [Picture; 3],
    secrets: HashSet<u32>,
}

impl Own {
    fn new(client: &mut Client) -> Outcome<Self> {
        let bytes: Vec<u8> = (7 * BYTES..8 * BYTES).map(secret).collect();
        let pictures = [Picture::new(client, 0)?, Picture::buffer(client)?, Picture::results(client)?];
        for picture in &pictures {
            picture.upload(client, &bytes)?;
        }
        Ok(Self { pictures, secrets: words(&bytes).collect() })
    }

    fn numbers(&self) -> Numbers {
        let [texture, buffer, results] = self.pictures.each_ref().map(|picture| picture.resource);
        Numbers { texture, buffer, results }
    }

    /// What is in memory, and then on the device.
    fn contents(&self, client: &mut Client) -> Outcome<Vec<Vec<u8>>> {
        let [texture, buffer, results] = &self.pictures;
        let memory = [texture.read()?, buffer.read()?, results.read()?];
        // Of results there is nothing but memory.
        Ok([&memory[..], &[texture.download(client)?, buffer.download(client)?]].concat())
    }
}

/// Whether something was drawn in white: what indices lead to shows nothing else of them.
fn white(bytes: &[u8]) -> bool {
    words(bytes).any(|word| word == u32::MAX)
}

/// That the ways to read and to write do so, where they may.
fn own_resources(door: &Door, _: &mut Victim) -> Outcome<String> {
    for (name, way) in READINGS {
        let mut pair = Pair::new(door)?;
        let own = Own::new(&mut pair.drawing)?;
        let stream = way(own.numbers(), pair.numbers());
        let seen = pair.draw(&stream)?;
        must(&format!("reading by a {name} shows nothing"), shows(&own.secrets, &seen) || white(&seen))?;
    }
    for (name, way) in WRITINGS {
        let mut pair = Pair::new(door)?;
        let own = Own::new(&mut pair.drawing)?;
        let before = own.contents(&mut pair.drawing)?;
        let stream = way(own.numbers(), pair.numbers());
        submit(&mut pair.drawing, &stream, pair.target.handle)?;
        let after = own.contents(&mut pair.drawing)?;
        must(&format!("writing by a {name} changes nothing"), after != before)?;
    }
    let (ways, more) = (READINGS.len(), WRITINGS.len());
    Ok(format!("{ways} ways to read by drawing and {more} to write work on what is one's own"))
}

fn reads(door: &Door, victim: &mut Victim) -> Outcome<String> {
    for (name, way) in READINGS {
        let mut pair = Pair::new(door)?;
        let stream = way(victim.numbers(), pair.numbers());
        let seen = pair.draw(&stream)?;
        unseen(victim, name, &seen)?;
        // And in the attacker's own memory, whatever the device thinks of its context.
        unseen(victim, name, &pair.target.read()?)?;
        victim.check()?;
    }
    Ok(format!("{} ways to draw with the victim's numbers show nothing", READINGS.len()))
}

fn unseen(victim: &Victim, way: &str, bytes: &[u8]) -> Outcome<()> {
    must(&format!("{way}: something was drawn with the victim's number"), !white(bytes))?;
    victim.is_unseen_in(bytes).map_err(|error| Failed::Setup(format!("{way}: {error}")))
}

/// As an attacker would who knows nothing but that numbers are small.
fn every_number(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let numbers = victim.numbers();
    let last = numbers.texture.max(numbers.buffer) + 8;
    let mut tried = 0;
    for number in 1..=last {
        for (name, way) in READINGS {
            let mut pair = Pair::new(door)?;
            if number == pair.target.resource || number == pair.results.resource {
                continue;
            }
            let theirs = Numbers { texture: number, buffer: number, results: number };
            let seen = pair.draw(&way(theirs, pair.numbers()))?;
            unseen(victim, name, &seen)?;
            tried += 1;
        }
    }
    victim.check()?;
    Ok(format!("{tried} draws with the numbers up to {last}: none shows what is not the attacker's"))
}

fn writes(door: &Door, victim: &mut Victim) -> Outcome<String> {
    for (name, way) in WRITINGS {
        let mut pair = Pair::new(door)?;
        let stream = way(victim.numbers(), pair.numbers());
        pair.draw(&stream)?;
        victim.check().map_err(|error| Failed::Setup(format!("{name}: {error}")))?;
    }
    Ok(format!("{} ways to draw onto the victim's numbers change nothing", WRITINGS.len()))
}

/// The numbers of sub-contexts are each context's own: no choice of one is a choice of whose.
fn sub_contexts(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const CLEAR: [u32; 9] = [7 | 8 << 16, 1 << 2, 0, 0, 0, 0, 0, 0, 0];
    const SET: u32 = 28;
    const CREATE: u32 = 29;
    const DESTROY: u32 = 30;
    for number in (0..16).chain([u32::MAX]) {
        for begin in [&[SET][..], &[CREATE, SET]] {
            let mut pair = Pair::new(door)?;
            let mut stream: Vec<u32> = begin.iter().flat_map(|code| command(*code, 0, &[number])).collect();
            // Onto whatever is the target there, with whatever is bound; then things of its own; then away with it.
            stream.extend(CLEAR);
            stream.extend(again());
            stream.extend(sample(pair.numbers(), pair.numbers()));
            stream.extend(command(DESTROY, 0, &[number]));
            let seen = pair.draw(&stream)?;
            unseen(victim, "sub-context", &seen)?;
            victim.check()?;
        }
    }
    Ok("34 streams that choose, make and end sub-contexts of the numbers of others change nothing".into())
}
