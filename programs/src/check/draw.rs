//! Draws: shading, texturing, vertex sources, blending, many triangles.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, FILL, clear, cover, fill, sampled};
use crate::gl::{Layout, Region, bytes, size};
use crate::picture::{Picture, channel, color, pattern};
use crate::stop::ensure;

pub(super) const CASES: &[Listed] = &[
    ("draw-shaded", shaded),
    ("draw-textured", textured),
    ("draw-indexed", indexed),
    ("draw-blended", blended),
    ("draw-instanced", instanced),
    ("draw-large", large),
];

const PLACED: &str = "#version 300 es
layout(location = 0) in vec2 position;
layout(location = 1) in vec3 color;
out vec3 shade;
void main() { shade = color; gl_Position = vec4(position, 0.0, 1.0); }";

const SHADED: &str = "#version 300 es
precision highp float;
in vec3 shade;
out vec4 result;
void main() { result = vec4(shade, 1.0); }";

const WHITE: &str = "#version 300 es
precision highp float;
out vec4 result;
void main() { result = vec4(1.0); }";

/// Where the middle of a pixel lies between the edges of the target, from 0 to 1.
#[allow(clippy::cast_precision_loss, reason = "pixel numbers are small")]
fn middle(pixel: i32, size: i32) -> f32 {
    (pixel as f32 + 0.5) / size as f32
}

/// A quad from two triangles whose colour is its place.
fn shaded(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(96, 64)?);
    clear(gl, [0.0; 4]);
    let corners: [[f32; 5]; 4] = [
        [-1.0, -1.0, 0.0, 0.0, 1.0],
        [1.0, -1.0, 1.0, 0.0, 1.0],
        [-1.0, 1.0, 0.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0],
    ];
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    gl.buffer(glow::ARRAY_BUFFER, &bytes(corners.as_flattened()))?;
    gl.attribute(0, 2, 20, 0);
    gl.attribute(1, 3, 20, 8);
    gl.use_program(Some(gl.program(PLACED, SHADED)?));
    gl.draw_arrays(glow::TRIANGLE_STRIP, 0, 4);
    stage.shot(&canvas)?.expect(2, |x, y| [channel(middle(x, 96)), channel(middle(y, 64)), 255, 255])
}

fn textured(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let texture = gl.texture(1, 64, 32)?;
    let picture = Picture::compute(64, 32, pattern);
    gl.upload(0, Region::size(64, 32), Layout::RGBA8, picture.bytes());
    sampled(stage.gl(), texture, 0, (64, 32))?.expect(0, pattern)?;
    // Twice as large: each texel becomes two by two pixels.
    sampled(stage.gl(), texture, 0, (128, 64))?.expect(0, |x, y| pattern(x / 2, y / 2))
}

/// Two small quads from one buffer by 16-bit indices at an offset.
fn indexed(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(64, 64)?);
    clear(gl, [0.0, 0.0, 0.0, 1.0]);
    let corners: [[f32; 5]; 6] = [
        [-1.0, -1.0, 1.0, 0.0, 0.0],
        [0.0, -1.0, 1.0, 0.0, 0.0],
        [-1.0, 0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [-1.0, 1.0, 1.0, 0.0, 0.0],
        [0.0, 1.0, 1.0, 0.0, 0.0],
    ];
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    gl.buffer(glow::ARRAY_BUFFER, &bytes(corners.as_flattened()))?;
    gl.attribute(0, 2, 20, 0);
    gl.attribute(1, 3, 20, 8);
    let indices: [u16; 9] = [0, 0, 0, 2, 3, 4, 4, 3, 5];
    let indices: Vec<u8> = indices.iter().flat_map(|index| index.to_ne_bytes()).collect();
    gl.buffer(glow::ELEMENT_ARRAY_BUFFER, &indices)?;
    gl.use_program(Some(gl.program(PLACED, SHADED)?));
    gl.draw_elements(glow::TRIANGLES, 6, glow::UNSIGNED_SHORT, 6);
    stage.shot(&canvas)?.expect(0, |x, y| if x < 32 && y >= 32 { [255, 0, 0, 255] } else { [0, 0, 0, 255] })
}

fn blended(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(16, 16)?);
    let program = gl.program(COVER, FILL)?;
    let (below, above) = ([0.2, 0.6, 1.0, 1.0], [1.0, 0.5, 0.0, 0.25]);
    gl.enable(glow::BLEND);

    clear(gl, below);
    gl.blend_func(glow::SRC_ALPHA, glow::ONE_MINUS_SRC_ALPHA);
    fill(gl, program, above);
    let mix = |index: usize| above[index] * 0.25 + below[index] * 0.75;
    stage.shot(&canvas)?.expect_plain(2, color([mix(0), mix(1), mix(2), mix(3)]))?;

    clear(gl, below);
    gl.blend_func_separate(glow::ONE, glow::ONE, glow::ZERO, glow::ONE);
    fill(gl, program, above);
    stage.shot(&canvas)?.expect_plain(1, [255, 255, 255, 255])?;

    clear(gl, below);
    gl.blend_func(glow::ONE, glow::ONE);
    gl.blend_equation(glow::FUNC_REVERSE_SUBTRACT);
    fill(gl, program, above);
    stage.shot(&canvas)?.expect_plain(2, color([0.0, 0.1, 1.0, 0.75]))
}

/// One small quad per instance; place and colour come from a per-instance attribute.
fn instanced(stage: &Stage<'_>) -> Verdict {
    const INSTANCED: &str = "#version 300 es
        layout(location = 0) in vec2 cell;
        layout(location = 1) in vec3 color;
        out vec3 shade;
        void main() {
            vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
            shade = color;
            gl_Position = vec4((cell + corner) / 4.0 - 1.0, 0.0, 1.0);
        }";
    let (gl, canvas) = (stage.gl(), stage.canvas(64, 64)?);
    clear(gl, [0.0; 4]);
    let cells: Vec<[f32; 5]> = (0..64u8)
        .map(|cell| {
            let (x, y) = (f32::from(cell % 8), f32::from(cell / 8));
            [x, y, x / 7.0, y / 7.0, f32::from(cell % 2)]
        })
        .collect();
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    gl.buffer(glow::ARRAY_BUFFER, &bytes(cells.as_flattened()))?;
    gl.attribute(0, 2, 20, 0);
    gl.attribute(1, 3, 20, 8);
    gl.vertex_attrib_divisor(0, 1);
    gl.vertex_attrib_divisor(1, 1);
    gl.use_program(Some(gl.program(INSTANCED, SHADED)?));
    gl.draw_arrays_instanced(glow::TRIANGLE_STRIP, 0, 4, 64);
    stage.shot(&canvas)?.expect(1, |x, y| {
        let cell = &cells[usize::try_from(x / 8 + y / 8 * 8).unwrap_or(0)];
        color([cell[2], cell[3], cell[4], 1.0])
    })
}

/// A hundred thousand triangles in one draw: a grid of cells, of which every third is left out.
fn large(stage: &Stage<'_>) -> Verdict {
    const GRID: i32 = 250;
    let (gl, canvas) = (stage.gl(), stage.canvas(GRID, GRID)?);
    clear(gl, [0.0, 0.0, 0.0, 1.0]);
    let present = |x: i32, y: i32| (x + y * GRID) % 5 != 0;
    let corner = |at: i32| middle(at, GRID) * 2.0 - 1.0 - 1.0 / 250.0;
    let mut vertices = Vec::new();
    for y in 0..GRID {
        for x in (0..GRID).filter(|&x| present(x, y)) {
            let (left, right, low, high) = (corner(x), corner(x + 1), corner(y), corner(y + 1));
            vertices.extend([left, low, right, low, left, high, left, high, right, low, right, high]);
        }
    }
    let count = vertices.len() / 2;
    ensure(count == 300_000, || format!("expected 300000 vertices, made {count}"))?;
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    gl.buffer(glow::ARRAY_BUFFER, &bytes(&vertices))?;
    gl.attribute(0, 2, 8, 0);
    gl.use_program(Some(gl.program(PLACED, WHITE)?));
    gl.draw_arrays(glow::TRIANGLES, 0, size(count));
    stage.shot(&canvas)?.expect(0, |x, y| if present(x, y) { [255; 4] } else { [0, 0, 0, 255] })?;
    cover(gl, gl.program(COVER, WHITE)?);
    stage.shot(&canvas)?.expect_plain(0, [255; 4])
}
