//! What leaves a context as a file descriptor and comes back: fences and buffers.

use std::time::Duration;

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, Canvas, FILL, clear, fill, sampled};
use crate::fence;
use crate::gl::{Layout, Region};
use crate::image::Image;
use crate::picture::{Picture, color, pattern};

pub(super) const CASES: &[Listed] = &[
    ("native-fence-out", fence_out),
    ("native-fence-in", fence_in),
    ("dmabuf-export", dmabuf_export),
    ("dmabuf-import", dmabuf_import),
    ("dmabuf-render", dmabuf_render),
];

const LIMIT: Duration = Duration::from_secs(10);

/// Descriptors of many fences, of which each polls as ready.
fn fence_out(stage: &Stage<'_>) -> Verdict {
    stage.display().require("EGL_ANDROID_native_fence_sync")?;
    let (gl, canvas) = (stage.gl(), stage.canvas(64, 64)?);
    let mut fences = Vec::new();
    for step in 0..20u8 {
        clear(gl, [f32::from(step) / 19.0, 0.0, 0.0, 1.0]);
        fences.push(fence::export(stage.display())?);
    }
    fences.iter().rev().try_for_each(|fence| fence::poll_until_signalled(fence, LIMIT))?;
    canvas.picture(gl).expect_plain(0, [255, 0, 0, 255])
}

/// A second context waits on the GPU for what the first one draws into a shared texture.
fn fence_in(stage: &Stage<'_>) -> Verdict {
    stage.display().require("EGL_ANDROID_native_fence_sync")?;
    let (first, canvas) = (stage.context(), stage.canvas(64, 64)?);
    let program = first.gl().program(COVER, FILL)?;
    first.gl().finish();
    let second = first.sharing()?;
    for step in 0..10u8 {
        let wanted = [0.0, f32::from(step) / 9.0, 1.0, 1.0];
        first.activate()?;
        canvas.bind(first.gl());
        fill(first.gl(), program, wanted);
        let fence = fence::export(stage.display())?;
        second.activate()?;
        fence::wait_on(stage.display(), fence)?;
        sampled(second.gl(), canvas.texture, 0, (64, 64))?.expect_plain(1, color(wanted))?;
    }
    Ok(())
}

fn dmabuf_export(stage: &Stage<'_>) -> Verdict {
    stage.display().require("EGL_MESA_image_dma_buf_export")?;
    let texture = stage.gl().texture(1, 128, 64)?;
    let dmabuf = Image::of_texture(stage.context(), texture)?.export(128, 64)?;
    let wide_enough = dmabuf.shape.stride >= 128 * 4;
    crate::stop::ensure(wide_enough, || format!("expected a stride of 512 or more, saw {:?}", dmabuf.shape))
}

/// A pattern that one context uploads is what another, which shares nothing, sees through a dmabuf.
fn dmabuf_import(stage: &Stage<'_>) -> Verdict {
    let display = stage.display();
    display.require("EGL_MESA_image_dma_buf_export")?;
    display.require("EGL_EXT_image_dma_buf_import")?;
    let gl = stage.gl();
    let texture = gl.texture(1, 128, 64)?;
    gl.upload(0, Region::size(128, 64), Layout::RGBA8, Picture::compute(128, 64, pattern).bytes());
    let dmabuf = Image::of_texture(stage.context(), texture)?.export(128, 64)?;
    gl.finish();
    let other = display.context()?;
    let image = Image::import(display, &dmabuf)?;
    let imported = image.texture(other.gl())?;
    sampled(other.gl(), imported, 0, (128, 64))?.expect(0, pattern)?;
    other.gl().check()
}

/// What is rendered into the import shows in the exporter's texture, with no copy between them.
fn dmabuf_render(stage: &Stage<'_>) -> Verdict {
    let display = stage.display();
    display.require("EGL_MESA_image_dma_buf_export")?;
    display.require("EGL_EXT_image_dma_buf_import")?;
    let canvas = stage.canvas(128, 64)?;
    clear(stage.gl(), [1.0, 0.0, 0.0, 1.0]);
    let dmabuf = Image::of_texture(stage.context(), canvas.texture)?.export(128, 64)?;
    stage.gl().finish();

    let other = display.context()?;
    let image = Image::import(display, &dmabuf)?;
    drop(dmabuf);
    let imported = image.texture(other.gl())?;
    let target = Canvas::around(other.gl(), imported, 128, 64)?;
    target.picture(other.gl()).expect_plain(0, [255, 0, 0, 255])?;
    clear(other.gl(), [0.0, 1.0, 0.0, 1.0]);
    other.gl().finish();
    other.gl().check()?;
    drop(image);
    drop(other);

    stage.context().activate()?;
    stage.shot(&canvas)?.expect_plain(0, [0, 255, 0, 255])
}
