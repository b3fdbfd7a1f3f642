//! How fast pixels come and go.

use super::Sampler;
use crate::canvas::{Canvas, clear};
use crate::gl::{Gl, Layout, Region};
use crate::stop::{Verdict, ensure};

/// A whole texture of 1024 by 1024, each waited for.
pub(super) fn upload(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    const BYTES: u32 = 1024 * 1024 * 4;
    let texture = gl.texture(1, 1024, 1024)?;
    gl.bind_texture(glow::TEXTURE_2D, Some(texture));
    let mut texels = vec![0x5a; BYTES as usize];
    let mut step = 0u8;
    let batch = || {
        step = step.wrapping_add(1);
        texels[usize::from(step) * 4096] ^= step;
        gl.upload(0, Region::size(1024, 1024), Layout::RGBA8, &texels);
        gl.finish();
        Ok(())
    };
    sampler.rate(f64::from(BYTES) / 1e6, batch, || ())
}

/// A clear and the 256 by 256 pixels that it made.
pub(super) fn readback(gl: &Gl, sampler: &mut Sampler) -> Verdict {
    let _canvas = Canvas::new(gl, 256, 256)?;
    let mut pixels = vec![0; 256 * 256 * 4];
    let mut step = 0u8;
    let batch = || {
        step = step.wrapping_add(1);
        clear(gl, [f32::from(step) / 255.0, 0.0, 0.0, 1.0]);
        gl.read_into(Region::size(256, 256), Layout::RGBA8, &mut pixels);
        let (first, last) = (pixels[0], pixels[pixels.len() - 4]);
        let right = first.abs_diff(step) <= 1 && last.abs_diff(step) <= 1;
        ensure(right, || format!("expected red {step}, saw {first} and {last}"))
    };
    sampler.rate(1.0, batch, || ())
}
