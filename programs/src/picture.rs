//! A picture in client memory: compared with what it should be, and written as PNG.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use crate::gl::length;
use crate::stop::{Stop, Verdict};

/// An RGBA picture; the first row is the lowest, as in GL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: i32,
    height: i32,
    bytes: Vec<u8>,
}

impl Picture {
    /// A picture of `bytes`, four to a pixel.
    pub fn new(width: i32, height: i32, bytes: Vec<u8>) -> Self {
        assert_eq!(bytes.len(), length(width) * length(height) * 4, "four bytes a pixel");
        Self { width, height, bytes }
    }

    /// A picture computed pixel by pixel.
    pub fn compute(width: i32, height: i32, mut color: impl FnMut(i32, i32) -> [u8; 4]) -> Self {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self::new(width, height, pixels.flat_map(|(x, y)| color(x, y)).collect())
    }

    /// A picture of one colour.
    pub fn plain(width: i32, height: i32, color: [u8; 4]) -> Self {
        Self::compute(width, height, |_, _| color)
    }

    /// Width in pixels.
    pub fn width(&self) -> i32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> i32 {
        self.height
    }

    /// The pixels, lowest row first.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The colour of one pixel; transparent black outside the picture.
    pub fn at(&self, x: i32, y: i32) -> [u8; 4] {
        if x < 0 || y < 0 || x >= self.width {
            return [0; 4];
        }
        let index = length(y) * length(self.width) + length(x);
        self.bytes.as_chunks().0.get(index).copied().unwrap_or_default()
    }

    /// Fails at the first pixel that is further than `tolerance` from what `color` says.
    pub fn expect(&self, tolerance: u8, mut color: impl FnMut(i32, i32) -> [u8; 4]) -> Verdict {
        self.expect_some(tolerance, |x, y| Some(color(x, y)))
    }

    /// As [`expect`](Self::expect), but pixels for which `color` has no opinion may be anything.
    pub fn expect_some(&self, tolerance: u8, mut color: impl FnMut(i32, i32) -> Option<[u8; 4]>) -> Verdict {
        for y in 0..self.height {
            for x in 0..self.width {
                let seen = self.at(x, y);
                let Some(wanted) = color(x, y) else { continue };
                if !near(wanted, seen, tolerance) {
                    let size = format!("{}x{}", self.width, self.height);
                    return Err(Stop::failed(format!(
                        "expected {wanted:?} within {tolerance}, saw {seen:?}, at ({x},{y}) of {size}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Fails unless all pixels are near `color`.
    pub fn expect_plain(&self, tolerance: u8, color: [u8; 4]) -> Verdict {
        self.expect(tolerance, |_, _| color)
    }

    /// Writes the picture as PNG, with a label in the file's text if there is one.
    pub fn write(&self, path: &Path, label: Option<&str>) -> io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(file, self.width.cast_unsigned(), self.height.cast_unsigned());
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        if let Some(label) = label {
            encoder.add_text_chunk("Title".to_owned(), label.to_owned())?;
        }
        let rows: Vec<&[u8]> = self.bytes.chunks(length(self.width) * 4).rev().collect();
        encoder.write_header()?.write_image_data(&rows.concat())?;
        Ok(())
    }
}

/// Whether no channel differs by more than `tolerance`.
pub fn near(wanted: [u8; 4], seen: [u8; 4], tolerance: u8) -> bool {
    wanted.iter().zip(seen).all(|(wanted, seen)| wanted.abs_diff(seen) <= tolerance)
}

/// A channel from 0 to 1 as GL stores it in a byte.
#[allow(clippy::cast_possible_truncation, reason = "clamped to a byte's range first")]
pub fn channel(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// A colour of channels from 0 to 1 as GL stores it in bytes.
pub fn color(channels: [f32; 4]) -> [u8; 4] {
    channels.map(channel)
}

/// The low byte of a number: for patterns that repeat.
#[allow(clippy::cast_possible_truncation, reason = "the low byte is what is asked for")]
pub fn low_byte(value: i32) -> u8 {
    (value & 0xff) as u8
}

/// A pattern in which each pixel of a small picture is told from its neighbours, opaque.
pub fn pattern(x: i32, y: i32) -> [u8; 4] {
    [low_byte(x * 37 + 11), low_byte(y * 53 + 7), low_byte((x ^ y) * 29), 255]
}
