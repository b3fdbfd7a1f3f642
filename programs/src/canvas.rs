//! An off-screen target with colours, depth and stencil, and the small draws that most programs need.

use crate::gl::{Framebuffer, Gl, Layout, Program, Region, Renderbuffer, Texture};
use crate::picture::Picture;
use crate::stop::{Verdict, ensure};

/// Covers the target with one triangle; `place` runs from (0,0) to (1,1) over it.
pub const COVER: &str = "#version 300 es
out vec2 place;
void main() {
    place = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    gl_Position = vec4(place * 2.0 - 1.0, 0.0, 1.0);
}";

/// Fills with a uniform colour.
pub const FILL: &str = "#version 300 es
precision highp float;
uniform vec4 color;
out vec4 result;
void main() { result = color; }";

/// Copies the texture on unit 0.
pub const SAMPLE: &str = "#version 300 es
precision highp float;
uniform highp sampler2D source;
uniform float level;
in vec2 place;
out vec4 result;
void main() { result = textureLod(source, place, level); }";

/// A framebuffer with an RGBA8 texture, and depth and stencil.
#[derive(Debug)]
pub struct Canvas {
    /// The framebuffer.
    pub framebuffer: Framebuffer,
    /// Its colours.
    pub texture: Texture,
    depth: Renderbuffer,
    width: i32,
    height: i32,
}

impl Canvas {
    /// A canvas in the current context, bound, with its viewport set.
    pub fn new(gl: &Gl, width: i32, height: i32) -> Verdict<Self> {
        let texture = gl.texture(1, width, height)?;
        Self::around(gl, texture, width, height)
    }

    /// A canvas that draws into a texture there is.
    pub fn around(gl: &Gl, texture: Texture, width: i32, height: i32) -> Verdict<Self> {
        let (framebuffer, depth) = (gl.create_framebuffer()?, gl.create_renderbuffer()?);
        gl.bind_renderbuffer(glow::RENDERBUFFER, Some(depth));
        gl.renderbuffer_storage(glow::RENDERBUFFER, glow::DEPTH24_STENCIL8, width, height);
        gl.bind_framebuffer(glow::FRAMEBUFFER, Some(framebuffer));
        let (color, both) = (glow::COLOR_ATTACHMENT0, glow::DEPTH_STENCIL_ATTACHMENT);
        gl.framebuffer_texture_2d(glow::FRAMEBUFFER, color, glow::TEXTURE_2D, Some(texture), 0);
        gl.framebuffer_renderbuffer(glow::FRAMEBUFFER, both, glow::RENDERBUFFER, Some(depth));
        complete(gl)?;
        let canvas = Self { framebuffer, texture, depth, width, height };
        canvas.bind(gl);
        Ok(canvas)
    }

    /// Draws go here from now on.
    pub fn bind(&self, gl: &Gl) {
        gl.bind_framebuffer(glow::FRAMEBUFFER, Some(self.framebuffer));
        gl.viewport(0, 0, self.width, self.height);
    }

    /// Reads the whole canvas.
    pub fn picture(&self, gl: &Gl) -> Picture {
        gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(self.framebuffer));
        read_picture(gl, self.width, self.height)
    }

    /// Gives the GL objects back.
    pub fn delete(self, gl: &Gl) {
        gl.delete_framebuffer(self.framebuffer);
        gl.delete_renderbuffer(self.depth);
        gl.delete_texture(self.texture);
    }
}

/// Reads the lower left of the framebuffer that is bound for reading.
pub fn read_picture(gl: &Gl, width: i32, height: i32) -> Picture {
    Picture::new(width, height, gl.read(Region::size(width, height), Layout::RGBA8))
}

/// Fails unless the bound framebuffer can be drawn into.
pub fn complete(gl: &Gl) -> Verdict {
    let status = gl.check_framebuffer_status(glow::FRAMEBUFFER);
    ensure(status == glow::FRAMEBUFFER_COMPLETE, || {
        format!("expected a complete framebuffer, saw status {status:#06x}")
    })
}

/// Clears the bound framebuffer's colours.
pub fn clear(gl: &Gl, color: [f32; 4]) {
    gl.clear_color(color[0], color[1], color[2], color[3]);
    gl.clear(glow::COLOR_BUFFER_BIT);
}

/// Covers the bound framebuffer with what `program` computes.
pub fn cover(gl: &Gl, program: Program) {
    gl.use_program(Some(program));
    gl.bind_vertex_array(None);
    gl.draw_arrays(glow::TRIANGLES, 0, 3);
}

/// Covers the bound framebuffer with one colour; `program` is of [`FILL`].
pub fn fill(gl: &Gl, program: Program, color: [f32; 4]) {
    gl.use_program(Some(program));
    gl.uniform_4_f32(gl.at(program, "color").as_ref(), color[0], color[1], color[2], color[3]);
    cover(gl, program);
}

/// Draws level `level` of a texture over a new canvas of the current context, and reads it.
pub fn sampled(gl: &Gl, texture: Texture, level: i32, size: (i32, i32)) -> Verdict<Picture> {
    let canvas = Canvas::new(gl, size.0, size.1)?;
    let program = gl.program(COVER, SAMPLE)?;
    gl.use_program(Some(program));
    #[allow(clippy::cast_precision_loss, reason = "a level is at most 30")]
    gl.uniform_1_f32(gl.at(program, "level").as_ref(), level as f32);
    gl.active_texture(glow::TEXTURE0);
    gl.bind_texture(glow::TEXTURE_2D, Some(texture));
    cover(gl, program);
    let picture = canvas.picture(gl);
    gl.delete_program(program);
    canvas.delete(gl);
    Ok(picture)
}
