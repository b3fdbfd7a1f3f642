//! How long one must wait.

use std::io::Read;
use std::process::{Command, Stdio};

use super::Sampler;
use crate::canvas::{Canvas, clear};
use crate::egl::Display;
use crate::gl::{Gl, Layout, Region};
use crate::stop::{Verdict, ensure};

/// The option that makes the benchmark draw one pixel and end.
pub const FIRST_PIXEL: &str = "--first-pixel-only";

/// The least that has a beginning and an end: a clear, and the wait for it.
pub(super) fn finish_after_clear(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    let _canvas = Canvas::new(gl, 64, 64)?;
    let mut step = 0u8;
    sampler.latency(|| {
        step = step.wrapping_add(1);
        clear(gl, [f32::from(step) / 255.0, 0.5, 0.25, 1.0]);
        gl.finish();
        Ok(())
    })
}

/// A process starts, loads EGL, draws, and has its first pixel in hand.
pub(super) fn first_pixels(_: &Gl, sampler: &mut Sampler) -> Verdict {
    let program = std::env::current_exe()?;
    sampler.latency(|| {
        let mut child = Command::new(&program).arg(FIRST_PIXEL).stdout(Stdio::piped()).spawn()?;
        let mut seen = [0; 4];
        let mut output = child.stdout.take().ok_or_else(|| "expected the child's output".to_owned())?;
        let read = output.read_exact(&mut seen);
        let ended = child.wait()?;
        ensure(ended.success(), || format!("expected the first pixel, saw {ended}"))?;
        read?;
        ensure(seen == [0, 255, 0, 255], || format!("expected a green first pixel, saw {seen:?}"))
    })
}

/// The child's part: the pixel, read back.
pub fn first_pixel() -> Verdict<[u8; 4]> {
    let display = Display::surfaceless()?;
    let context = display.context()?;
    let gl = context.gl();
    let _canvas = Canvas::new(gl, 64, 64)?;
    clear(gl, [0.0, 1.0, 0.0, 1.0]);
    let mut pixel = [0; 4];
    gl.read_into(Region::size(1, 1), Layout::RGBA8, &mut pixel);
    Ok(pixel)
}
