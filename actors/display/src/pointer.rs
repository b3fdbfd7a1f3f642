//! The pointer, as the device is told of it.
//!
//! An image is told when its pixels have arrived: those of a dumb buffer have been transferred, those of a texture have been
//! drawn. One image is on its way at a time; what is wanted when it has come goes next, so that a client that
//! changes it without end keeps nobody else waiting.

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Token};
use virgld_protocol::message::ctrlq::Rectangle;
use virgld_protocol::message::cursorq;
use virgld_protocol::message::display::{Notice, Pixels};
use virgld_runtime::Time;

use crate::present::{PATIENCE, transfer};
use crate::state::{Effect, Presentation, State};

/// What the device was told about the pointer of one output.
#[derive(Debug, Default)]
pub(crate) struct Pointer {
    told: Option<Look>,
    /// The device could not be brought the image that was to be told: it shows none.
    lacking: bool,
    position: (i32, i32),
    coming: Option<Coming>,
}

/// An image on its way.
#[derive(Debug, Clone, Copy)]
struct Coming {
    token: Token,
    /// When it is given up.
    until: Time,
    /// None if the pointer was hidden meanwhile: its image may go.
    look: Option<Look>,
}

/// What a pointer looks like. Each time that a client names an image by its handle it is another framebuffer, so other
/// pixels in the same buffer are another look.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    framebuffer: u32,
    hotspot: (i32, i32),
}

impl Pointer {
    /// Whether the device may look at a framebuffer.
    pub(crate) fn names(&self, framebuffer: u32) -> bool {
        let coming = self.coming.and_then(|coming| coming.look);
        self.told.into_iter().chain(coming).any(|look| look.framebuffer == framebuffer)
    }

    /// When the image on its way is given up.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.coming.map(|coming| coming.until)
    }

    /// The image on its way, if it has been for too long.
    pub(crate) fn late(&self, now: Time) -> Option<Token> {
        self.coming.filter(|coming| coming.until <= now).map(|coming| coming.token)
    }

    /// Whether the device has the pixels of this image.
    fn has(&self, look: Look) -> bool {
        !self.lacking && self.told.is_some_and(|told| told.framebuffer == look.framebuffer)
    }
}

impl State {
    /// Has the device show the pointer as it is to be shown.
    pub(crate) fn point(&mut self, index: usize, effects: &mut Vec<Effect>) {
        if !self.up || self.presentation == Presentation::ReadBack {
            return;
        }
        let wanted = self.look_of(index);
        let position = self.outputs[index].shown.cursor.position;
        let pointer = &mut self.told[index].pointer;
        let moved = std::mem::replace(&mut pointer.position, position) != position;
        if let (None, Some(coming)) = (wanted, &mut pointer.coming) {
            coming.look = None;
        }
        match wanted.filter(|look| wanted != pointer.told && !pointer.has(*look)) {
            // Hidden, or another point of the same image: no pixels are needed for that.
            None if wanted != pointer.told => self.tell_pointer(index, wanted, effects),
            another => {
                // The image that is there moves until the other has come.
                if moved && pointer.told.is_some() {
                    let scanout = u32::try_from(index).unwrap_or(u32::MAX);
                    let position = on_wire(position);
                    effects.push(Effect::Cursor(cursorq::Request::Move { scanout, position }));
                }
                if let Some(look) = another.filter(|_| pointer.coming.is_none()) {
                    self.bring(index, look, effects);
                }
            }
        }
    }

    /// The pixels of an image have arrived, or will not: an image that the device lacks is not shown.
    pub(crate) fn arrived(&mut self, token: Token, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        let comes = |pointer: &Pointer| pointer.coming.is_some_and(|coming| coming.token == token);
        let Some(index) = self.told.iter().position(|told| comes(&told.pointer)) else { return };
        let coming = self.told[index].pointer.coming.take();
        if let Some(look) = coming.and_then(|coming| coming.look) {
            match result {
                // Whether it is still the newest or not: who changes it without end sees some of it.
                Ok(()) => self.tell_pointer(index, Some(look), effects),
                Err(_) => {
                    if self.told[index].pointer.told.is_some() {
                        self.tell_pointer(index, None, effects);
                    }
                    let pointer = &mut self.told[index].pointer;
                    (pointer.told, pointer.lacking) = (Some(look), true);
                }
            }
        }
        self.point(index, effects);
    }

    /// What the pointer is to look like, if it is to be seen.
    fn look_of(&self, index: usize) -> Option<Look> {
        let shown = &self.outputs[index].shown;
        shown.extent()?;
        let framebuffer = shown.cursor.framebuffer.filter(|id| self.framebuffers.contains_key(id))?;
        Some(Look { framebuffer, hotspot: shown.cursor.hotspot })
    }

    /// Sees to it that the device has an image; [`State::arrived`] follows.
    fn bring(&mut self, index: usize, look: Look, effects: &mut Vec<Effect>) {
        let token = self.fresh_token();
        let Some(framebuffer) = self.framebuffers.get(&look.framebuffer) else { return };
        match framebuffer.image.pixels {
            Pixels::Memory(_) => {
                let (width, height) = (framebuffer.width, framebuffer.height);
                transfer(framebuffer, Rectangle { x: 0, y: 0, width, height }, Some(token), effects);
            }
            Pixels::Host => {
                let resource = framebuffer.image.resource;
                effects.push(Effect::Scheme(Notice::Await { gate: token, resource }));
            }
        }
        let until = self.now.after(PATIENCE);
        self.told[index].pointer.coming = Some(Coming { token, until, look: Some(look) });
    }

    fn tell_pointer(&mut self, index: usize, look: Option<Look>, effects: &mut Vec<Effect>) {
        let framebuffer = look.and_then(|look| self.framebuffers.get(&look.framebuffer));
        effects.push(Effect::Cursor(cursorq::Request::Update {
            scanout: u32::try_from(index).unwrap_or(u32::MAX),
            position: on_wire(self.outputs[index].shown.cursor.position),
            image: framebuffer.map_or(ResourceId(0), |it| it.image.resource),
            hotspot: on_wire(look.map_or((0, 0), |look| look.hotspot)),
        }));
        let pointer = &mut self.told[index].pointer;
        (pointer.told, pointer.lacking) = (look, false);
    }
}

/// A position as the device takes it: a negative one wraps, as Linux has it.
fn on_wire((x, y): (i32, i32)) -> (u32, u32) {
    (x.cast_unsigned(), y.cast_unsigned())
}
