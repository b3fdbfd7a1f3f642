//! PRIME between two processes: the exporter's texture and the importer's are the same memory.
//!
//! The exporter paints, the importer checks and paints, the exporter checks. Each hands over with a fence
//! where the driver has them, else it finishes first.

pub mod export;
pub mod import;
mod wire;

use std::os::fd::OwnedFd;

use crate::canvas::{COVER, cover};
use crate::egl::Display;
use crate::fence;
use crate::gl::{Gl, Program};
use crate::picture::low_byte;
use crate::stop::Verdict;

/// Colours that tell every pixel from its neighbours and every step from the one before.
const PAINT: &str = "#version 300 es
precision highp float;
precision highp int;
uniform int step;
out vec4 result;
void main() {
    ivec2 at = ivec2(gl_FragCoord.xy);
    ivec3 color = ivec3(at.x * 3 + step * 31, at.y * 5 + step * 17, (at.x + at.y) * 7 + step) & 255;
    result = vec4(vec3(color) / 255.0, 1.0);
}";

fn painted(step: i32, x: i32, y: i32) -> [u8; 4] {
    [low_byte(x * 3 + step * 31), low_byte(y * 5 + step * 17), low_byte((x + y) * 7 + step), 255]
}

fn painter(gl: &Gl) -> Verdict<Program> {
    gl.program(COVER, PAINT)
}

fn paint(gl: &Gl, program: Program, step: i32) {
    gl.use_program(Some(program));
    gl.uniform_1_i32(gl.at(program, "step").as_ref(), step);
    cover(gl, program);
}

/// Ends one's turn: a fence that the other waits on, or none if all is done.
fn hand_over(display: &Display, gl: &Gl) -> Verdict<Option<OwnedFd>> {
    if fence::offered(display) {
        return fence::export(display).map(Some);
    }
    gl.finish();
    Ok(None)
}

/// Begins one's turn.
fn take_over(display: &Display, fence: Option<OwnedFd>) -> Verdict {
    fence.map_or(Ok(()), |fence| fence::wait_on(display, fence))
}
