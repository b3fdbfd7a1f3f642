//! Somebody else, who minds their own business.

use crate::picture::Picture;
use crate::wire::{Client, Door, Failed, Outcome};

/// A client with a texture that nobody else was given.
pub(crate) struct Victim {
    pub(crate) client: Client,
    pub(crate) picture: Picture,
    pub(crate) texels: Vec<u8>,
    /// Whether it must keep its texture though the device is lost.
    pub(crate) survives: bool,
}

impl Victim {
    pub(crate) fn new(door: &Door) -> Outcome<Self> {
        let mut client = door.open()?;
        let picture = Picture::new(&mut client, 0)?;
        let texels: Vec<u8> = (0..crate::picture::BYTES).map(secret).collect();
        picture.upload(&mut client, &texels)?;
        Ok(Self { client, picture, texels, survives: false })
    }

    /// Fails unless the texture is as it was, on the device, and the client sees no error.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        let now = self
            .picture
            .download(&mut self.client)
            .map_err(|error| Failed::Setup(format!("the victim: {error}")))?;
        if now == self.texels {
            return Ok(());
        }
        let changed = now.iter().zip(&self.texels).filter(|(new, old)| new != old).count();
        Err(Failed::Setup(format!("{changed} bytes of the victim's texture changed")))
    }

    /// Fails if the bytes show anything of the victim's texture.
    pub(crate) fn is_unseen_in(&self, bytes: &[u8]) -> Outcome<()> {
        // Sixteen bytes in a row are no accident.
        let leaks = |row: &[u8]| bytes.windows(16).any(|window| window == row);
        if self.texels.chunks(16).any(leaks) {
            return Err(Failed::Setup("the attacker sees the victim's texture".into()));
        }
        Ok(())
    }
}

/// Not a pattern that anything else would write.
fn secret(index: usize) -> u8 {
    let mixed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    mixed.to_le_bytes()[3]
}
