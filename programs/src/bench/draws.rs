//! How many draws, frames and flushes.

use super::Sampler;
use crate::canvas::{Canvas, FILL, clear};
use crate::gl::{Gl, Program, UniformLocation};
use crate::stop::Verdict;

/// Draws in one batch: enough to make the finish at its end cheap.
const BATCH: u16 = 200;

/// A quarter of the target for a triangle: little to fill, so that it is the call that counts.
const SMALL: &str = "#version 300 es
uniform vec2 corner;
void main() {
    vec2 at = vec2(gl_VertexID & 1, gl_VertexID >> 1);
    gl_Position = vec4(corner + at * 0.25, 0.0, 1.0);
}";

struct Painter<'g> {
    gl: &'g Gl,
    color: Option<UniformLocation>,
    corner: Option<UniformLocation>,
}

impl<'g> Painter<'g> {
    fn new(gl: &'g Gl, program: Program) -> Self {
        gl.use_program(Some(program));
        Self { gl, color: gl.at(program, "color"), corner: gl.at(program, "corner") }
    }

    fn triangle(&self, step: u16) {
        let part = |shift: u16| f32::from((step >> shift) & 15) / 16.0;
        self.gl.uniform_4_f32(self.color.as_ref(), part(0), part(4), part(8), 0.5);
        self.gl.uniform_2_f32(self.corner.as_ref(), part(0) * 2.0 - 1.0, part(4) * 2.0 - 1.0);
        self.gl.draw_arrays(glow::TRIANGLES, 0, 3);
    }
}

/// A clear, four draws, and the wait that a program without a swap chain makes.
pub(super) fn small_frames(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    let _canvas = Canvas::new(gl, 256, 256)?;
    let painter = Painter::new(gl, gl.program(SMALL, FILL)?);
    let mut frame = 0u16;
    let batch = || {
        frame = frame.wrapping_add(1);
        clear(gl, [0.1, 0.2, 0.3, 1.0]);
        (0..4).for_each(|step| painter.triangle(frame.wrapping_mul(7).wrapping_add(step * 37)));
        gl.finish();
        Ok(())
    };
    sampler.rate(1.0, batch, || ())
}

/// Draws with a change of uniforms, blending, scissor and program between them; one wait at the end.
pub(super) fn draw_calls(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    let _canvas = Canvas::new(gl, 64, 64)?;
    let programs = [gl.program(SMALL, FILL)?, gl.program(SMALL, FILL)?];
    let painters = programs.map(|program| Painter::new(gl, program));
    gl.enable(glow::SCISSOR_TEST);
    let batch = || {
        for step in 0..BATCH {
            let odd = usize::from(step % 2);
            gl.use_program(Some(programs[odd]));
            gl.scissor(0, 0, 32 + i32::from(step % 32), 64);
            if odd == 1 {
                gl.enable(glow::BLEND)
            } else {
                gl.disable(glow::BLEND)
            }
            painters[odd].triangle(step);
        }
        Ok(())
    };
    sampler.rate(f64::from(BATCH), batch, || gl.finish())
}

/// Small draws, each sent off at once and not waited for; one wait at the end.
pub(super) fn flush(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    let _canvas = Canvas::new(gl, 64, 64)?;
    let painter = Painter::new(gl, gl.program(SMALL, FILL)?);
    let mut step = 0u16;
    let batch = || {
        for _ in 0..10 {
            step = step.wrapping_add(1);
            painter.triangle(step);
            gl.flush();
        }
        Ok(())
    };
    sampler.rate(10.0, batch, || gl.finish())
}
