//! Somebody else, who minds their own business.

use std::collections::HashSet;

use crate::drawing::{Numbers, again, sample};
use crate::picture::{BYTES, Picture, submit};
use crate::wire::{Client, Door, Failed, Outcome};

/// A client with a texture and two buffers that nobody else was given, which draws the texture over and over.
pub(crate) struct Victim {
    pub(crate) client: Client,
    pub(crate) picture: Picture,
    pub(crate) texels: Vec<u8>,
    buffers: [Picture; 2],
    contents: Vec<u8>,
    /// What it draws onto.
    frame: Picture,
    /// The words of texture and buffers.
    secrets: HashSet<u32>,
    /// Whether it must keep its texture though the device is lost.
    pub(crate) survives: bool,
}

impl Victim {
    pub(crate) fn new(door: &Door) -> Outcome<Self> {
        let mut client = door.open()?;
        let (picture, frame) = (Picture::new(&mut client, 0)?, Picture::new(&mut client, 0)?);
        let buffers = [Picture::buffer(&mut client)?, Picture::results(&mut client)?];
        let texels: Vec<u8> = (0..BYTES).map(secret).collect();
        let contents: Vec<u8> = (BYTES..2 * BYTES).map(secret).collect();
        picture.upload(&mut client, &texels)?;
        for buffer in &buffers {
            buffer.upload(&mut client, &contents)?;
        }
        let secrets = words(&texels).chain(words(&contents)).collect();
        let victim = Self { client, picture, texels, buffers, contents, frame, secrets, survives: false };
        victim.begin()
    }

    /// Draws for the first time. All that this binds stays bound: whoever could reach this context would change what is
    /// drawn later.
    fn begin(mut self) -> Outcome<Self> {
        let stream = sample(self.numbers(), Numbers { texture: self.frame.resource, ..self.numbers() });
        submit(&mut self.client, &stream, self.frame.handle)?;
        Ok(self)
    }

    /// Its resources, as whoever guesses their numbers would name them.
    pub(crate) fn numbers(&self) -> Numbers {
        let [buffer, results] = &self.buffers;
        Numbers { texture: self.picture.resource, buffer: buffer.resource, results: results.resource }
    }

    /// Fails unless texture and buffers are as they were, on the device, the next frame is right, and the client sees no
    /// error.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        self.compare().map_err(|error| Failed::Setup(format!("the victim: {error}")))
    }

    fn compare(&mut self) -> Outcome<()> {
        same("its texture", &self.picture.download(&mut self.client)?, &self.texels)?;
        let [buffer, results] = &self.buffers;
        same("the memory behind its buffer", &buffer.read()?, &self.contents)?;
        same("its buffer", &buffer.download(&mut self.client)?, &self.contents)?;
        // Of this there is no more than its memory; and a device to which it is given anew writes zeros there.
        if !self.survives {
            same("its room for results", &results.read()?, &self.contents)?;
        }
        self.frame.upload(&mut self.client, &[0; BYTES])?;
        submit(&mut self.client, &again(), self.frame.handle)?;
        same("its frame", &self.frame.download(&mut self.client)?, &self.texels)
    }

    /// Fails if the bytes show anything of the victim's.
    pub(crate) fn is_unseen_in(&self, bytes: &[u8]) -> Outcome<()> {
        match shows(&self.secrets, bytes) {
            true => Err(Failed::Setup("the attacker sees what is the victim's".into())),
            false => Ok(()),
        }
    }
}

/// Whether some of these words are among the bytes: four different ones are no accident.
pub(crate) fn shows(secrets: &HashSet<u32>, bytes: &[u8]) -> bool {
    words(bytes).filter(|word| secrets.contains(word)).collect::<HashSet<_>>().len() >= 4
}

pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]))
}

fn same(what: &str, now: &[u8], before: &[u8]) -> Outcome<()> {
    if now == before {
        return Ok(());
    }
    let changed = now.iter().zip(before).filter(|(new, old)| new != old).count();
    Err(Failed::Setup(format!("{what} changed, in {changed} bytes")))
}

/// Not a pattern that anything else would write.
pub(crate) fn secret(index: usize) -> u8 {
    let mixed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    mixed.to_le_bytes()[3]
}
