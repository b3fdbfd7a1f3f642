//! The end that is given the buffers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::wire::{Message, receive, send};
use super::{hand_over, paint, painted, painter, take_over};
use crate::canvas::{Canvas, sampled};
use crate::egl::{Context, Display};
use crate::gl::{Program, Texture};
use crate::image::{Dmabuf, Image, Shape};
use crate::stop::{Stop, Verdict};

/// Answers the exporter at the other end of the standard input until it is gone.
pub fn run() -> Verdict {
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let display = Display::surfaceless()?;
    let context = display.context()?;
    let program = painter(context.gl())?;
    let mut shared: Option<Shared<'_>> = None;
    while let Some(message) = receive(&socket)? {
        match (message, &mut shared) {
            (Message::Buffer(dmabuf), shared) => {
                let new = Shared::import(&context, program, &dmabuf)?;
                if let Some(old) = shared.replace(new) {
                    old.report();
                }
            }
            (Message::Turn { step, fence }, Some(shared)) => {
                take_over(&display, fence)?;
                shared.answer(step)?;
                send(&socket, &Message::Turn { step: step + 1, fence: hand_over(&display, context.gl())? })?;
            }
            (Message::Turn { .. }, None) => {
                return Err(Stop::failed("expected a buffer before the first turn"));
            }
        }
    }
    if let Some(last) = shared {
        last.report();
    }
    context.gl().check()
}

/// An imported buffer as a texture to sample and a canvas to draw on.
struct Shared<'c> {
    context: &'c Context<'c>,
    program: Program,
    texture: Texture,
    canvas: Canvas,
    shape: Shape,
    turns: u32,
}

impl<'c> Shared<'c> {
    fn import(context: &'c Context<'c>, program: Program, dmabuf: &Dmabuf) -> Verdict<Self> {
        let (gl, shape) = (context.gl(), dmabuf.shape);
        let texture = Image::import(context.display(), dmabuf)?.texture(gl)?;
        let canvas = Canvas::around(gl, texture, shape.width.cast_signed(), shape.height.cast_signed())?;
        Ok(Self { context, program, texture, canvas, shape, turns: 0 })
    }

    /// Checks all pixels, then paints the next step over them.
    fn answer(&mut self, step: i32) -> Verdict {
        let gl = self.context.gl();
        let Shape { width, height, .. } = self.shape;
        let size = (width.cast_signed(), height.cast_signed());
        let seen = sampled(gl, self.texture, 0, size)?.expect(0, |x, y| painted(step, x, y));
        seen.map_err(|stop| Stop::failed(format!("importer, {width}x{height}, step {step}: {stop}")))?;
        self.canvas.bind(gl);
        paint(gl, self.program, step + 1);
        self.turns += 1;
        Ok(())
    }

    fn report(self) {
        let Shape { width, height, .. } = self.shape;
        println!("ok importer {width}x{height}: saw what the exporter drew, {} times", self.turns);
        self.canvas.delete(self.context.gl());
    }
}
