//! A crystal with facets, and shards in orbit about it.

use std::f32::consts::TAU;

use glam::{Mat4, Vec3};

use super::Design;
use super::mesh::{Place, Triangles, Vertex};

const SIDES: u8 = 7;
const SHARDS: u8 = 14;

pub(super) const DESIGN: Design = Design {
    name: "crystal",
    mesh,
    places,
    eye: Vec3::new(0.0, 1.0, 5.9),
    floor: -1.38,
    horizon: Vec3::new(0.26, 0.035, 0.17),
    depths: Vec3::new(0.007, 0.001, 0.012),
    hue: 0.24,
};

/// A tall gem: two tips, and two rings of corners turned against each other by half a side.
fn mesh() -> Triangles {
    let ring = |height: f32, radius: f32, side: f32| {
        let (sine, cosine) = (side * TAU / f32::from(SIDES)).sin_cos();
        Vec3::new(cosine * radius, height, sine * radius)
    };
    let (top, bottom) = (Vec3::Y * 1.25, Vec3::Y * -1.25);
    let mut facets = Vec::new();
    for side in (0..SIDES).map(f32::from) {
        let upper = [ring(0.45, 0.72, side), ring(0.45, 0.72, side + 1.0)];
        let lower = [ring(-0.35, 0.80, side + 0.5), ring(-0.35, 0.80, side + 1.5)];
        facets.extend([[top, upper[1], upper[0]], [upper[0], upper[1], lower[0]]]);
        facets.extend([[upper[1], lower[1], lower[0]], [lower[0], lower[1], bottom]]);
    }
    let tints = [0.0, 0.13, 0.05, 0.22, 0.09, 0.18, 0.03];
    let facets = facets.into_iter().zip(tints.into_iter().cycle());
    let corners: Vec<Vertex> = facets.flat_map(|(corners, tint)| facet(corners, tint)).collect();
    // Corners are not shared: each facet is flat.
    Triangles { indices: (0..).take(corners.len()).collect(), corners }
}

fn facet(corners: [Vec3; 3], tint: f32) -> [Vertex; 3] {
    let normal = (corners[1] - corners[0]).cross(corners[2] - corners[0]).normalize();
    let outward = if normal.dot(corners[0] + corners[1] + corners[2]) < 0.0 { -normal } else { normal };
    // The colour runs along the gem's height, and steps from facet to facet.
    corners.map(|position| Vertex { position, normal: outward, tint: tint * 0.7 + position.y * 0.09 })
}

fn places(moment: f32) -> Vec<Place> {
    let middle = Mat4::from_rotation_z(0.16) * Mat4::from_rotation_y(moment * 0.6 + 0.3);
    let mut places = vec![Place { matrix: middle, tint: 0.0 }];
    for shard in (0..SHARDS).map(f32::from) {
        let angle = shard * TAU / f32::from(SHARDS) + moment * 0.35;
        let distance = 1.65 + 0.28 * (shard * 2.4).sin();
        let height = 0.55 * (shard * 1.7 + moment * 0.8).sin();
        let at = Vec3::new(angle.cos() * distance, height, angle.sin() * distance);
        let turn = Mat4::from_rotation_z(shard + 0.4) * Mat4::from_rotation_y(shard * 2.0 + moment * 1.4);
        let size = 0.15 + 0.05 * (shard * 3.1).cos();
        let matrix = Mat4::from_translation(at) * turn * Mat4::from_scale(Vec3::splat(size));
        places.push(Place { matrix, tint: shard * 0.03 - 0.08 });
    }
    places
}
