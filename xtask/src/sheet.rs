//! One picture made of several: what the demonstration shows at a glance.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

use crate::failure::{Context, Failure, Result};

/// An RGB picture, top row first.
pub(crate) struct Picture {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

/// The space between pictures, and around them.
const GAP: usize = 12;

/// What is seen between them.
const GROUND: [u8; 3] = [24, 26, 32];

impl std::fmt::Display for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colours: std::collections::BTreeSet<&[u8]> = self.bytes.chunks_exact(3).collect();
        write!(formatter, "{} x {}, {} colours", self.width, self.height, colours.len())
    }
}

impl Picture {
    /// One of these bytes: red, green, blue for each pixel.
    pub(crate) fn of(width: usize, height: usize, bytes: Vec<u8>) -> Self {
        Self { width, height, bytes }
    }

    /// Reads a PNG file of eight bits a channel; what shines through is dropped.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let doing = || format!("cannot read {}", path.display());
        let mut decoder = Decoder::new(BufReader::new(File::open(path).context(doing)?));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().context(doing)?;
        let size = reader.output_buffer_size().ok_or_else(|| Failure::new(doing()))?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes).context(doing)?;
        let rgb = match info.color_type {
            ColorType::Rgb => bytes,
            ColorType::Rgba => {
                bytes.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
            }
            other => {
                return Err(Failure::new(format!("{}: {other:?} pictures are not expected", path.display())));
            }
        };
        Ok(Self { width: info.width as usize, height: info.height as usize, bytes: rgb })
    }

    /// Pixels in a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Its bytes: red, green, blue for each pixel.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The colour at a place, if it lies inside.
    pub(crate) fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        let inside = x < self.width && y < self.height;
        self.bytes.get((y * self.width + x) * 3..)?.first_chunk().copied().filter(|_| inside)
    }

    /// Writes it as PNG.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let doing = || format!("cannot write {}", path.display());
        let file = BufWriter::new(File::create(path).context(doing)?);
        let (Ok(width), Ok(height)) = (u32::try_from(self.width), u32::try_from(self.height)) else {
            return Err(Failure::new(doing()));
        };
        let mut encoder = Encoder::new(file, width, height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.write_header().and_then(|mut writer| writer.write_image_data(&self.bytes)).context(doing)
    }

    fn plain(width: usize, height: usize) -> Self {
        Self { width, height, bytes: GROUND.repeat(width * height) }
    }

    /// It, as large as fits in a cell: each pixel is the mean of those that it stands for.
    fn fitted(&self, width: usize, height: usize) -> Self {
        let tall = self.height * width > self.width * height;
        let (width, height) = if tall {
            (self.width * height / self.height, height)
        } else {
            (width, self.height * width / self.width)
        };
        let mut fitted = Self::plain(width.max(1), height.max(1));
        for y in 0..fitted.height {
            for x in 0..fitted.width {
                let mean = self.mean(span(x, fitted.width, self.width), span(y, fitted.height, self.height));
                fitted.set(x, y, mean);
            }
        }
        fitted
    }

    fn mean(&self, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> [u8; 3] {
        let count = columns.len() * rows.len();
        let mut sums = [0_usize; 3];
        for y in rows {
            for x in columns.clone() {
                let at = (y * self.width + x) * 3;
                for (sum, byte) in sums.iter_mut().zip(&self.bytes[at..at + 3]) {
                    *sum += usize::from(*byte);
                }
            }
        }
        sums.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX))
    }

    fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        let at = (y * self.width + x) * 3;
        self.bytes[at..at + 3].copy_from_slice(&color);
    }

    /// Copies `other` into the middle of the cell whose corner is (`left`, `top`).
    fn place(&mut self, other: &Self, left: usize, top: usize, cell: (usize, usize)) {
        let left = left + (cell.0 - other.width) / 2;
        let top = top + (cell.1 - other.height) / 2;
        for y in 0..other.height {
            let from = y * other.width * 3;
            let to = ((top + y) * self.width + left) * 3;
            self.bytes[to..to + other.width * 3].copy_from_slice(&other.bytes[from..from + other.width * 3]);
        }
    }
}

/// All of `pictures` in rows of `columns`, each in a cell of that size.
pub(crate) fn contact_sheet(pictures: &[Picture], columns: usize, cell: (usize, usize)) -> Picture {
    let rows = pictures.len().div_ceil(columns);
    let mut sheet = Picture::plain(columns * (cell.0 + GAP) + GAP, rows * (cell.1 + GAP) + GAP);
    for (index, picture) in pictures.iter().enumerate() {
        let left = GAP + index % columns * (cell.0 + GAP);
        let top = GAP + index / columns * (cell.1 + GAP);
        sheet.place(&picture.fitted(cell.0, cell.1), left, top, cell);
    }
    sheet
}

/// The pixels of a side of `from` that pixel `at` of a side of `to` stands for: at least one.
fn span(at: usize, to: usize, from: usize) -> std::ops::Range<usize> {
    let start = at * from / to;
    start..((at + 1) * from / to).max(start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape() {
        let wide = Picture::plain(400, 100).fitted(200, 200);
        assert_eq!((wide.width, wide.height), (200, 50));
        let tall = Picture::plain(100, 400).fitted(200, 200);
        assert_eq!((tall.width, tall.height), (50, 200));
        let small = Picture::plain(10, 10).fitted(30, 20);
        assert_eq!((small.width, small.height), (20, 20));
    }

    #[test]
    fn a_sheet_has_room_for_all() {
        let pictures: Vec<_> = (0..3).map(|_| Picture::plain(64, 64)).collect();
        let sheet = contact_sheet(&pictures, 2, (64, 48));
        assert_eq!((sheet.width, sheet.height), (2 * 64 + 3 * GAP, 2 * 48 + 3 * GAP));
    }
}
