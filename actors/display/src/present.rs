//! Having the device show it.
//!
//! With [`Presentation::ReadBack`] the device is told nothing: a scanout without a GPU behind it would end it,
//! and of a pointer it only complains in its log. The picture is then what [`State::look`] puts together.

use virgld_protocol::device::Feature;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Token};
use virgld_protocol::message::ctrlq::{DisplayCommand, Rectangle};
use virgld_protocol::message::cursorq;
use virgld_protocol::message::display::{Notice, Pixels};
use virgld_protocol::message::resource::Backing;

use crate::edid;
use crate::framebuffer::Framebuffer;
use crate::output::Output;
use crate::state::{Effect, Presentation, State};

/// Scanouts that the specification allows.
const MOST_OUTPUTS: u32 = 16;
/// What is shown where the device does not say how large its display is.
const FALLBACK: (u32, u32) = (1024, 768);

/// What the device was told about one output.
#[derive(Debug, Default)]
pub(crate) struct Told {
    scanout: Option<(ResourceId, Rectangle)>,
    /// The pointer's image and hotspot.
    pointer: Option<(ResourceId, (i32, i32))>,
    position: (i32, i32),
    /// The transfer of the image that is to be shown.
    under_way: Option<Token>,
}

impl State {
    /// A device is there that shows nothing: it is told everything.
    pub(crate) fn come_up(&mut self, features: u64, scanouts: u32, effects: &mut Vec<Effect>) {
        self.up = true;
        self.has_edid = features & Feature::EDID != 0;
        let count = usize::try_from(scanouts.clamp(1, MOST_OUTPUTS)).unwrap_or(1);
        while self.outputs.len() < count {
            self.outputs.push(Output::default());
            self.flips.push(None);
        }
        self.present_anew(effects);
    }

    /// Shows on every screen what is to be there, as if the device had been told nothing of it.
    pub(crate) fn present_anew(&mut self, effects: &mut Vec<Effect>) {
        if self.up {
            self.told = self.outputs.iter().map(|_| Told::default()).collect();
            self.ask_displays(effects);
            for index in 0..self.outputs.len() {
                self.present(index, effects);
            }
        }
    }

    pub(crate) fn ask_displays(&mut self, effects: &mut Vec<Effect>) {
        let asked = if self.has_edid { self.outputs.len() } else { 0 };
        for scanout in (0..).take(asked) {
            effects.push(Effect::Control(DisplayCommand::Edid { scanout }));
        }
        // Last, so that whoever is told of its answer finds the EDIDs that belong to it.
        effects.push(Effect::Control(DisplayCommand::Displays));
    }

    /// What is connected. If that is news, clients are told.
    pub(crate) fn displays(&mut self, extents: &[Option<(u32, u32)>], effects: &mut Vec<Effect>) {
        // A device without a frontend has nothing connected; the first screen is ours to look at all the same.
        let nothing = extents.iter().flatten().next().is_none();
        for (index, output) in self.outputs.iter_mut().enumerate() {
            let told = extents.get(index).copied().flatten();
            let extent = if nothing && index == 0 { Some(FALLBACK) } else { told };
            self.replugged |= output.monitor.resize(extent);
        }
        if std::mem::take(&mut self.replugged) {
            effects.push(Effect::Scheme(Notice::Replugged));
        }
    }

    pub(crate) fn edid(&mut self, index: usize, bytes: Vec<u8>) {
        let Some((_, size)) = edid::preferred(&bytes) else { return };
        if index >= self.outputs.len() {
            return;
        }
        let old = self.outputs[index].monitor.edid.take().and_then(|old| self.blobs.remove(&old));
        self.replugged |= old.is_none_or(|old| old.bytes[..] != bytes[..]);
        let blob = self.keep_blob(None, bytes);
        let monitor = &mut self.outputs[index].monitor;
        monitor.edid = Some(blob);
        monitor.size = size;
    }

    /// Has the device show what is to be shown on an output.
    pub(crate) fn present(&mut self, index: usize, effects: &mut Vec<Effect>) {
        let clips = self.clips(&self.outputs[index].shown.primary);
        self.scan_out(index, &clips, effects);
        self.point(index, effects);
    }

    /// Has the device show what was written into what it shows.
    pub(crate) fn update(&mut self, index: usize, clips: &[[u16; 4]], effects: &mut Vec<Effect>) {
        self.scan_out(index, clips, effects);
    }

    fn scan_out(&mut self, index: usize, clips: &[[u16; 4]], effects: &mut Vec<Effect>) {
        if self.presentation == Presentation::ReadBack || !self.up {
            return;
        }
        let scanout = u32::try_from(index).unwrap_or(u32::MAX);
        let shown = &self.outputs[index].shown;
        let wanted = shown.extent().and_then(|(width, height)| {
            let framebuffer = self.framebuffers.get(&shown.primary.framebuffer?)?;
            let [x, y, ..] = shown.primary.source.map(|it| it >> 16);
            Some((framebuffer, Rectangle { x, y, width, height }))
        });
        let Some((framebuffer, rectangle)) = wanted else {
            if self.told[index].scanout.take().is_some() {
                let none = (ResourceId(0), Rectangle::default());
                effects.push(Effect::Control(DisplayCommand::SetScanout {
                    scanout,
                    resource: none.0,
                    rectangle: none.1,
                }));
            }
            return;
        };
        let resource = framebuffer.image.resource;
        let told = (resource, rectangle);
        let fresh = self.told[index].scanout != Some(told);
        let parts = if fresh && clips.is_empty() { vec![rectangle] } else { within(rectangle, clips) };
        for part in &parts {
            transfer(framebuffer, *part, None, effects);
        }
        if fresh {
            effects.push(Effect::Control(DisplayCommand::SetScanout { scanout, resource, rectangle }));
        }
        let parts = if fresh { vec![rectangle] } else { parts };
        for rectangle in parts {
            effects.push(Effect::Control(DisplayCommand::Flush { resource, rectangle }));
        }
        self.told[index].scanout = Some(told);
    }

    /// Has the device show the pointer as it is to be shown: an image once its pixels have arrived.
    pub(crate) fn point(&mut self, index: usize, effects: &mut Vec<Effect>) {
        if !self.up || self.presentation == Presentation::ReadBack {
            return;
        }
        let shown = &self.outputs[index].shown;
        let lit = shown.extent().is_some();
        let framebuffer = shown.cursor.framebuffer.filter(|_| lit).and_then(|id| self.framebuffers.get(&id));
        let wanted = framebuffer.map(|it| (it.image.resource, shown.cursor.hotspot));
        let position = shown.cursor.position;
        let told = &self.told[index];
        if wanted != told.pointer {
            match framebuffer {
                Some(framebuffer) if matches!(framebuffer.image.pixels, Pixels::Memory(_)) => {
                    let whole =
                        Rectangle { x: 0, y: 0, width: framebuffer.width, height: framebuffer.height };
                    let mut commands = Vec::new();
                    let token = Token(self.next());
                    if let Some(framebuffer) = self.framebuffers.get(&self.cursor_of(index)) {
                        transfer(framebuffer, whole, Some(token), &mut commands);
                    }
                    effects.append(&mut commands);
                    self.told[index].under_way = Some(token);
                }
                _ => self.tell_pointer(index, effects),
            }
            self.told[index].pointer = wanted;
            self.told[index].position = position;
        } else if told.position != position {
            self.told[index].position = position;
            if wanted.is_some() {
                let scanout = u32::try_from(index).unwrap_or(u32::MAX);
                let position = on_wire(position);
                effects.push(Effect::Cursor(cursorq::Request::Move { scanout, position }));
            }
        }
    }

    /// The same image may have other pixels than when it was last shown.
    pub(crate) fn refresh_image(&mut self, index: usize, effects: &mut Vec<Effect>) {
        if self.told[index].under_way.is_none() && self.told[index].pointer.is_some() {
            self.told[index].pointer = None;
            self.point(index, effects);
        }
    }

    /// The pixels of an image have arrived, or will not: an image that the device lacks is not shown.
    pub(crate) fn transferred(&mut self, token: Token, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        let Some(index) = self.told.iter().position(|told| told.under_way == Some(token)) else { return };
        self.told[index].under_way = None;
        if result.is_ok() {
            self.tell_pointer(index, effects);
        }
    }

    fn tell_pointer(&self, index: usize, effects: &mut Vec<Effect>) {
        let scanout = u32::try_from(index).unwrap_or(u32::MAX);
        let shown = &self.outputs[index].shown;
        let lit = shown.extent().is_some();
        let framebuffer = shown.cursor.framebuffer.filter(|_| lit).and_then(|id| self.framebuffers.get(&id));
        let image = framebuffer.map_or(ResourceId(0), |it| it.image.resource);
        let position = on_wire(shown.cursor.position);
        let hotspot = on_wire(shown.cursor.hotspot);
        effects.push(Effect::Cursor(cursorq::Request::Update { scanout, position, image, hotspot }));
    }

    fn cursor_of(&self, index: usize) -> u32 {
        self.outputs[index].shown.cursor.framebuffer.unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.fresh_token().0
    }
}

/// Brings what a client wrote into a framebuffer to the host. What a GL context drew is there already.
fn transfer(
    framebuffer: &Framebuffer,
    rectangle: Rectangle,
    token: Option<Token>,
    effects: &mut Vec<Effect>,
) {
    let Pixels::Memory(backing) = &framebuffer.image.pixels else { return };
    bring_near(backing);
    let row = u64::from(framebuffer.pitch);
    let offset = u64::from(framebuffer.offset) + u64::from(rectangle.y) * row + u64::from(rectangle.x) * 4;
    let resource = framebuffer.image.resource;
    effects.push(Effect::Control(DisplayCommand::Transfer { token, resource, rectangle, offset }));
}

/// Copies the bytes of a buffer whose memory the device cannot reach to where it can.
fn bring_near(backing: &Backing) {
    let Some(place) = &backing.device else { return };
    let whole = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let (to, from) = (&place.region.memory, &*backing.region.memory);
    // Both lie inside their regions, as whoever laid them out has seen to.
    let _ = to.fill(whole(place.offset), from, whole(backing.offset), whole(backing.length));
}

/// The parts of clips that lie in a rectangle; all of it if there are no clips.
fn within(rectangle: Rectangle, clips: &[[u16; 4]]) -> Vec<Rectangle> {
    /// More of them than this cost more than the whole.
    const MANY: usize = 64;
    if clips.is_empty() || clips.len() > MANY {
        return vec![rectangle];
    }
    let clip = |[left, top, right, bottom]: [u16; 4]| {
        let (x, y) = (u32::from(left).max(rectangle.x), u32::from(top).max(rectangle.y));
        let right = u32::from(right).min(rectangle.x + rectangle.width);
        let bottom = u32::from(bottom).min(rectangle.y + rectangle.height);
        (x < right && y < bottom).then(|| Rectangle { x, y, width: right - x, height: bottom - y })
    };
    clips.iter().filter_map(|it| clip(*it)).collect()
}

/// A position as the device takes it: a negative one wraps, as Linux has it.
fn on_wire((x, y): (i32, i32)) -> (u32, u32) {
    (x.cast_unsigned(), y.cast_unsigned())
}
