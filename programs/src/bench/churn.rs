//! How fast objects come, are used and go.

use super::Sampler;
use crate::canvas::{COVER, Canvas, SAMPLE, cover};
use crate::gl::{Gl, Layout, Region, bytes};
use crate::stop::Verdict;

const OBJECTS: u8 = 20;

const PLACED: &str = "#version 300 es
layout(location = 0) in vec4 position;
void main() { gl_Position = position; }";

const PLAIN: &str = "#version 300 es
precision highp float;
out vec4 result;
void main() { result = vec4(0.2, 0.7, 0.4, 1.0); }";

/// A buffer of 4 KiB with new contents, one draw from it, and it is deleted.
pub(super) fn buffers(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    let _canvas = Canvas::new(gl, 64, 64)?;
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    gl.use_program(Some(gl.program(PLACED, PLAIN)?));
    let mut corners = vec![0.0; 1024];
    let mut step = 0u8;
    let batch = || {
        for _ in 0..OBJECTS {
            step = step.wrapping_add(1);
            let edge = f32::from(step) / 255.0;
            corners[..12]
                .copy_from_slice(&[-edge, -edge, 0.0, 1.0, edge, -edge, 0.0, 1.0, 0.0, edge, 0.0, 1.0]);
            let buffer = gl.buffer(glow::ARRAY_BUFFER, &bytes(&corners))?;
            gl.attribute(0, 4, 16, 0);
            gl.draw_arrays(glow::TRIANGLES, 0, 3);
            gl.delete_buffer(buffer);
        }
        Ok(())
    };
    sampler.rate(f64::from(OBJECTS), batch, || gl.finish())
}

/// A texture of 64 by 64 with new contents, one draw of it, and it is deleted.
pub(super) fn textures(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    let _canvas = Canvas::new(gl, 64, 64)?;
    let program = gl.program(COVER, SAMPLE)?;
    let mut texels = vec![0; 64 * 64 * 4];
    let mut step = 0u8;
    let batch = || {
        for _ in 0..OBJECTS {
            step = step.wrapping_add(1);
            texels.fill(step);
            let texture = gl.texture(1, 64, 64)?;
            gl.upload(0, Region::size(64, 64), Layout::RGBA8, &texels);
            cover(gl, program);
            gl.delete_texture(texture);
        }
        Ok(())
    };
    sampler.rate(f64::from(OBJECTS), batch, || gl.finish())
}
