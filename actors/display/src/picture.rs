//! What a person would see: the primary plane with the pointer over it.

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::Token;
use virgld_protocol::message::display::{Picture, Pixels, ReadBack};

use crate::framebuffer::Framebuffer;
use crate::output::Plane;
use crate::state::{Effect, State};

/// A picture that is being put together.
#[derive(Debug)]
pub(crate) struct Job {
    look: Token,
    picture: Picture,
    layers: Vec<Layer>,
}

/// What a plane adds to a picture.
#[derive(Debug)]
struct Layer {
    plane: Plane,
    blend: bool,
    pixels: Fetched,
}

/// The pixels of a plane: rows of so many bytes.
#[derive(Debug)]
enum Fetched {
    Here(usize, Vec<u8>),
    /// On their way from the host; the framebuffer begins so many bytes in.
    Coming(Token, usize),
}

impl State {
    /// Somebody wants to see an output; ends in [`Effect::Show`].
    pub fn look(&mut self, look: Token, scanout: u32, effects: &mut Vec<Effect>) {
        let index = usize::try_from(scanout).unwrap_or(usize::MAX);
        let Some(output) = self.outputs.get(index) else {
            return effects.push(Effect::Show { look, picture: Err(Errno::ENODEV) });
        };
        let own = output.monitor.preferred();
        let lit = output.shown.extent();
        let (width, height) = lit.or(own).unwrap_or((640, 480));
        let bytes = usize::try_from(u64::from(width) * u64::from(height) * 4).unwrap_or(0);
        let picture = Picture { width, height, pixels: vec![0; bytes] };
        let mut layers = Vec::new();
        let planes = [(output.shown.primary.clone(), false), (output.shown.cursor.clone(), true)];
        for (plane, blend) in planes.into_iter().filter(|_| lit.is_some()) {
            let Some(id) = plane.framebuffer else { continue };
            let token = self.fresh_token();
            let Some(framebuffer) = self.framebuffers.get(&id) else { continue };
            let pixels = match &framebuffer.image.pixels {
                Pixels::Memory(_) => from_memory(framebuffer),
                Pixels::Host => {
                    let resource = framebuffer.image.resource;
                    effects.push(Effect::ReadBack { token, resource });
                    Fetched::Coming(token, usize::try_from(framebuffer.offset).unwrap_or(usize::MAX))
                }
            };
            layers.push(Layer { plane, blend, pixels });
        }
        self.jobs.push(Job { look, picture, layers });
        self.finish_jobs(effects);
    }

    /// Pixels have come from the host, or will not: a plane without pixels is not seen.
    pub fn read_back(&mut self, read: ReadBack, effects: &mut Vec<Effect>) {
        let (stride, bytes) = read.result.unwrap_or_default();
        let layers = self.jobs.iter_mut().flat_map(|job| &mut job.layers);
        for layer in layers {
            if let Fetched::Coming(token, offset) = layer.pixels
                && token == read.token
            {
                let bytes = bytes.get(offset..).unwrap_or_default().to_vec();
                layer.pixels = Fetched::Here(usize::try_from(stride).unwrap_or(0), bytes);
            }
        }
        self.finish_jobs(effects);
    }

    fn finish_jobs(&mut self, effects: &mut Vec<Effect>) {
        let whole = |job: &mut Job| job.layers.iter().all(|it| matches!(it.pixels, Fetched::Here(..)));
        for Job { look, mut picture, layers } in self.jobs.extract_if(.., whole) {
            for layer in &layers {
                draw(&mut picture, layer);
            }
            effects.push(Effect::Show { look, picture: Ok(picture) });
        }
    }
}

/// The pixels of a framebuffer in memory.
fn from_memory(framebuffer: &Framebuffer) -> Fetched {
    let Pixels::Memory(backing) = &framebuffer.image.pixels else { return Fetched::Here(0, Vec::new()) };
    let rows = u64::from(framebuffer.height - 1) * u64::from(framebuffer.pitch);
    let length = usize::try_from(rows + u64::from(framebuffer.width) * 4).unwrap_or(0);
    let start = backing.offset + u64::from(framebuffer.offset);
    let mut bytes = vec![0; length];
    // It was checked against its buffer when it was made; a buffer does not shrink.
    let _ = backing.region.memory.read(usize::try_from(start).unwrap_or(usize::MAX), &mut bytes);
    Fetched::Here(usize::try_from(framebuffer.pitch).unwrap_or(0), bytes)
}

/// Puts a layer over a picture.
fn draw(picture: &mut Picture, layer: &Layer) {
    let Fetched::Here(stride, bytes) = &layer.pixels else { return };
    let [left, top, ..] = layer.plane.source.map(|it| it >> 16);
    for row in 0..layer.plane.size.1 {
        for column in 0..layer.plane.size.0 {
            let from = usize::try_from(top + row).unwrap_or(0) * stride
                + usize::try_from(left + column).unwrap_or(0) * 4;
            let Some(source) = bytes.get(from..from + 4) else { continue };
            let x = i64::from(layer.plane.position.0) + i64::from(column);
            let y = i64::from(layer.plane.position.1) + i64::from(row);
            if let Some(target) = pixel(picture, x, y) {
                mix(target, source, layer.blend);
            }
        }
    }
}

fn pixel(picture: &mut Picture, x: i64, y: i64) -> Option<&mut [u8]> {
    let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
    if x >= picture.width || y >= picture.height {
        return None;
    }
    let place = usize::try_from((u64::from(y) * u64::from(picture.width) + u64::from(x)) * 4).ok()?;
    picture.pixels.get_mut(place..place + 4)
}

/// A pointer's colours are multiplied by its alpha already, as DRM has it.
fn mix(target: &mut [u8], source: &[u8], blend: bool) {
    let through = if blend { 255 - u16::from(source[3]) } else { 0 };
    for (to, from) in target.iter_mut().zip(source).take(3) {
        let mixed = u16::from(*from) + (u16::from(*to) * through + 127) / 255;
        *to = u8::try_from(mixed).unwrap_or(u8::MAX);
    }
    target[3] = u8::MAX;
}
