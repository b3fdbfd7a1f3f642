//! Framebuffers: rendering into textures, multisampling, blits, and reading back.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, FILL, clear, complete, cover, fill, read_picture, sampled};
use crate::gl::{Gl, Layout, Region, bytes};
use crate::picture::{Picture, pattern};
use crate::stop::{Stop, ensure};

pub(super) const CASES: &[Listed] = &[
    ("read-formats", read_formats),
    ("read-part", read_part),
    ("render-to-texture", render_to_texture),
    ("render-several-targets", several_targets),
    ("blit", blit),
    ("msaa-resolve", msaa_resolve),
];

/// A format to clear and read back: its name, the layout of the read, and the bytes of one pixel.
struct Format {
    name: &'static str,
    internal: u32,
    format: u32,
    kind: u32,
    color: [f32; 4],
    pixel: &'static [u8],
}

const FORMATS: [Format; 4] = [
    Format {
        name: "RGBA8",
        internal: glow::RGBA8,
        format: glow::RGBA,
        kind: glow::UNSIGNED_BYTE,
        color: [0.2, 0.4, 0.6, 0.8],
        pixel: &[51, 102, 153, 204],
    },
    Format {
        name: "RGB8",
        internal: glow::RGB8,
        format: glow::RGBA,
        kind: glow::UNSIGNED_BYTE,
        color: [0.2, 0.4, 0.6, 0.8],
        pixel: &[51, 102, 153, 255],
    },
    Format {
        name: "RGB565",
        internal: glow::RGB565,
        format: glow::RGBA,
        kind: glow::UNSIGNED_BYTE,
        color: [1.0, 0.0, 1.0, 1.0],
        pixel: &[255, 0, 255, 255],
    },
    Format {
        name: "RGB10_A2",
        internal: glow::RGB10_A2,
        format: glow::RGBA,
        kind: glow::UNSIGNED_INT_2_10_10_10_REV,
        color: [1.0, 0.0, 0.0, 1.0],
        pixel: &[0xff, 0x03, 0x00, 0xc0],
    },
];

fn read_formats(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    for format in FORMATS {
        bind_renderbuffer(gl, format.internal, (13, 7))?;
        clear(gl, format.color);
        for alignment in [1, 4, 8] {
            let layout = Layout { format: format.format, kind: format.kind, alignment };
            let seen = gl.read(Region::size(13, 7), layout);
            let used = length_of_row(layout);
            let pixels = seen.chunks(layout.row(13)).flat_map(|row| row[..used].chunks(layout.texel()));
            for (index, pixel) in pixels.enumerate() {
                ensure(pixel == format.pixel, || {
                    format!("{}: expected {:?}, saw {pixel:?}, at pixel {index}", format.name, format.pixel)
                })?;
            }
        }
    }
    read_integers(gl)
}

fn length_of_row(layout: Layout) -> usize {
    13 * layout.texel()
}

/// An unsigned integer target keeps values that no float could.
fn read_integers(gl: &Gl) -> Verdict {
    const NUMBERS: &str = "#version 300 es
        precision highp float;
        out uvec4 result;
        void main() { result = uvec4(gl_FragCoord.x, gl_FragCoord.y, 4294967295u, 16777217u); }";
    bind_renderbuffer(gl, glow::RGBA32UI, (5, 3))?;
    gl.viewport(0, 0, 5, 3);
    cover(gl, gl.program(COVER, NUMBERS)?);
    let layout = Layout { format: glow::RGBA_INTEGER, kind: glow::UNSIGNED_INT, alignment: 4 };
    let seen = gl.read(Region::size(5, 3), layout);
    let seen: Vec<u32> = seen.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
    let wanted: Vec<u32> = (0..15).flat_map(|at| [at % 5, at / 5, u32::MAX, 16_777_217]).collect();
    ensure(seen == wanted, || format!("RGBA32UI: expected {wanted:?}, saw {seen:?}"))
}

fn bind_renderbuffer(gl: &Gl, format: u32, size: (i32, i32)) -> Verdict {
    gl.bind_framebuffer(glow::FRAMEBUFFER, Some(gl.create_framebuffer()?));
    let renderbuffer = gl.create_renderbuffer()?;
    gl.bind_renderbuffer(glow::RENDERBUFFER, Some(renderbuffer));
    gl.renderbuffer_storage(glow::RENDERBUFFER, format, size.0, size.1);
    let color = glow::COLOR_ATTACHMENT0;
    gl.framebuffer_renderbuffer(glow::FRAMEBUFFER, color, glow::RENDERBUFFER, Some(renderbuffer));
    complete(gl)
}

fn read_part(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(77, 55)?);
    let whole = Picture::compute(77, 55, pattern);
    gl.bind_texture(glow::TEXTURE_2D, Some(canvas.texture));
    gl.upload(0, Region::size(77, 55), Layout::RGBA8, whole.bytes());
    for (x, y, width, height) in [(0, 0, 77, 55), (76, 54, 1, 1), (13, 9, 31, 3), (40, 0, 1, 55)] {
        let seen = Picture::new(width, height, gl.read(Region { x, y, width, height }, Layout::RGBA8));
        seen.expect(0, |px, py| pattern(px + x, py + y))?;
    }
    Ok(())
}

/// What was drawn into a texture is what the next draw samples; twice, to meet caches.
fn render_to_texture(stage: &Stage<'_>) -> Verdict {
    const CHECKS: &str = "#version 300 es
        precision highp float;
        uniform float phase;
        out vec4 result;
        void main() {
            vec2 cell = floor(gl_FragCoord.xy / 4.0);
            result = vec4(mod(cell.x + cell.y, 2.0), phase, 0.0, 1.0);
        }";
    let (gl, inner) = (stage.gl(), stage.canvas(40, 24)?);
    let program = gl.program(COVER, CHECKS)?;
    for (phase, green) in [(0.0, 0), (1.0, 255)] {
        inner.bind(gl);
        gl.use_program(Some(program));
        gl.uniform_1_f32(gl.at(program, "phase").as_ref(), phase);
        cover(gl, program);
        let seen = sampled(stage.gl(), inner.texture, 0, (40, 24))?;
        seen.expect(0, |x, y| [if (x / 4 + y / 4) % 2 == 0 { 0 } else { 255 }, green, 0, 255])?;
    }
    stage.shot(&inner).map(drop)
}

fn several_targets(stage: &Stage<'_>) -> Verdict {
    const FOUR: &str = "#version 300 es
        precision highp float;
        layout(location = 0) out vec4 a;
        layout(location = 1) out vec4 b;
        void main() { a = vec4(1.0, 0.0, 0.0, 1.0); b = vec4(0.0, 1.0, 0.0, 1.0); }";
    let (gl, canvas) = (stage.gl(), stage.canvas(20, 20)?);
    let second = gl.texture(1, 20, 20)?;
    let place = glow::COLOR_ATTACHMENT1;
    gl.framebuffer_texture_2d(glow::FRAMEBUFFER, place, glow::TEXTURE_2D, Some(second), 0);
    gl.draw_buffers(&[glow::COLOR_ATTACHMENT0, place]);
    complete(gl)?;
    cover(gl, gl.program(COVER, FOUR)?);
    canvas.picture(gl).expect_plain(0, [255, 0, 0, 255])?;
    gl.read_buffer(place);
    read_picture(gl, 20, 20).expect_plain(0, [0, 255, 0, 255])
}

/// Copies a part to another place, upside down and twice as large.
fn blit(stage: &Stage<'_>) -> Verdict {
    let (gl, source) = (stage.gl(), stage.canvas(32, 32)?);
    gl.bind_texture(glow::TEXTURE_2D, Some(source.texture));
    gl.upload(0, Region::size(32, 32), Layout::RGBA8, Picture::compute(32, 32, pattern).bytes());
    let target = stage.canvas(64, 64)?;
    clear(gl, [0.0, 0.0, 0.0, 1.0]);
    gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(source.framebuffer));
    gl.bind_framebuffer(glow::DRAW_FRAMEBUFFER, Some(target.framebuffer));
    gl.blit_framebuffer(4, 6, 20, 22, 10, 52, 42, 20, glow::COLOR_BUFFER_BIT, glow::NEAREST);
    stage.shot(&target)?.expect(0, |x, y| {
        let inside = (10..42).contains(&x) && (20..52).contains(&y);
        if inside { pattern(4 + (x - 10) / 2, 6 + (51 - y) / 2) } else { [0, 0, 0, 255] }
    })
}

/// Half a target, cut diagonally, with four samples: whole inside and out, mixed on the edge.
fn msaa_resolve(stage: &Stage<'_>) -> Verdict {
    const PLACED: &str = "#version 300 es
        layout(location = 0) in vec2 position;
        void main() { gl_Position = vec4(position, 0.0, 1.0); }";
    let gl = stage.gl();
    let most = gl.get_parameter_i32(glow::MAX_SAMPLES);
    if most < 4 {
        return Err(Stop::skipped(format!("GL_MAX_SAMPLES is {most}")));
    }
    let (framebuffer, renderbuffer) = (gl.create_framebuffer()?, gl.create_renderbuffer()?);
    gl.bind_renderbuffer(glow::RENDERBUFFER, Some(renderbuffer));
    gl.renderbuffer_storage_multisample(glow::RENDERBUFFER, 4, glow::RGBA8, 64, 64);
    let resolved = stage.canvas(64, 64)?;
    gl.bind_framebuffer(glow::FRAMEBUFFER, Some(framebuffer));
    let color = glow::COLOR_ATTACHMENT0;
    gl.framebuffer_renderbuffer(glow::FRAMEBUFFER, color, glow::RENDERBUFFER, Some(renderbuffer));
    complete(gl)?;
    fill(gl, gl.program(COVER, FILL)?, [0.0, 0.0, 0.0, 1.0]);
    gl.bind_vertex_array(Some(gl.create_vertex_array()?));
    // The edge falls from (64,57) to (57,64) of the lower triangle, off the pixels' corners.
    gl.buffer(glow::ARRAY_BUFFER, &bytes(&[-1.0, -1.0, 0.79, -1.0, -1.0, 0.79]))?;
    gl.attribute(0, 2, 8, 0);
    let white = gl.program(PLACED, FILL)?;
    gl.use_program(Some(white));
    gl.uniform_4_f32(gl.at(white, "color").as_ref(), 1.0, 1.0, 1.0, 1.0);
    gl.draw_arrays(glow::TRIANGLES, 0, 3);

    gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(framebuffer));
    gl.bind_framebuffer(glow::DRAW_FRAMEBUFFER, Some(resolved.framebuffer));
    gl.blit_framebuffer(0, 0, 64, 64, 0, 0, 64, 64, glow::COLOR_BUFFER_BIT, glow::NEAREST);
    let seen = stage.shot(&resolved)?;
    seen.expect_some(0, |x, y| match x + y {
        ..=54 => Some([255; 4]),
        59.. => Some([0, 0, 0, 255]),
        _ => None,
    })?;
    let mixed = (0..64).flat_map(|y| (0..64).map(move |x| (x, y)));
    let mixed = mixed.filter(|&(x, y)| (1..255).contains(&seen.at(x, y)[0])).count();
    ensure(mixed >= 20, || format!("expected at least 20 mixed pixels on the edge, saw {mixed}"))
}
