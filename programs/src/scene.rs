//! The scenes of `triangle`: lit, antialiased, and the same on every driver at the same moment.

mod crystal;
mod field;
mod knot;
mod label;
mod mesh;
mod shaders;

use std::f32::consts::TAU;

use glam::{Mat4, Vec3};

use crate::canvas::{COVER, Canvas, complete, cover};
use crate::egl::Context;
use crate::gl::{Framebuffer, Gl, Program};
use crate::picture::Picture;
use crate::stop::Verdict;
use label::Label;
use mesh::{Mesh, Place, Triangles};

/// What sets one scene apart from the others.
struct Design {
    name: &'static str,
    mesh: fn() -> Triangles,
    /// Where each copy of the mesh stands at a moment.
    places: fn(f32) -> Vec<Place>,
    /// The camera's place.
    eye: Vec3,
    /// How far the floor that mirrors lies below the middle.
    floor: f32,
    /// The background's colours, at the horizon and far from it.
    horizon: Vec3,
    depths: Vec3,
    /// Where the palette begins, in turns of the colour wheel.
    hue: f32,
}

const DESIGNS: [&Design; 3] = [&knot::DESIGN, &crystal::DESIGN, &field::DESIGN];

/// The names of all scenes.
pub fn names() -> [&'static str; 3] {
    DESIGNS.map(|design| design.name)
}

/// A scene with all its GL objects.
pub struct Scene<'c> {
    gl: &'c Gl,
    design: &'static Design,
    samples: Framebuffer,
    canvas: Canvas,
    size: (i32, i32),
    backdrop: Program,
    surface: Program,
    mesh: Mesh,
    label: Option<Label>,
}

impl<'c> Scene<'c> {
    /// The scene of that name, in the current context.
    pub fn new(context: &'c Context<'_>, name: &str, size: (i32, i32), text: Option<&str>) -> Verdict<Self> {
        let gl = context.gl();
        let design = DESIGNS.into_iter().find(|design| design.name == name);
        let design = design.ok_or_else(|| format!("no scene {name}; there are {}", names().join(", ")))?;
        let canvas = Canvas::new(gl, size.0, size.1)?;
        Ok(Self {
            gl,
            design,
            samples: multisampled(gl, size)?,
            canvas,
            size,
            backdrop: gl.program(COVER, shaders::BACKDROP)?,
            surface: gl.program(shaders::PLACED, shaders::SURFACE)?,
            mesh: Mesh::new(gl, &(design.mesh)())?,
            label: text.map(|text| Label::new(gl, text)).transpose()?,
        })
    }

    /// Draws the scene as it is at a moment, in seconds, and starts the work.
    pub fn draw(&self, moment: f32) {
        let (gl, (width, height)) = (self.gl, self.size);
        gl.bind_framebuffer(glow::FRAMEBUFFER, Some(self.samples));
        gl.viewport(0, 0, width, height);
        gl.clear(glow::DEPTH_BUFFER_BIT);
        self.draw_backdrop();
        self.draw_surfaces(moment);
        gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(self.samples));
        gl.bind_framebuffer(glow::DRAW_FRAMEBUFFER, Some(self.canvas.framebuffer));
        gl.blit_framebuffer(0, 0, width, height, 0, 0, width, height, glow::COLOR_BUFFER_BIT, glow::NEAREST);
        if let Some(label) = &self.label {
            self.canvas.bind(gl);
            label.draw(gl, self.size);
        }
        gl.flush();
    }

    /// Puts what was drawn last into the window of the current context.
    pub fn show(&self) {
        let (gl, (width, height)) = (self.gl, self.size);
        gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(self.canvas.framebuffer));
        gl.bind_framebuffer(glow::DRAW_FRAMEBUFFER, None);
        gl.blit_framebuffer(0, 0, width, height, 0, 0, width, height, glow::COLOR_BUFFER_BIT, glow::NEAREST);
    }

    /// What was drawn last.
    pub fn picture(&self) -> Picture {
        self.canvas.picture(self.gl)
    }

    fn draw_backdrop(&self) {
        let (gl, program) = (self.gl, self.backdrop);
        gl.disable(glow::DEPTH_TEST);
        gl.use_program(Some(program));
        self.set_backdrop(program);
        cover(gl, program);
    }

    /// The mirror images first, which fade with their depth below the floor, then the things themselves.
    fn draw_surfaces(&self, moment: f32) {
        let (gl, program) = (self.gl, self.surface);
        gl.enable(glow::DEPTH_TEST);
        gl.depth_func(glow::LESS);
        gl.use_program(Some(program));
        self.set_vector(program, "eye", self.design.eye);
        self.set_backdrop(program);
        let (width, height) = self.extent();
        gl.uniform_2_f32(gl.at(program, "size").as_ref(), width, height);
        gl.uniform_1_f32(gl.at(program, "hue").as_ref(), self.design.hue + moment * 0.02);
        gl.uniform_matrix_4_f32_slice(
            gl.at(program, "camera").as_ref(),
            false,
            &self.camera().to_cols_array(),
        );
        let floor = self.design.floor;
        gl.uniform_1_f32(gl.at(program, "floor_height").as_ref(), floor);
        let mirror =
            Mat4::from_translation(Vec3::Y * 2.0 * floor) * Mat4::from_scale(Vec3::new(1.0, -1.0, 1.0));
        let places = (self.design.places)(moment);
        let mirrored: Vec<Place> =
            places.iter().map(|place| Place { matrix: mirror * place.matrix, ..*place }).collect();
        self.mesh.draw(gl, &mirrored);
        gl.clear(glow::DEPTH_BUFFER_BIT);
        self.mesh.draw(gl, &places);
    }

    fn camera(&self) -> Mat4 {
        let (width, height) = self.extent();
        let view = Mat4::look_at_rh(self.design.eye, Vec3::ZERO, Vec3::Y);
        Mat4::perspective_rh_gl(0.11 * TAU, width / height, 0.1, 60.0) * view
    }

    #[allow(clippy::cast_precision_loss, reason = "a picture's size is small")]
    fn extent(&self) -> (f32, f32) {
        (self.size.0 as f32, self.size.1 as f32)
    }

    fn set_backdrop(&self, program: Program) {
        self.set_vector(program, "horizon", self.design.horizon);
        self.set_vector(program, "depths", self.design.depths);
    }

    fn set_vector(&self, program: Program, name: &str, value: Vec3) {
        self.gl.uniform_3_f32(self.gl.at(program, name).as_ref(), value.x, value.y, value.z);
    }
}

/// A framebuffer with up to four samples a pixel, and depth.
fn multisampled(gl: &Gl, (width, height): (i32, i32)) -> Verdict<Framebuffer> {
    let count = gl.get_parameter_i32(glow::MAX_SAMPLES).min(4);
    let framebuffer = gl.create_framebuffer()?;
    gl.bind_framebuffer(glow::FRAMEBUFFER, Some(framebuffer));
    let parts = [(glow::RGBA8, glow::COLOR_ATTACHMENT0), (glow::DEPTH_COMPONENT24, glow::DEPTH_ATTACHMENT)];
    for (format, place) in parts {
        let part = gl.create_renderbuffer()?;
        gl.bind_renderbuffer(glow::RENDERBUFFER, Some(part));
        gl.renderbuffer_storage_multisample(glow::RENDERBUFFER, count, format, width, height);
        gl.framebuffer_renderbuffer(glow::FRAMEBUFFER, place, glow::RENDERBUFFER, Some(part));
    }
    complete(gl)?;
    Ok(framebuffer)
}
