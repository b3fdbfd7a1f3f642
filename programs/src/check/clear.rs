//! Clears.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{clear, complete};
use crate::gl::{Layout, Region};
use crate::picture::color;
use crate::stop::ensure;

pub(super) const CASES: &[Listed] =
    &[("clear", colors), ("clear-scissored", scissored), ("clear-masked", masked), ("clear-float", float)];

fn colors(stage: &Stage<'_>) -> Verdict {
    let canvas = stage.canvas(67, 33)?;
    let tries = [[0.0; 4], [1.0; 4], [1.0, 0.0, 0.0, 1.0], [0.2, 0.4, 0.6, 0.8], [2.0, -1.0, 0.5, 0.25]];
    for wanted in tries {
        clear(stage.gl(), wanted);
        stage.shot(&canvas)?.expect_plain(1, color(wanted))?;
    }
    Ok(())
}

fn scissored(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(64, 48)?);
    clear(gl, [0.0, 0.0, 1.0, 1.0]);
    gl.enable(glow::SCISSOR_TEST);
    gl.scissor(5, 7, 31, 13);
    clear(gl, [1.0, 1.0, 0.0, 1.0]);
    gl.disable(glow::SCISSOR_TEST);
    stage.shot(&canvas)?.expect(0, |x, y| {
        let inside = (5..36).contains(&x) && (7..20).contains(&y);
        if inside { [255, 255, 0, 255] } else { [0, 0, 255, 255] }
    })
}

fn masked(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(16, 16)?);
    clear(gl, [1.0, 0.0, 0.0, 1.0]);
    gl.color_mask(false, true, false, false);
    clear(gl, [0.0, 1.0, 1.0, 0.0]);
    gl.color_mask(true, true, true, true);
    stage.shot(&canvas)?.expect_plain(0, [255, 255, 0, 255])
}

fn float(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let (texture, framebuffer) = (gl.create_texture()?, gl.create_framebuffer()?);
    gl.bind_texture(glow::TEXTURE_2D, Some(texture));
    gl.tex_storage_2d(glow::TEXTURE_2D, 1, glow::RGBA16F, 8, 8);
    gl.bind_framebuffer(glow::FRAMEBUFFER, Some(framebuffer));
    let target = glow::COLOR_ATTACHMENT0;
    gl.framebuffer_texture_2d(glow::FRAMEBUFFER, target, glow::TEXTURE_2D, Some(texture), 0);
    if !gl.has("GL_EXT_color_buffer_float") && !gl.has("GL_EXT_color_buffer_half_float") {
        return Err(crate::stop::Stop::skipped("no GL_EXT_color_buffer_float"));
    }
    complete(gl)?;
    let wanted = [-3.5, 0.25, 1000.0, 2.0];
    clear(gl, wanted);
    let layout = Layout { format: glow::RGBA, kind: glow::FLOAT, alignment: 4 };
    let seen = crate::gl::floats(&gl.read(Region::size(8, 8), layout));
    ensure(seen.chunks(4).all(|pixel| pixel == wanted), || {
        format!("expected {wanted:?}, saw {:?}", &seen[..4])
    })
}
