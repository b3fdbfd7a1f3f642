//! A line of text in a corner of the picture.

use font8x8::UnicodeFonts;

use crate::canvas::{COVER, cover};
use crate::gl::{Gl, Layout, Program, Texture, size};
use crate::stop::Verdict;

const GLYPHS: &str = "#version 300 es
precision highp float;
uniform highp sampler2D source;
in vec2 place;
out vec4 result;
void main() { result = vec4(1.0, 1.0, 1.0, texture(source, place).r * 0.85); }";

pub(super) struct Label {
    texture: Texture,
    program: Program,
    size: (i32, i32),
}

impl Label {
    pub(super) fn new(gl: &Gl, text: &str) -> Verdict<Self> {
        let glyphs: Vec<[u8; 8]> =
            text.chars().map(|letter| font8x8::BASIC_FONTS.get(letter).unwrap_or_default()).collect();
        let size = (size(glyphs.len().max(1)) * 8, 8);
        // The font's first row is the uppermost, GL's the lowest.
        let rows = (0..8).rev().flat_map(|row| glyphs.iter().map(move |glyph| glyph[row]));
        let mut texels: Vec<u8> =
            rows.flat_map(|byte| (0..8).map(move |bit| if byte >> bit & 1 == 1 { 255 } else { 0 })).collect();
        texels.resize(texels.len().max(64), 0);
        let texture = gl.create_texture()?;
        gl.bind_texture(glow::TEXTURE_2D, Some(texture));
        gl.filter(glow::NEAREST, glow::NEAREST);
        let layout = Layout { format: glow::RED, kind: glow::UNSIGNED_BYTE, alignment: 1 };
        gl.define_texels(glow::R8, size, layout, &texels);
        Ok(Self { texture, program: gl.program(COVER, GLYPHS)?, size })
    }

    /// Draws the label over the bound framebuffer, in its lower left corner.
    pub(super) fn draw(&self, gl: &Gl, target: (i32, i32)) {
        let scale = (target.1 / 240).max(1);
        gl.viewport(6 * scale, 6 * scale, self.size.0 * scale, self.size.1 * scale);
        gl.disable(glow::DEPTH_TEST);
        gl.enable(glow::BLEND);
        gl.blend_func_separate(glow::SRC_ALPHA, glow::ONE_MINUS_SRC_ALPHA, glow::ZERO, glow::ONE);
        gl.bind_texture(glow::TEXTURE_2D, Some(self.texture));
        cover(gl, self.program);
        gl.disable(glow::BLEND);
    }
}
