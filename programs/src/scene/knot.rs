//! A torus knot whose colour runs along it.

use std::f32::consts::TAU;

use glam::{Mat4, Vec3};

use super::Design;
use super::mesh::{Place, Vertex, patches};

pub(super) const DESIGN: Design = Design {
    name: "knot",
    mesh: || patches(200, 20, tube),
    places: |moment| {
        let tilt = Mat4::from_rotation_x(0.35 + (moment * 0.4).sin() * 0.25);
        let turned = tilt * Mat4::from_rotation_y(moment * 0.7 + 0.5);
        vec![Place { matrix: Mat4::from_translation(Vec3::Y * 0.22) * turned, tint: 0.0 }]
    },
    eye: Vec3::new(0.0, 1.0, 5.7),
    floor: -1.12,
    horizon: Vec3::new(0.050, 0.085, 0.30),
    depths: Vec3::new(0.002, 0.003, 0.014),
    hue: 0.55,
};

/// The middle of the tube: three times about the axis while twice through the hole.
fn line(turn: f32) -> Vec3 {
    let (around, through) = (2.0 * TAU * turn, 3.0 * TAU * turn);
    let radius = 1.0 + 0.42 * through.cos();
    Vec3::new(radius * around.cos(), 0.52 * through.sin(), radius * around.sin())
}

fn tube(along: f32, about: f32) -> Vertex {
    let middle = line(along);
    let ahead = (line(along + 0.001) - line(along - 0.001)).normalize();
    let side = ahead.cross(middle + Vec3::Y * 2.0).normalize();
    let angle = about * TAU;
    let normal = side * angle.cos() + side.cross(ahead) * angle.sin();
    Vertex { position: middle + normal * 0.27, normal, tint: along * 2.0 + 0.06 * angle.sin() }
}
