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

/// Triangles in a buffer, and a buffer of the places where they are drawn.
pub(super) struct Mesh {
    array: VertexArray,
    places: Buffer,
    count: i32,
}

impl Mesh {
    pub(super) fn new(gl: &Gl, vertices: &[Vertex]) -> Verdict<Self> {
        let array = gl.create_vertex_array()?;
        gl.bind_vertex_array(Some(array));
        let floats: Vec<f32> = vertices
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
        let places = gl.buffer(glow::ARRAY_BUFFER, &[])?;
        for column in 0..4 {
            gl.attribute(3 + column, 4, 64, 16 * column.cast_signed());
            gl.vertex_attrib_divisor(3 + column, 1);
        }
        Ok(Self { array, places, count: size(vertices.len()) })
    }

    /// Draws a copy in each place. The first element of a matrix's last row, which placing leaves at 0,
    /// shifts the tint.
    pub(super) fn draw(&self, gl: &Gl, places: &[Mat4]) {
        let floats: Vec<f32> = places.iter().flat_map(Mat4::to_cols_array).collect();
        gl.bind_buffer(glow::ARRAY_BUFFER, Some(self.places));
        gl.buffer_data_u8_slice(glow::ARRAY_BUFFER, &bytes(&floats), glow::STREAM_DRAW);
        gl.bind_vertex_array(Some(self.array));
        gl.draw_arrays_instanced(glow::TRIANGLES, 0, self.count, size(places.len()));
        gl.bind_vertex_array(None);
    }
}

/// The triangles of a grid of `rows` by `columns` patches of a surface, given from 0 to 1 in both
/// directions.
#[allow(clippy::cast_precision_loss, reason = "there are few rows")]
pub(super) fn patches(rows: u32, columns: u32, surface: impl Fn(f32, f32) -> Vertex) -> Vec<Vertex> {
    let at = |row: u32, column: u32| surface(row as f32 / rows as f32, column as f32 / columns as f32);
    let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    cells
        .flat_map(|(row, column)| {
            let (a, b) = (at(row, column), at(row + 1, column));
            let (c, d) = (at(row, column + 1), at(row + 1, column + 1));
            [a, b, c, c, b, d]
        })
        .collect()
}
