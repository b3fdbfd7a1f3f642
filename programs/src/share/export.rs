//! The end that makes the buffers.

use std::env;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use super::wire::{Message, receive, send};
use super::{hand_over, paint, painted, painter, take_over};
use crate::canvas::Canvas;
use crate::egl::{Context, Display};
use crate::gl::Program;
use crate::image::Image;
use crate::stop::{Stop, Verdict, ensure};

const SIZES: [(u16, u16); 4] = [(64, 64), (257, 129), (1024, 768), (1, 1)];

/// Shares buffers of several sizes with an importer, back and forth `rounds` times each.
pub fn run(rounds: u32) -> Verdict {
    let display = Display::surfaceless()?;
    display.require("EGL_MESA_image_dma_buf_export")?;
    display.require("EGL_EXT_image_dma_buf_import")?;
    let context = display.context()?;
    println!("GL_RENDERER: {}", context.gl().renderer());
    println!("fences: {}", if crate::fence::offered(&display) { "by descriptor" } else { "none, glFinish" });
    let (socket, far) = UnixStream::pair()?;
    let mut importer = start_importer(far)?;
    let exporter = Exporter { context: &context, socket, program: painter(context.gl())? };
    let outcome = SIZES.iter().try_for_each(|&size| exporter.share(size, rounds));
    // The importer ends when its socket does, and says how it fared.
    drop(exporter);
    let ended = importer.wait()?;
    outcome?;
    ensure(ended.success(), || format!("expected the importer to end well, saw {ended}"))
}

/// The same program at the other end of a socket, which is its standard input.
fn start_importer(socket: UnixStream) -> Verdict<Child> {
    let program = env::current_exe()?;
    let input = Stdio::from(OwnedFd::from(socket));
    Ok(Command::new(program).args(["--role", "importer"]).stdin(input).spawn()?)
}

struct Exporter<'c> {
    context: &'c Context<'c>,
    socket: UnixStream,
    program: Program,
}

impl Exporter<'_> {
    fn share(&self, (width, height): (u16, u16), rounds: u32) -> Verdict {
        let (gl, display) = (self.context.gl(), self.context.display());
        let canvas = Canvas::new(gl, width.into(), height.into())?;
        let image = Image::of_texture(self.context, canvas.texture)?;
        let dmabuf = image.export(width.into(), height.into())?;
        send(&self.socket, &Message::Buffer(dmabuf))?;
        for step in (0..).step_by(2).take(crate::gl::length(rounds.cast_signed())) {
            canvas.bind(gl);
            paint(gl, self.program, step);
            send(&self.socket, &Message::Turn { step, fence: hand_over(display, gl)? })?;
            let Some(Message::Turn { step: answer, fence }) = receive(&self.socket)? else {
                return Err(Stop::failed("expected the importer's answer, saw none"));
            };
            take_over(display, fence)?;
            let seen = canvas.picture(gl).expect(0, |x, y| painted(answer, x, y));
            seen.map_err(|stop| Stop::failed(format!("exporter, {width}x{height}, step {step}: {stop}")))?;
        }
        println!("ok exporter {width}x{height}: saw what the importer drew, {rounds} times");
        canvas.delete(gl);
        gl.check()
    }
}
