//! What is left of a buffer that was taken back: the host's renderer keeps an object that was made of it for as long as the
//! context has that, whether it may name the buffer or not.

use rustix::io::Errno;
use std::os::fd::AsFd;
use virgld_protocol::channel::SERVICE_REVOKE;
use virgld_protocol::client::GemClose;
use zerocopy::IntoBytes;

use super::sharing::{export, import};
use super::{Case, must, must_refuse};
use crate::drawing::{self, FRAGMENT, TRIANGLES, VERTEX, blit, canvas, shader};
use crate::picture::{BYTES, Picture, SHARED, clear, copy, inline_write, map, submit, transfer};
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("prime-revoked-numbers", numbers),
    ("prime-revoked-views", views),
    ("prime-revoked-surfaces", surfaces),
    ("prime-revoked-and-given-again", given_again),
];

/// What the maker's picture is full of while it is shared, and after it was taken back.
const SHOWN: u8 = 0x31;
const SECRET: u8 = 0x32;
/// Names of objects.
const WINDOW: u32 = 9;

/// Two clients, a picture that one has made and given the other, and what the other draws to.
struct Gift {
    maker: Client,
    made: Picture,
    other: Client,
    own: Picture,
    /// The other's handle of it.
    handle: u32,
}

impl Gift {
    fn new(door: &Door) -> Outcome<Self> {
        let [mut maker, mut other] = [door.open()?, door.open()?];
        let made = Picture::new(&mut maker, SHARED)?;
        made.upload(&mut maker, &[SHOWN; BYTES])?;
        let own = Picture::new(&mut other, 0)?;
        let descriptor = export(&mut maker, made.handle)?;
        let handle = import(&mut other, descriptor.as_fd())?;
        Ok(Self { maker, made, other, own, handle })
    }

    /// The maker takes it back, and puts something else into it.
    fn take_back(&mut self) -> Outcome<()> {
        self.maker.service(SERVICE_REVOKE, self.made.handle.as_bytes(), &[])?;
        let place = map(&mut self.maker, self.made.handle)?;
        self.made.remap(place);
        self.made.upload(&mut self.maker, &[SECRET; BYTES])
    }

    /// The other gives its handle up, with all that it made of the picture left where it is.
    fn close(&mut self) -> Outcome<()> {
        self.other.ioctl(&GemClose { handle: self.handle, pad: 0 }, &[]).map(drop)
    }

    /// Submits what names nothing but the other's own.
    fn try_it(&mut self, stream: &[u32]) -> Outcome<()> {
        refused_or_done(submit(&mut self.other, stream, self.own.handle))
    }

    /// What the other has drawn; nothing where its context is lost.
    fn drawn(&mut self) -> Outcome<Vec<u8>> {
        match self.own.download(&mut self.other) {
            Err(Failed::Errno(_)) => Ok(Vec::new()),
            drawn => drawn,
        }
    }
}

fn refused_or_done(attempt: Outcome<()>) -> Outcome<()> {
    match attempt {
        Err(Failed::Errno(_)) => Ok(()),
        done => done,
    }
}

/// Names the picture in every way that a stream can, where that worked while it was shared.
fn numbers(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const READ: [fn(u32, u32) -> Vec<u32>; 2] = [copy, blit];
    const WRITTEN: [fn(u32) -> Vec<u32>; 3] =
        [|it| inline_write(it, 0x7777_7777), |it| clear(it, WINDOW), |it| transfer(it, true)];
    for read in READ {
        let mut gift = Gift::new(door)?;
        let stream = read(gift.made.resource, gift.own.resource);
        submit(&mut gift.other, &stream, gift.handle)?;
        must("a picture that is shared cannot be read", gift.drawn()? == [SHOWN; BYTES])?;
        gift.take_back()?;
        gift.try_it(&stream)?;
        must("its number still reads the picture", !gift.drawn()?.contains(&SECRET))?;
        must("the maker's picture changed", gift.made.download(&mut gift.maker)? == [SECRET; BYTES])?;
    }
    for write in WRITTEN {
        let mut gift = Gift::new(door)?;
        gift.take_back()?;
        let stream = write(gift.made.resource);
        gift.try_it(&stream)?;
        must(
            "its number still writes to the picture",
            gift.made.download(&mut gift.maker)? == [SECRET; BYTES],
        )?;
    }
    victim.check()?;
    Ok("copy, blit, write, clear and transfer by its number neither show nor change what was taken back"
        .into())
}

/// Draws from a view of the picture that was made while it was shared, and is bound or not.
fn views(door: &Door, victim: &mut Victim) -> Outcome<String> {
    for closed in [false, true] {
        for bound in [false, true] {
            let mut gift = Gift::new(door)?;
            let again = if bound { draw() } else { [look(WINDOW), draw()].concat() };
            let first = [prepare(gift.own.resource), view(gift.made.resource), look(WINDOW), draw()].concat();
            submit(&mut gift.other, &first, gift.handle)?;
            must("a view shows nothing of a picture that is shared", gift.drawn()? == [SHOWN; BYTES])?;
            if !bound {
                gift.try_it(&look(0))?;
            }
            if closed {
                gift.close()?;
            }
            gift.take_back()?;
            gift.try_it(&again)?;
            let seen = gift.drawn()?;
            must("a view still shows the picture", !seen.contains(&SECRET))?;
            must("the maker's picture changed", gift.made.download(&mut gift.maker)? == [SECRET; BYTES])?;
            victim.check()?;
        }
    }
    Ok("a view, bound or not, whose handle is closed or not, shows nothing of what was taken back".into())
}

/// Clears a surface of the picture that was made while it was shared.
fn surfaces(door: &Door, victim: &mut Victim) -> Outcome<String> {
    for closed in [false, true] {
        let mut gift = Gift::new(door)?;
        submit(&mut gift.other, &clear(gift.made.resource, WINDOW), gift.handle)?;
        let changed = gift.made.download(&mut gift.maker)?;
        must("a surface does not reach a picture that is shared", changed.starts_with(&[0, 0, 255, 255]))?;
        if closed {
            gift.close()?;
        }
        gift.take_back()?;
        // Without the creation, which would name it.
        let stream = clear(gift.made.resource, WINDOW)[6..].to_vec();
        gift.try_it(&stream)?;
        must("a surface still reaches the picture", gift.made.download(&mut gift.maker)? == [SECRET; BYTES])?;
        victim.check()?;
    }
    Ok("a surface, whose handle is closed or not, changes nothing of what was taken back".into())
}

/// Who only ever copied from it keeps its context; and what is given a second time works, and can be taken back again.
fn given_again(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut gift = Gift::new(door)?;
    submit(&mut gift.other, &copy(gift.made.resource, gift.own.resource), gift.handle)?;
    gift.take_back()?;
    let wait = virgld_protocol::client::Wait { handle: gift.handle, flags: 0 };
    must_refuse("the handle", gift.other.ioctl(&wait, &[]), Errno::NOENT)?;
    must("a context that kept nothing is lost", gift.own.download(&mut gift.other)? == [SHOWN; BYTES])?;
    let descriptor = export(&mut gift.maker, gift.made.handle)?;
    gift.handle = import(&mut gift.other, descriptor.as_fd())?;
    let stream = [prepare(gift.own.resource), view(gift.made.resource), look(WINDOW), draw()].concat();
    submit(&mut gift.other, &stream, gift.handle)?;
    must("what was given again cannot be used", gift.own.download(&mut gift.other)? == [SECRET; BYTES])?;
    gift.take_back()?;
    gift.made.upload(&mut gift.maker, &[SHOWN; BYTES])?;
    gift.try_it(&draw())?;
    must("a view shows what was taken back twice", !gift.drawn()?.contains(&SHOWN))?;
    victim.check()?;
    Ok("who kept nothing goes on; what is given again can be used and taken back again".into())
}

/// One triangle that covers everything.
const COVER: &str = "VERT\nDCL SV[0], VERTEXID\nDCL OUT[0], POSITION\nDCL TEMP[0], LOCAL\n\
     IMM[0] FLT32 { 1.0, 2.0, 4.0, -1.0 }\nIMM[1] FLT32 { 0.0, 0.0, 0.0, 1.0 }\n\
     U2F TEMP[0].x, SV[0].xxxx\nSEQ TEMP[0].y, TEMP[0].xxxx, IMM[0].xxxx\nSEQ TEMP[0].z, TEMP[0].xxxx, IMM[0].yyyy\n\
     MOV OUT[0], IMM[1]\nMAD OUT[0].x, TEMP[0].yyyy, IMM[0].zzzz, IMM[0].wwww\n\
     MAD OUT[0].y, TEMP[0].zzzz, IMM[0].zzzz, IMM[0].wwww\nEND\n";
/// The middle of a texture.
const SAMPLE: &str = "FRAG\nDCL OUT[0], COLOR\nDCL SAMP[0]\nDCL SVIEW[0], 2D, FLOAT\nIMM[0] FLT32 { 0.5, 0.5, 0.0, 0.0 }\n\
     DCL TEMP[0], LOCAL\nMOV TEMP[0], IMM[0]\nTEX OUT[0], TEMP[0], SAMP[0], 2D\nEND\n";

/// All that it takes to draw a texture to a picture, but for the texture.
fn prepare(target: u32) -> Vec<u32> {
    const SAMPLER: u32 = 7;
    const NO_LEVELS: u32 = 2 << 11;
    [
        &canvas(target)[..],
        &shader(6, VERTEX, COVER),
        &shader(7, FRAGMENT, SAMPLE),
        &[1 | SAMPLER << 8 | 9 << 16, 8, NO_LEVELS, 0, 0, 0, 0, 0, 0, 0],
        &[18 | 3 << 16, FRAGMENT, 0, 8],
    ]
    .concat()
}

/// A view of a texture.
fn view(resource: u32) -> Vec<u32> {
    const VIEW: u32 = 6;
    const BGRA_2D: u32 = 1 | 2 << 24;
    const AS_IT_IS: u32 = 1 << 3 | 2 << 6 | 3 << 9;
    vec![1 | VIEW << 8 | 6 << 16, WINDOW, resource, BGRA_2D, 0, 0, AS_IT_IS]
}

/// What the fragment shader looks at.
fn look(at: u32) -> Vec<u32> {
    vec![10 | 3 << 16, FRAGMENT, 0, at]
}

fn draw() -> Vec<u32> {
    drawing::draw(TRIANGLES, 3, 1, false)
}
