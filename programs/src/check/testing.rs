//! Depth and stencil tests.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::clear;
use crate::gl::{Gl, Program};

pub(super) const CASES: &[Listed] = &[("depth-test", depth), ("stencil-test", stencil)];

/// Covers a rectangle, given by two corners from -1 to 1, at one depth with one colour.
const RECTANGLE: &str = "#version 300 es
uniform vec4 corners;
uniform float depth;
void main() {
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
    gl_Position = vec4(mix(corners.xy, corners.zw, corner), depth, 1.0);
}";

struct Painter<'g> {
    gl: &'g Gl,
    program: Program,
}

impl<'g> Painter<'g> {
    fn new(gl: &'g Gl) -> Verdict<Self> {
        Ok(Self { gl, program: gl.program(RECTANGLE, crate::canvas::FILL)? })
    }

    fn rectangle(&self, corners: [f32; 4], depth: f32, color: [f32; 4]) {
        let (gl, at) = (self.gl, |name| self.gl.at(self.program, name));
        gl.use_program(Some(self.program));
        gl.uniform_4_f32(at("corners").as_ref(), corners[0], corners[1], corners[2], corners[3]);
        gl.uniform_4_f32(at("color").as_ref(), color[0], color[1], color[2], color[3]);
        gl.uniform_1_f32(at("depth").as_ref(), depth);
        gl.draw_arrays(glow::TRIANGLE_STRIP, 0, 4);
    }
}

const WHOLE: [f32; 4] = [-1.0, -1.0, 1.0, 1.0];
const LEFT: [f32; 4] = [-1.0, -1.0, 0.0, 1.0];
const LOWER: [f32; 4] = [-1.0, -1.0, 1.0, 0.0];
const RED: [f32; 4] = [1.0, 0.0, 0.0, 1.0];
const GREEN: [f32; 4] = [0.0, 1.0, 0.0, 1.0];
const BLUE: [f32; 4] = [0.0, 0.0, 1.0, 1.0];

/// What is nearer stays, in whatever order it came; a pass that may not write changes no depth.
fn depth(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(32, 32)?);
    let painter = Painter::new(gl)?;
    gl.enable(glow::DEPTH_TEST);
    gl.depth_func(glow::LESS);
    gl.clear_depth_f32(1.0);
    gl.clear(glow::DEPTH_BUFFER_BIT);
    clear(gl, [0.0; 4]);
    painter.rectangle(LEFT, -0.5, RED);
    painter.rectangle(WHOLE, 0.5, GREEN);
    painter.rectangle(LOWER, 0.0, BLUE);
    gl.depth_mask(false);
    gl.color_mask(false, false, false, false);
    painter.rectangle(WHOLE, -0.9, RED);
    gl.depth_mask(true);
    gl.color_mask(true, true, true, true);
    painter.rectangle(WHOLE, 0.4, [1.0, 1.0, 0.0, 1.0]);
    stage.shot(&canvas)?.expect(0, |x, y| match (x < 16, y < 16) {
        (true, _) => [255, 0, 0, 255],
        (false, true) => [0, 0, 255, 255],
        (false, false) => [255, 255, 0, 255],
    })
}

/// Counts in the stencil where two rectangles lie, then paints by the count.
fn stencil(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(32, 32)?);
    let painter = Painter::new(gl)?;
    gl.enable(glow::STENCIL_TEST);
    gl.clear_stencil(1);
    gl.clear(glow::STENCIL_BUFFER_BIT);
    clear(gl, [0.0, 0.0, 0.0, 1.0]);
    gl.color_mask(false, false, false, false);
    gl.stencil_func(glow::ALWAYS, 0, 0xff);
    gl.stencil_op(glow::KEEP, glow::KEEP, glow::INCR);
    painter.rectangle(LEFT, 0.0, RED);
    painter.rectangle(LOWER, 0.0, RED);
    gl.color_mask(true, true, true, true);
    gl.stencil_op(glow::KEEP, glow::KEEP, glow::KEEP);
    for (count, color) in [(1, RED), (2, GREEN), (3, BLUE), (4, [1.0; 4])] {
        gl.stencil_func(glow::EQUAL, count, 0xff);
        painter.rectangle(WHOLE, 0.0, color);
    }
    stage.shot(&canvas)?.expect(0, |x, y| match (x < 16, y < 16) {
        (true, true) => [0, 0, 255, 255],
        (false, false) => [255, 0, 0, 255],
        _ => [0, 255, 0, 255],
    })
}
