//! Buffers: mapping, pixel transfers, uniform blocks, transform feedback.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, clear, cover, sampled};
use crate::gl::{Gl, Layout, Region, bytes, floats};
use crate::picture::{Picture, color, low_byte, pattern};
use crate::stop::ensure;

pub(super) const CASES: &[Listed] = &[
    ("buffer-map-read", map_read),
    ("buffer-map-write", map_write),
    ("buffer-map-invalidate", map_invalidate),
    ("buffer-map-unsynchronized", map_unsynchronized),
    ("buffer-copy", copy),
    ("pbo-readback", pbo_readback),
    ("pbo-upload", pbo_upload),
    ("uniform-buffer", uniform_buffer),
    ("transform-feedback", transform_feedback),
];

const TARGET: u32 = glow::ARRAY_BUFFER;
const SIZE: i32 = 10_000;

fn contents(start: i32, count: i32) -> Vec<u8> {
    (start..start + count).map(|at| low_byte(at * 7 + (at >> 8))).collect()
}

fn expect_contents(gl: &Gl, wanted: &[u8]) -> Verdict {
    let size = crate::gl::size(wanted.len());
    gl.map(TARGET, 0, size, glow::MAP_READ_BIT, |seen| {
        let wrong = seen.iter().zip(wanted).position(|(seen, wanted)| seen != wanted);
        wrong.map_or(Ok(()), |at| {
            ensure(false, || format!("expected {}, saw {}, at byte {at} of {size}", wanted[at], seen[at]))
        })
    })?
}

fn map_read(stage: &Stage<'_>) -> Verdict {
    let (gl, wanted) = (stage.gl(), contents(0, SIZE));
    gl.buffer(TARGET, &wanted)?;
    expect_contents(gl, &wanted)?;
    let part = gl.map(TARGET, 4099, 257, glow::MAP_READ_BIT, |seen| seen.to_vec())?;
    ensure(part == wanted[4099..4356], || "expected bytes 4099 to 4355 of the buffer, saw others".to_owned())
}

fn map_write(stage: &Stage<'_>) -> Verdict {
    let (gl, mut wanted) = (stage.gl(), contents(0, SIZE));
    gl.buffer(TARGET, &wanted)?;
    for (start, count) in [(0, 1), (9999, 1), (1234, 4321), (64, 64)] {
        let new = contents(start + 91, count);
        let place = crate::gl::length(start)..crate::gl::length(start + count);
        wanted[place].copy_from_slice(&new);
        gl.map(TARGET, start, count, glow::MAP_WRITE_BIT, |bytes| bytes.copy_from_slice(&new))?;
    }
    let both = glow::MAP_READ_BIT | glow::MAP_WRITE_BIT;
    gl.map(TARGET, 0, SIZE, both, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x5a))?;
    wanted.iter_mut().for_each(|byte| *byte ^= 0x5a);
    expect_contents(gl, &wanted)
}

/// Invalidating a range leaves the rest alone; invalidating the whole leaves what is written after.
fn map_invalidate(stage: &Stage<'_>) -> Verdict {
    let (gl, mut wanted) = (stage.gl(), contents(0, SIZE));
    gl.buffer(TARGET, &wanted)?;
    let new = contents(77, 3000);
    let range = glow::MAP_WRITE_BIT | glow::MAP_INVALIDATE_RANGE_BIT;
    gl.map(TARGET, 500, 3000, range, |bytes| bytes.copy_from_slice(&new))?;
    wanted[500..3500].copy_from_slice(&new);
    expect_contents(gl, &wanted)?;
    let new = contents(5, SIZE);
    let whole = glow::MAP_WRITE_BIT | glow::MAP_INVALIDATE_BUFFER_BIT;
    gl.map(TARGET, 0, SIZE, whole, |bytes| bytes.copy_from_slice(&new))?;
    expect_contents(gl, &new)
}

/// A ring of vertices, written beside the part that draws in flight still read.
fn map_unsynchronized(stage: &Stage<'_>) -> Verdict {
    const POINT: &str = "#version 300 es
        layout(location = 0) in vec3 vertex;
        out float shade;
        void main() {
            shade = vertex.z;
            gl_PointSize = 1.0;
            gl_Position = vec4(vertex.xy / 8.0 - 1.0 + 1.0 / 16.0, 0.0, 1.0);
        }";
    const SHADE: &str = "#version 300 es
        precision highp float;
        in float shade;
        out vec4 result;
        void main() { result = vec4(shade, 1.0 - shade, 0.0, 1.0); }";
    let (gl, canvas) = (stage.gl(), stage.canvas(16, 16)?);
    clear(gl, [0.0; 4]);
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    gl.buffer(TARGET, &vec![0; 256 * 12])?;
    gl.attribute(0, 3, 12, 0);
    gl.use_program(Some(gl.program(POINT, SHADE)?));
    let access = glow::MAP_WRITE_BIT | glow::MAP_UNSYNCHRONIZED_BIT | glow::MAP_INVALIDATE_RANGE_BIT;
    let shade = |x: u8, y: u8| f32::from(x * 16 + y) / 255.0;
    for y in 0..16u8 {
        let row: Vec<f32> = (0..16).flat_map(|x| [f32::from(x), f32::from(y), shade(x, y)]).collect();
        gl.map(TARGET, i32::from(y) * 192, 192, access, |to| to.copy_from_slice(&bytes(&row)))?;
        gl.draw_arrays(glow::POINTS, i32::from(y) * 16, 16);
    }
    stage.shot(&canvas)?.expect(1, |x, y| {
        let shade = shade(low_byte(x), low_byte(y));
        color([shade, 1.0 - shade, 0.0, 1.0])
    })
}

fn copy(stage: &Stage<'_>) -> Verdict {
    let (gl, mut wanted) = (stage.gl(), vec![9; 10_000]);
    let source = contents(3, SIZE);
    gl.buffer(glow::COPY_READ_BUFFER, &source)?;
    gl.buffer(TARGET, &wanted)?;
    gl.copy_buffer_sub_data(glow::COPY_READ_BUFFER, TARGET, 17, 4001, 3333);
    wanted[4001..7334].copy_from_slice(&source[17..3350]);
    expect_contents(gl, &wanted)
}

fn pbo_readback(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(61, 43)?);
    gl.bind_texture(glow::TEXTURE_2D, Some(canvas.texture));
    gl.upload(0, Region::size(61, 43), Layout::RGBA8, Picture::compute(61, 43, pattern).bytes());
    let size = 61 * 43 * 4;
    gl.bind_buffer(glow::PIXEL_PACK_BUFFER, Some(gl.create_buffer()?));
    gl.buffer_data_size(glow::PIXEL_PACK_BUFFER, size + 64, glow::STREAM_READ);
    gl.read_to_buffer(Region::size(61, 43), Layout::RGBA8, 64);
    let seen = gl.map(glow::PIXEL_PACK_BUFFER, 64, size, glow::MAP_READ_BIT, |bytes| bytes.to_vec())?;
    gl.bind_buffer(glow::PIXEL_PACK_BUFFER, None);
    Picture::new(61, 43, seen).expect(0, pattern)
}

fn pbo_upload(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let texture = gl.texture(1, 61, 43)?;
    let mut source = vec![0xcc; 128];
    source.extend_from_slice(Picture::compute(61, 43, pattern).bytes());
    gl.buffer(glow::PIXEL_UNPACK_BUFFER, &source)?;
    gl.upload_from_buffer(0, Region::size(61, 43), Layout::RGBA8, 128);
    gl.bind_buffer(glow::PIXEL_UNPACK_BUFFER, None);
    sampled(stage.gl(), texture, 0, (61, 43))?.expect(0, pattern)
}

/// Three draws, each with its own range of one buffer and its own strip of the target.
fn uniform_buffer(stage: &Stage<'_>) -> Verdict {
    const FROM_BLOCK: &str = "#version 300 es
        precision highp float;
        layout(std140) uniform Paint { vec4 colors[4]; };
        out vec4 result;
        void main() { result = colors[int(gl_FragCoord.x) / 8]; }";
    let (gl, canvas) = (stage.gl(), stage.canvas(32, 30)?);
    let program = gl.program(COVER, FROM_BLOCK)?;
    let block = gl.get_uniform_block_index(program, "Paint");
    let block = block.ok_or_else(|| "expected the uniform block Paint, saw none".to_owned())?;
    gl.uniform_block_binding(program, block, 2);
    gl.enable(glow::SCISSOR_TEST);
    let shade = |strip: u8, column: u8| [f32::from(strip) / 2.0, f32::from(column) / 3.0, 0.5, 1.0];
    for strip in 0..3u8 {
        let colors: Vec<f32> = (0..4).flat_map(|column| shade(strip, column)).collect();
        let buffer = gl.buffer(glow::UNIFORM_BUFFER, &bytes(&colors))?;
        gl.bind_buffer_base(glow::UNIFORM_BUFFER, 2, Some(buffer));
        gl.scissor(0, i32::from(strip) * 10, 32, 10);
        cover(gl, program);
    }
    gl.disable(glow::SCISSOR_TEST);
    stage.shot(&canvas)?.expect(1, |x, y| color(shade(low_byte(y / 10), low_byte(x / 8))))
}

fn transform_feedback(stage: &Stage<'_>) -> Verdict {
    const SQUARES: &str = "#version 300 es
        layout(location = 0) in float number;
        out float square;
        out vec2 pair;
        void main() { square = number * number; pair = vec2(number, float(gl_VertexID)); gl_Position = vec4(0.0); }";
    const NOTHING: &str = "#version 300 es
        void main() {}";
    // Even a draw that discards its pixels needs a complete framebuffer.
    let (gl, _canvas) = (stage.gl(), stage.canvas(1, 1)?);
    let program = gl.create_program()?;
    gl.add_stage(program, glow::VERTEX_SHADER, SQUARES)?;
    gl.add_stage(program, glow::FRAGMENT_SHADER, NOTHING)?;
    gl.transform_feedback_varyings(program, &["square", "pair"], glow::INTERLEAVED_ATTRIBS);
    gl.use_program(Some(gl.link(program)?));
    let numbers: Vec<f32> = (0..100u8).map(|number| f32::from(number) * 0.5).collect();
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    gl.buffer(glow::ARRAY_BUFFER, &bytes(&numbers))?;
    gl.attribute(0, 1, 4, 0);
    let output = glow::TRANSFORM_FEEDBACK_BUFFER;
    let buffer = gl.buffer(output, &vec![0; 1200])?;
    gl.bind_buffer_base(output, 0, Some(buffer));
    let query = gl.create_query()?;
    gl.enable(glow::RASTERIZER_DISCARD);
    gl.begin_query(glow::TRANSFORM_FEEDBACK_PRIMITIVES_WRITTEN, query);
    gl.begin_transform_feedback(glow::POINTS);
    gl.draw_arrays(glow::POINTS, 0, 100);
    gl.end_transform_feedback();
    gl.end_query(glow::TRANSFORM_FEEDBACK_PRIMITIVES_WRITTEN);
    gl.disable(glow::RASTERIZER_DISCARD);
    let seen = gl.map(output, 0, 1200, glow::MAP_READ_BIT, |bytes| floats(bytes))?;
    let wanted: Vec<f32> = (0..100u8)
        .zip(&numbers)
        .flat_map(|(index, &number)| [number * number, number, f32::from(index)])
        .collect();
    let wrong = seen.iter().zip(&wanted).position(|(seen, wanted)| seen != wanted);
    if let Some(at) = wrong {
        return Err(format!("expected {}, saw {}, at float {at}", wanted[at], seen[at]).into());
    }
    let written = gl.get_query_parameter_u32(query, glow::QUERY_RESULT);
    ensure(written == 100, || format!("expected 100 primitives written, saw {written}"))
}
