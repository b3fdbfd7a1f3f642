//! A field of spheres that a wave runs through.

use std::f32::consts::TAU;

use glam::{Mat4, Vec3};

use super::Design;
use super::mesh::{Place, Vertex, patches};

const SIDE: u8 = 12;

pub(super) const DESIGN: Design = Design {
    name: "field",
    mesh: || patches(7, 12, sphere),
    places,
    eye: Vec3::new(0.0, 2.7, 5.6),
    floor: -0.9,
    horizon: Vec3::new(0.020, 0.15, 0.17),
    depths: Vec3::new(0.001, 0.006, 0.010),
    hue: 0.30,
};

fn sphere(down: f32, about: f32) -> Vertex {
    let ((sine, cosine), (east, north)) = ((down * TAU / 2.0).sin_cos(), (about * TAU).sin_cos());
    let normal = Vec3::new(sine * north, cosine, sine * east);
    Vertex { position: normal, normal, tint: 0.0 }
}

fn places(moment: f32) -> Vec<Place> {
    let cells = (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (f32::from(row), f32::from(column))));
    let middle = f32::from(SIDE - 1) / 2.0;
    let turn = Mat4::from_rotation_y(0.6 + moment * 0.12);
    cells
        .map(|(row, column)| {
            let (x, z) = ((column - middle) * 0.36, (row - middle) * 0.36);
            let wave = ((x * x + z * z).sqrt() * 2.6 - moment * 2.0).sin();
            let fade = (-(x * x + z * z) * 0.06).exp();
            let at = Vec3::new(x, wave * fade * 0.42 - 0.1, z);
            let size = Mat4::from_scale(Vec3::splat(0.16 + 0.03 * wave));
            let matrix = turn * Mat4::from_translation(at) * size;
            Place { matrix, tint: wave * 0.17 + (x + z) * 0.05 }
        })
        .collect()
}
