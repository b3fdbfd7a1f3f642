//! Textures: uploads of awkward sizes, parts, mipmaps, layers, and very many of them.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, Canvas, cover, sampled};
use crate::gl::{Layout, Region, length};
use crate::picture::{Picture, low_byte, pattern};
use crate::stop::Stop;

pub(super) const CASES: &[Listed] = &[
    ("texture-odd-sizes", odd_sizes),
    ("texture-sub-image", sub_image),
    ("texture-mipmaps", mipmaps),
    ("texture-generate-mipmap", generated_mipmap),
    ("texture-layers", layers),
    ("texture-large", large),
    ("texture-thousand", thousand),
];

/// The formats of the odd-size uploads: what they are called, how they lie, and what GL makes of them.
const ODD_FORMATS: [(&str, u32, u32, usize); 4] = [
    ("RGBA8", glow::RGBA8, glow::RGBA, 4),
    ("RGB8", glow::RGB8, glow::RGB, 3),
    ("RG8", glow::RG8, glow::RG, 2),
    ("R8", glow::R8, glow::RED, 1),
];

fn odd_sizes(stage: &Stage<'_>) -> Verdict {
    for (name, internal, format, channels) in ODD_FORMATS {
        for size in [(17, 13), (1023, 5), (1, 1), (3, 257)] {
            for alignment in [1, 2, 4, 8] {
                let layout = Layout { format, kind: glow::UNSIGNED_BYTE, alignment };
                let outcome = odd_size(stage, internal, layout, channels, size);
                outcome.map_err(|stop| {
                    let (width, height) = size;
                    Stop::failed(format!("{name} {width}x{height} with UNPACK_ALIGNMENT {alignment}: {stop}"))
                })?;
            }
        }
    }
    Ok(())
}

fn odd_size(stage: &Stage<'_>, internal: u32, layout: Layout, channels: usize, size: (i32, i32)) -> Verdict {
    let gl = stage.gl();
    let mut rows = vec![0xee; layout.bytes(Region::size(size.0, size.1))];
    for (y, row) in (0..).zip(rows.chunks_mut(layout.row(size.0))) {
        for (x, texel) in (0..size.0).zip(row.chunks_mut(channels)) {
            texel.copy_from_slice(&pattern(x, y)[..channels]);
        }
    }
    let texture = gl.create_texture()?;
    gl.bind_texture(glow::TEXTURE_2D, Some(texture));
    gl.filter(glow::NEAREST, glow::NEAREST);
    gl.define_texels(internal, size, layout, &rows);
    let seen = sampled(stage.gl(), texture, 0, size)?;
    gl.delete_texture(texture);
    seen.expect(0, |x, y| {
        let mut wanted = [0, 0, 0, 255];
        wanted[..channels].copy_from_slice(&pattern(x, y)[..channels]);
        wanted
    })
}

/// Overlapping parts replace what was there, and nothing beside it.
fn sub_image(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let texture = gl.texture(1, 100, 60)?;
    let mut wanted = Picture::plain(100, 60, [10, 20, 30, 255]);
    gl.upload(0, Region::size(100, 60), Layout::RGBA8, wanted.bytes());
    let parts =
        [(0, 0, 1, 1), (99, 59, 1, 1), (3, 5, 41, 17), (20, 10, 33, 50), (0, 30, 100, 1), (50, 0, 1, 60)];
    for (step, (x, y, width, height)) in (1..).zip(parts) {
        let texel = |px: i32, py: i32| [low_byte(px * 3), low_byte(py * 5), step * 40, 255];
        let part = Picture::compute(width, height, |px, py| texel(x + px, y + py));
        gl.bind_texture(glow::TEXTURE_2D, Some(texture));
        gl.upload(0, Region { x, y, width, height }, Layout::RGBA8, part.bytes());
        let inside = |px, py| (x..x + width).contains(&px) && (y..y + height).contains(&py);
        let before = wanted;
        wanted = Picture::compute(
            100,
            60,
            |px, py| {
                if inside(px, py) { texel(px, py) } else { before.at(px, py) }
            },
        );
    }
    sampled(stage.gl(), texture, 0, (100, 60))?.expect(0, |x, y| wanted.at(x, y))
}

/// Each level has contents of its own, and is sampled at its own size.
fn mipmaps(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let texture = gl.texture(7, 64, 64)?;
    gl.filter(glow::NEAREST_MIPMAP_NEAREST, glow::NEAREST);
    let texel = |level: i32, x: i32, y: i32| {
        let [red, green, _, alpha] = pattern(x, y);
        [red, green, low_byte(level * 40), alpha]
    };
    for level in 0..7 {
        let size = 64 >> level;
        let picture = Picture::compute(size, size, |x, y| texel(level, x, y));
        gl.upload(level, Region::size(size, size), Layout::RGBA8, picture.bytes());
    }
    for level in 0..7 {
        let size = 64 >> level;
        let seen = sampled(stage.gl(), texture, level, (size, size))?;
        let outcome = seen.expect(0, |x, y| texel(level, x, y));
        outcome.map_err(|stop| Stop::failed(format!("level {level}: {stop}")))?;
    }
    Ok(())
}

/// Halving black and white columns of two gives them again, then grey.
fn generated_mipmap(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let texture = gl.texture(6, 32, 32)?;
    gl.filter(glow::NEAREST_MIPMAP_NEAREST, glow::NEAREST);
    let columns = Picture::compute(32, 32, |x, _| if x / 2 % 2 == 0 { [0, 0, 0, 255] } else { [255; 4] });
    gl.upload(0, Region::size(32, 32), Layout::RGBA8, columns.bytes());
    gl.generate_mipmap(glow::TEXTURE_2D);
    let half = sampled(stage.gl(), texture, 1, (16, 16))?;
    half.expect(1, |x, _| if x % 2 == 0 { [0, 0, 0, 255] } else { [255; 4] })?;
    sampled(stage.gl(), texture, 2, (8, 8))?.expect_plain(2, [128, 128, 128, 255])?;
    sampled(stage.gl(), texture, 5, (1, 1))?.expect_plain(2, [128, 128, 128, 255])
}

fn layers(stage: &Stage<'_>) -> Verdict {
    const SAMPLE_LAYER: &str = "#version 300 es
        precision highp float;
        uniform highp sampler2DArray source;
        uniform float layer;
        in vec2 place;
        out vec4 result;
        void main() { result = texture(source, vec3(place, layer)); }";
    let gl = stage.gl();
    let (canvas, program) = (stage.canvas(19, 23)?, gl.program(COVER, SAMPLE_LAYER)?);
    let texture = gl.create_texture()?;
    gl.bind_texture(glow::TEXTURE_2D_ARRAY, Some(texture));
    gl.tex_storage_3d(glow::TEXTURE_2D_ARRAY, 1, glow::RGBA8, 19, 23, 5);
    for filter in [glow::TEXTURE_MIN_FILTER, glow::TEXTURE_MAG_FILTER] {
        gl.tex_parameter_i32(glow::TEXTURE_2D_ARRAY, filter, glow::NEAREST.cast_signed());
    }
    let texel = |layer: i32, x: i32, y: i32| pattern(x + layer * 5, y + layer * 3);
    for layer in 0..5 {
        let picture = Picture::compute(19, 23, |x, y| texel(layer, x, y));
        gl.upload_layer(glow::TEXTURE_2D_ARRAY, layer, (19, 23), picture.bytes());
    }
    for (layer, at) in (0..5).zip([0.0, 1.0, 2.0, 3.0, 4.0]) {
        gl.use_program(Some(program));
        gl.uniform_1_f32(gl.at(program, "layer").as_ref(), at);
        cover(gl, program);
        stage.shot(&canvas)?.expect(0, |x, y| texel(layer, x, y))?;
    }
    Ok(())
}

/// 2048 by 2048 texels: 16 MiB in one upload, more than any staging buffer holds at once.
fn large(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let texture = gl.texture(1, 2048, 2048)?;
    let texel = |x: i32, y: i32| [low_byte(x), low_byte(x >> 8) | low_byte(y >> 8) << 4, low_byte(y), 255];
    let picture = Picture::compute(2048, 2048, texel);
    gl.upload(0, Region::size(2048, 2048), Layout::RGBA8, picture.bytes());
    let seen = sampled(stage.gl(), texture, 0, (2048, 2048))?;
    if seen == picture { Ok(()) } else { seen.expect(0, texel) }
}

/// A thousand textures live at once; some are checked, all are deleted.
fn thousand(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    let texel = |index: i32, x: i32, y: i32| pattern(x + index, y + index * 3);
    let mut textures = Vec::new();
    for index in 0..1000 {
        textures.push(gl.texture(1, 16, 16)?);
        let picture = Picture::compute(16, 16, |x, y| texel(index, x, y));
        gl.upload(0, Region::size(16, 16), Layout::RGBA8, picture.bytes());
    }
    // A walk with a step that shares no factor with 1000 looks random and repeats itself on each run.
    let canvas = Canvas::new(gl, 16, 16)?;
    let program = gl.program(COVER, crate::canvas::SAMPLE)?;
    for step in 0..100 {
        let index = (step * 387 + 91) % 1000;
        gl.bind_texture(glow::TEXTURE_2D, Some(textures[length(index)]));
        cover(gl, program);
        let seen = canvas.picture(gl).expect(0, |x, y| texel(index, x, y));
        seen.map_err(|stop| Stop::failed(format!("texture {index}: {stop}")))?;
    }
    textures.into_iter().for_each(|texture| gl.delete_texture(texture));
    Ok(())
}
