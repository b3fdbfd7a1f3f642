//! GBM: rendering into a surface's buffers, and what the CPU sees of buffers.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, Canvas, FILL, clear, fill, sampled};
use crate::gbm::{ARGB8888, Buffer, Device, XRGB8888};
use crate::image::Image;
use crate::picture::{Picture, color, pattern};
use crate::stop::Stop;

pub(super) const CASES: &[Listed] =
    &[("gbm-surface", surface), ("gbm-map", map), ("gbm-export", export), ("gbm-render", render)];

fn device<'s>(stage: &Stage<'s>) -> Verdict<&'s Device> {
    stage.display().gbm().ok_or_else(|| Stop::skipped("needs --platform gbm"))
}

/// Frames are drawn, swapped and locked; the CPU's mapping of each shows what was drawn.
fn surface(stage: &Stage<'_>) -> Verdict {
    let native = device(stage)?.surface(160, 120, XRGB8888)?;
    let window = stage.display().window(&native, XRGB8888)?;
    let (context, gl) = (stage.context(), stage.gl());
    context.activate_on(&window)?;
    let program = gl.program(COVER, FILL)?;
    gl.viewport(0, 0, 160, 120);
    for frame in 0..6u8 {
        let wanted = [f32::from(frame) / 5.0, 0.5, 1.0 - f32::from(frame) / 5.0, 1.0];
        fill(gl, program, wanted);
        window.swap()?;
        let front = native.front()?;
        let [red, green, blue, _] = color(wanted);
        mapped(&front, 160, 120)?.expect_plain(1, [red, green, blue, 255])?;
    }
    context.activate()
}

/// The pixels that the CPU sees, top row first as in memory, made opaque.
fn mapped(buffer: &Buffer<'_>, width: i32, height: i32) -> Verdict<Picture> {
    buffer.map(|bytes, stride| {
        Picture::compute(width, height, |x, y| {
            let at = crate::gl::length(y) * stride + crate::gl::length(x) * 4;
            [bytes[at + 2], bytes[at + 1], bytes[at], 255]
        })
    })
}

/// What the CPU writes through one mapping it sees through the next, and so does GL.
fn map(stage: &Stage<'_>) -> Verdict {
    let buffer = device(stage)?.buffer(100, 50, ARGB8888)?;
    buffer.map(|bytes, stride| {
        for (y, row) in (0..50).zip(bytes.chunks_mut(stride)) {
            for (x, pixel) in (0..100).zip(row.chunks_exact_mut(4)) {
                let [red, green, blue, alpha] = pattern(x, y);
                pixel.copy_from_slice(&[blue, green, red, alpha]);
            }
        }
    })?;
    mapped(&buffer, 100, 50)?.expect(0, pattern)?;
    let image = Image::import(stage.display(), &buffer.export()?)?;
    let texture = image.texture(stage.gl())?;
    sampled(stage.gl(), texture, 0, (100, 50))?.expect(0, pattern)
}

fn export(stage: &Stage<'_>) -> Verdict {
    let buffer = device(stage)?.buffer(64, 64, ARGB8888)?;
    let (first, second) = (buffer.export()?, buffer.export()?);
    crate::stop::ensure(first.shape == second.shape && first.shape.stride >= 256, || {
        format!("expected one shape twice, saw {:?} and {:?}", first.shape, second.shape)
    })
}

/// One context renders into a buffer, another, which shares nothing with it, sees it.
///
/// Not `gbm_bo_map`: Mesa's virgl takes a buffer for clean that it did not draw into by that very object,
/// and then maps guest memory without asking the host (seen with 22.3 and the kernel's driver).
fn render(stage: &Stage<'_>) -> Verdict {
    let dmabuf = device(stage)?.buffer(100, 50, ARGB8888)?.export()?;
    let gl = stage.gl();
    let texture = Image::import(stage.display(), &dmabuf)?.texture(gl)?;
    let canvas = Canvas::around(gl, texture, 100, 50)?;
    clear(gl, [0.0, 0.0, 1.0, 1.0]);
    gl.enable(glow::SCISSOR_TEST);
    gl.scissor(10, 10, 20, 20);
    clear(gl, [1.0, 1.0, 0.0, 1.0]);
    gl.disable(glow::SCISSOR_TEST);
    let inside = |x, y| (10..30).contains(&x) && (10..30).contains(&y);
    let wanted = |x, y| if inside(x, y) { [255, 255, 0, 255] } else { [0, 0, 255, 255] };
    stage.shot(&canvas)?.expect(0, wanted)?;
    gl.finish();

    let other = stage.display().context()?;
    let texture = Image::import(stage.display(), &dmabuf)?.texture(other.gl())?;
    sampled(other.gl(), texture, 0, (100, 50))?.expect(0, wanted)?;
    other.gl().check()
}
