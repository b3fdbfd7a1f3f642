//! A mesh that is drawn in many places at once.

use glam::{Mat4, Vec3};

use crate::gl::{Buffer, Gl, VertexArray, bytes, size};
use crate::stop::Verdict;

/// A corner of a triangle.
#[derive(Clone, Copy)]
pub(super) struct Vertex {
    pub(super) position: Vec3,
    pub(super) normal: Vec3,
    /// Its place in the palette, in turns of the colour wheel.
    pub(super) tint: f32,
}

/// Triangles: each three indices choose three corners.
pub(super) struct Triangles {
    pub(super) corners: Vec<Vertex>,
    pub(super) indices: Vec<u16>,
}

/// Where a copy of a mesh stands, and how far its tint is shifted.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) matrix: Mat4,
    pub(super) tint: f32,
}

/// Triangles in a buffer, and a buffer of the places where they are drawn.
pub(super) struct Mesh {
    array: VertexArray,
    places: Buffer,
    count: i32,
}

impl Mesh {
    pub(super) fn new(gl: &Gl, triangles: &Triangles) -> Verdict<Self> {
        let array = gl.create_vertex_array()?;
        gl.bind_vertex_array(Some(array));
        let floats: Vec<f32> = triangles
            .corners
            .iter()
            .flat_map(|vertex| {
                let (at, normal) = (vertex.position, vertex.normal);
                [at.x, at.y, at.z, normal.x, normal.y, normal.z, vertex.tint]
            })
            .collect();
        gl.buffer(glow::ARRAY_BUFFER, &bytes(&floats))?;
        gl.attribute(0, 3, 28, 0);
        gl.attribute(1, 3, 28, 12);
        gl.attribute(2, 1, 28, 24);
        let indices: Vec<u8> = triangles.indices.iter().flat_map(|index| index.to_ne_bytes()).collect();
        gl.buffer(glow::ELEMENT_ARRAY_BUFFER, &indices)?;
        let places = gl.buffer(glow::ARRAY_BUFFER, &[])?;
        for column in 0..4 {
            gl.attribute(3 + column, 4, 68, 16 * column.cast_signed());
        }
        gl.attribute(7, 1, 68, 64);
        (3..8).for_each(|attribute| gl.vertex_attrib_divisor(attribute, 1));
        Ok(Self { array, places, count: size(triangles.indices.len()) })
    }

    /// Draws a copy in each place.
    pub(super) fn draw(&self, gl: &Gl, places: &[Place]) {
        let floats =
            places.iter().flat_map(|place| place.matrix.to_cols_array().into_iter().chain([place.tint]));
        let floats: Vec<f32> = floats.collect();
        gl.bind_buffer(glow::ARRAY_BUFFER, Some(self.places));
        gl.buffer_data_u8_slice(glow::ARRAY_BUFFER, &bytes(&floats), glow::STREAM_DRAW);
        gl.bind_vertex_array(Some(self.array));
        gl.draw_elements_instanced(glow::TRIANGLES, self.count, glow::UNSIGNED_SHORT, 0, size(places.len()));
        gl.bind_vertex_array(None);
    }
}

/// A surface, given from 0 to 1 in both directions, as a grid of `rows` by `columns` patches.
pub(super) fn patches(rows: u16, columns: u16, surface: impl Fn(f32, f32) -> Vertex) -> Triangles {
    let across = columns + 1;
    let grid = |rows: u16, columns: u16| (0..rows).flat_map(move |row| (0..columns).map(move |at| (row, at)));
    let part = |at: u16, of: u16| f32::from(at) / f32::from(of);
    let corners = grid(rows + 1, across).map(|(row, at)| surface(part(row, rows), part(at, columns)));
    let indices = grid(rows, columns).flat_map(|(row, at)| {
        let (near, far) = (row * across + at, (row + 1) * across + at);
        [near, far, near + 1, near + 1, far, far + 1]
    });
    Triangles { corners: corners.collect(), indices: indices.collect() }
}
