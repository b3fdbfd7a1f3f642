//! Having the device show it.
//!
//! With [`Presentation::ReadBack`] the device is told nothing: a scanout without a GPU behind it would end it,
//! and of a pointer it only complains in its log. The picture is then what [`State::look`] puts together.
//!
//! A screen has one update under way at a time: what changes meanwhile is gathered and follows as one. So a client
//! that asks without end keeps the control queue no busier than the device is quick.

use std::time::Duration;

use virgld_protocol::device::Feature;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::ctrlq::{DisplayCommand, Rectangle};
use virgld_protocol::message::display::{Notice, Pixels};
use virgld_protocol::message::resource::Backing;
use virgld_runtime::Time;

use crate::damage::{Clip, Damage};
use crate::edid;
use crate::framebuffer::Framebuffer;
use crate::output::{Config, Output};
use crate::pointer::Pointer;
use crate::state::{Effect, Presentation, State};

/// Scanouts that the specification allows.
const MOST_OUTPUTS: u32 = 16;
/// What is shown where the device does not say how large its display is.
const FALLBACK: (u32, u32) = (1024, 768);

/// How long an answer of the device is waited for, as Linux waits for a flip. Messages do not get lost, so it comes
/// sooner, be it from the control queue's own patience; but no screen is to stand still for ever should one be.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the device was told about one output.
#[derive(Debug, Default)]
pub(crate) struct Told {
    scanout: Option<Scanned>,
    update: Option<Update>,
    /// What has changed since the update under way began.
    damage: Damage,
    /// Calls that end when that has been shown.
    callers: Vec<Token>,
    pub(crate) pointer: Pointer,
}

/// What is scanned out.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scanned {
    framebuffer: u32,
    resource: ResourceId,
    rectangle: Rectangle,
}

/// Pixels on their way to the screen.
#[derive(Debug)]
struct Update {
    /// Of its last flush.
    token: Token,
    /// When it is given up.
    until: Time,
    /// Calls that end with it.
    callers: Vec<Token>,
}

impl Told {
    /// Whether pixels are on their way.
    pub(crate) fn is_busy(&self) -> bool {
        self.update.is_some()
    }

    /// When the first of what the device is to answer is given up.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.update.as_ref().map(|update| update.until).into_iter().chain(self.pointer.deadline()).min()
    }

    /// Whether the device may look at a framebuffer: it must not go then.
    pub(crate) fn names(&self, framebuffer: u32) -> bool {
        self.scanout.is_some_and(|it| it.framebuffer == framebuffer) || self.pointer.names(framebuffer)
    }

    /// The calls that wait for this screen; nothing is on its way to it any more.
    fn end(&mut self) -> Vec<Token> {
        let mut callers = self.update.take().map(|it| it.callers).unwrap_or_default();
        callers.append(&mut self.callers);
        callers
    }
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
            self.told.push(Told::default());
        }
        self.present_anew(effects);
    }

    /// The device is gone, with all that it was told.
    pub(crate) fn go_down(&mut self, effects: &mut Vec<Effect>) {
        self.up = false;
        self.forget_told(effects);
    }

    /// Shows on every screen what is to be there, as if the device had been told nothing of it.
    pub(crate) fn present_anew(&mut self, effects: &mut Vec<Effect>) {
        self.forget_told(effects);
        if self.up {
            self.ask_displays(effects);
            for index in 0..self.outputs.len() {
                self.present(index, effects);
            }
        }
    }

    /// Calls that wait for a screen end: what they want seen is shown with all else when there is a device.
    fn forget_told(&mut self, effects: &mut Vec<Effect>) {
        for index in 0..self.told.len() {
            let callers = std::mem::take(&mut self.told[index]).end();
            self.unblock_all(callers, effects);
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
            if told.is_none() {
                output.monitor.unplug();
            }
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
        let output = &mut self.outputs[index];
        let damage = std::mem::take(&mut output.shown.primary.damage);
        // The same, unless another change waits for its refresh already.
        if self.flips[index].is_none() {
            output.config.primary.damage = Damage::Nothing;
        }
        self.scan_out(index, damage, effects);
        self.point(index, effects);
    }

    /// Has the device show what was written into what it shows. The call ends when it does.
    pub(crate) fn update(&mut self, index: usize, clips: &[Clip], caller: Token, effects: &mut Vec<Effect>) {
        self.told[index].callers.push(caller);
        self.scan_out(index, Damage::of(clips), effects);
    }

    /// Shows what was gathered on screens whose updates have ended.
    pub(crate) fn update_further(&mut self, effects: &mut Vec<Effect>) {
        for index in 0..self.told.len() {
            if !self.told[index].is_busy() && self.told[index].damage != Damage::Nothing {
                self.scan_out(index, Damage::Nothing, effects);
            }
        }
    }

    /// What was sent to a screen has arrived, or will not: there is no more to be done for it.
    pub(crate) fn flushed(&mut self, token: Token, effects: &mut Vec<Effect>) {
        let ended = |told: &mut Told| told.update.take_if(|update| update.token == token);
        let Some(update) = self.told.iter_mut().find_map(ended) else { return };
        self.unblock_all(update.callers, effects);
    }

    /// Gives up what has not been answered for too long.
    pub(crate) fn give_up_late(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        for index in 0..self.told.len() {
            let late = self.told[index].update.take_if(|update| update.until <= now);
            self.unblock_all(late.map(|update| update.callers).unwrap_or_default(), effects);
            if let Some(token) = self.told[index].pointer.late(now) {
                self.arrived(token, Err(Errno::ETIMEDOUT), effects);
            }
        }
    }

    fn scan_out(&mut self, index: usize, damage: Damage, effects: &mut Vec<Effect>) {
        if self.presentation == Presentation::ReadBack || !self.up {
            return;
        }
        let scanout = u32::try_from(index).unwrap_or(u32::MAX);
        let told = &mut self.told[index];
        told.damage.add(damage);
        let Some(wanted) = self.wanted(index) else { return self.blank(index, effects) };
        let told = &mut self.told[index];
        let before = told.scanout;
        if before != Some(wanted) {
            told.damage = Damage::Everything;
        }
        if told.is_busy() {
            return;
        }
        let parts = std::mem::take(&mut told.damage).within(wanted.rectangle);
        let callers = std::mem::take(&mut told.callers);
        let (Some(framebuffer), Some((last, others))) =
            (self.framebuffers.get(&wanted.framebuffer), parts.split_last())
        else {
            return self.unblock_all(callers, effects);
        };
        for part in &parts {
            transfer(framebuffer, *part, None, effects);
        }
        let Scanned { resource, rectangle, .. } = wanted;
        if before.is_none_or(|it| (it.resource, it.rectangle) != (resource, rectangle)) {
            effects.push(Effect::Control(DisplayCommand::SetScanout { scanout, resource, rectangle }));
        }
        for rectangle in others {
            let rectangle = *rectangle;
            effects.push(Effect::Control(DisplayCommand::Flush { token: None, resource, rectangle }));
        }
        let token = self.fresh_token();
        effects.push(Effect::Control(DisplayCommand::Flush {
            token: Some(token),
            resource,
            rectangle: *last,
        }));
        self.told[index].scanout = Some(wanted);
        self.told[index].update = Some(Update { token, until: self.now.after(PATIENCE), callers });
    }

    /// What is to be scanned out.
    fn wanted(&self, index: usize) -> Option<Scanned> {
        let shown = &self.outputs[index].shown;
        let (width, height) = shown.extent()?;
        let id = shown.primary.framebuffer?;
        let resource = self.framebuffers.get(&id)?.image.resource;
        let [x, y, ..] = shown.primary.source.map(|it| it >> 16);
        Some(Scanned { framebuffer: id, resource, rectangle: Rectangle { x, y, width, height } })
    }

    /// Has the device show nothing, at once: what it shows may be about to go.
    fn blank(&mut self, index: usize, effects: &mut Vec<Effect>) {
        let scanout = u32::try_from(index).unwrap_or(u32::MAX);
        let told = &mut self.told[index];
        told.damage = Damage::Nothing;
        if told.scanout.take().is_some() {
            effects.push(Effect::Control(DisplayCommand::SetScanout {
                scanout,
                resource: ResourceId(0),
                rectangle: Rectangle::default(),
            }));
        }
        let callers = std::mem::take(&mut told.callers);
        self.unblock_all(callers, effects);
    }

    /// Takes a picture off the screen before its successor's refresh.
    pub(crate) fn blank_early(&mut self, index: usize, effects: &mut Vec<Effect>) {
        let cursor = std::mem::take(&mut self.outputs[index].shown.cursor);
        self.outputs[index].shown = Config { cursor, ..Config::default() };
        self.present(index, effects);
    }

    /// Calls of a file wait for screens no more.
    pub(crate) fn forget_calls(&mut self, file: FileId) {
        let gone: Vec<Token> =
            self.blocked.extract_if(|_, it| it.file == file).map(|(token, _)| token).collect();
        for told in &mut self.told {
            told.callers.retain(|token| !gone.contains(token));
        }
    }
}

/// Brings what a client wrote into a framebuffer to the host. What a GL context drew is there already.
pub(crate) fn transfer(
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
