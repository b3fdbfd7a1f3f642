//! Framebuffers: parts of buffers that can be put on a screen.

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId};
use virgld_protocol::message::display::{Answer, Image, NewFramebuffer, Notice, Pixels};
use virgld_protocol::message::resource::Backing;
use virgld_runtime::Time;

use crate::format;
use crate::mode::{LARGEST, SMALLEST};
use crate::output::{Config, Output, Plane};
use crate::state::{Caller, DONE, Effect, Outcome, State};

/// `DRM_FORMAT_XRGB8888` and `DRM_FORMAT_ARGB8888`: what the device shows.
pub(crate) const XRGB8888: u32 = u32::from_le_bytes(*b"XR24");
pub(crate) const ARGB8888: u32 = u32::from_le_bytes(*b"AR24");
/// What the primary plane shows. Linux has XRGB8888 alone here; GL programs that ask for alpha are served as well, and
/// nothing shows through.
pub(crate) const PRIMARY_FORMATS: [u32; 2] = [XRGB8888, ARGB8888];
pub(crate) const CURSOR_FORMATS: [u32; 1] = [ARGB8888];
/// Bytes of a pixel of either.
const PIXEL: u64 = 4;

/// `DRM_MODE_FB_INTERLACED` and `DRM_MODE_FB_MODIFIERS`.
const INTERLACED: u32 = 1;
const MODIFIERS: u32 = 2;

/// Framebuffers of one file. A compositor needs a handful for each screen and client.
const MOST: usize = 1024;

/// Part of a buffer.
#[derive(Debug)]
pub(crate) struct Framebuffer {
    /// Who made it.
    owner: FileId,
    /// Whether its number means something to clients; if not, as that of a pointer, it lives while it is shown.
    named: bool,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) format: u32,
    pub(crate) pitch: u32,
    pub(crate) offset: u32,
    pub(crate) image: Image,
}

impl Framebuffer {
    /// Whose it is.
    pub(crate) fn owner(&self) -> Option<FileId> {
        Some(self.owner)
    }

    /// Whether clients may still name it.
    pub(crate) fn is_named(&self) -> bool {
        self.named
    }
}

const UNKNOWN: Refusal = Refusal::new(Errno::ENOENT, "no such framebuffer");

impl State {
    pub(crate) fn add_framebuffer(
        &mut self,
        file: FileId,
        new: &NewFramebuffer,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const MANY: Refusal = Refusal::new(Errno::ENOMEM, "the file has too many framebuffers");
        let image = check(new)?;
        if self.framebuffers.values().filter(|it| it.owner == file).count() >= MOST {
            return Err(MANY);
        }
        let id = self.keep_framebuffer(file, true, new, image, effects);
        Ok(Outcome::Answer(Answer::Made(id)))
    }

    pub(crate) fn keep_framebuffer(
        &mut self,
        owner: FileId,
        named: bool,
        new: &NewFramebuffer,
        image: Image,
        effects: &mut Vec<Effect>,
    ) -> u32 {
        let id = self.fresh_object();
        effects.push(Effect::Scheme(Notice::Held { resource: image.resource }));
        let NewFramebuffer { width, height, format, pitch, offset, .. } = *new;
        self.framebuffers
            .insert(id, Framebuffer { owner, named, width, height, format, pitch, offset, image });
        if !named {
            self.nameless.insert(id);
        }
        id
    }

    /// RMFB takes a framebuffer off every screen, CLOSEFB lets it be shown until something else is. One that is about to
    /// be shown is shown first, as Linux has it: a flip that was accepted comes at its refresh.
    pub(crate) fn remove_framebuffer(
        &mut self,
        caller: Caller,
        id: u32,
        from_screens: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let own = |it: &&Framebuffer| it.named && it.owner == caller.file;
        self.framebuffers.get(&id).filter(own).ok_or(UNKNOWN)?;
        let mut awaited = self.outputs.iter().zip(&self.flips).filter(|(_, flip)| flip.is_some());
        if from_screens && awaited.any(|(output, _)| output.config.primary.framebuffer == Some(id)) {
            return Ok(Outcome::Again);
        }
        self.unname(id);
        if from_screens {
            self.take_off(caller.now, id, effects);
        }
        DONE
    }

    pub(crate) fn remove_framebuffers_of(&mut self, now: Time, file: FileId, effects: &mut Vec<Effect>) {
        let own = self.framebuffers.iter().filter(|(_, it)| it.owner == file).map(|(id, _)| *id);
        for id in own.collect::<Vec<_>>() {
            self.unname(id);
            self.take_off(now, id, effects);
        }
    }

    /// Nobody but its maker has a buffer any more: what others made of it goes as if they had removed it.
    pub(crate) fn revoked(
        &mut self,
        now: Time,
        resource: ResourceId,
        maker: FileId,
        effects: &mut Vec<Effect>,
    ) {
        let others = |it: &Framebuffer| it.image.resource == resource && it.owner != maker;
        let gone = self.framebuffers.iter().filter(|(_, it)| others(it)).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
            self.unname(id);
            self.take_off_now(now, id, effects);
        }
    }

    /// The pixels of a buffer are in other memory.
    pub(crate) fn moved(&mut self, resource: ResourceId, backing: &Backing) {
        for framebuffer in self.framebuffers.values_mut().filter(|it| it.image.resource == resource) {
            if let Pixels::Memory(pixels) = &mut framebuffer.image.pixels {
                pixels.clone_from(backing);
            }
        }
    }

    /// Takes a framebuffer off every screen that is to show it: a CRTC that loses its picture goes off. Where another is
    /// about to take its place it stays until then.
    fn take_off(&mut self, now: Time, id: u32, effects: &mut Vec<Effect>) {
        for index in 0..self.outputs.len() {
            let output = &mut self.outputs[index];
            if output.config.cursor.framebuffer == Some(id) {
                // As MODE_CURSOR hides a pointer: a flip that waits goes on waiting.
                output.config.cursor = Plane::default();
                output.shown.cursor = Plane::default();
                self.point(index, effects);
            }
            if self.outputs[index].config.primary.framebuffer == Some(id) {
                let cursor = std::mem::take(&mut self.outputs[index].config.cursor);
                self.force(now, index, Config { cursor, ..Config::default() }, effects);
            }
        }
    }

    /// The same, and at once also where another picture is about to take its place.
    fn take_off_now(&mut self, now: Time, id: u32, effects: &mut Vec<Effect>) {
        self.take_off(now, id, effects);
        for index in 0..self.outputs.len() {
            if self.outputs[index].shown.cursor.framebuffer == Some(id) {
                self.outputs[index].shown.cursor = Plane::default();
                self.point(index, effects);
            }
            if self.outputs[index].shown.primary.framebuffer == Some(id) {
                self.blank_early(index, effects);
            }
        }
    }

    pub(crate) fn show_framebuffer(&mut self, file: FileId, id: u32) -> Result<Outcome, Refusal> {
        let master = self.master == Some(file) || self.rights(file)?.privileged;
        let framebuffer = self.named(id)?;
        Ok(Outcome::Answer(Answer::Framebuffer {
            width: framebuffer.width,
            height: framebuffer.height,
            format: framebuffer.format,
            pitch: framebuffer.pitch,
            offset: framebuffer.offset,
            resource: master.then_some(framebuffer.image.resource),
        }))
    }

    /// The numbers of a file's own, as GETRESOURCES lists them.
    pub(crate) fn framebuffers_of(&self, file: FileId) -> Vec<u32> {
        let own = self.framebuffers.iter().filter(|(_, it)| it.named && it.owner == file);
        own.map(|(id, _)| *id).collect()
    }

    /// The framebuffer with this number, whosever it is.
    pub(crate) fn named(&self, id: u32) -> Result<&Framebuffer, Refusal> {
        self.framebuffers.get(&id).filter(|it| it.named).ok_or(UNKNOWN)
    }

    /// Forgets framebuffers that nobody names and nothing shows.
    pub(crate) fn sweep(&mut self, effects: &mut Vec<Effect>) {
        let (outputs, told) = (&self.outputs, &self.told);
        let idle = |id: &u32| {
            let shown = |output: &Output| output.config.shows(*id) || output.shown.shows(*id);
            !outputs.iter().any(shown) && !told.iter().any(|told| told.names(*id))
        };
        let gone = self.nameless.extract_if(.., |id| idle(id));
        for framebuffer in gone.filter_map(|id| self.framebuffers.remove(&id)) {
            effects.push(Effect::Scheme(Notice::Let { resource: framebuffer.image.resource }));
        }
    }

    /// Clients can name a framebuffer no more.
    fn unname(&mut self, id: u32) {
        if let Some(framebuffer) = self.framebuffers.get_mut(&id) {
            framebuffer.named = false;
            self.nameless.insert(id);
        }
    }
}

/// Refuses what cannot be shown, in the order in which Linux looks (`drm_internal_framebuffer_create`,
/// `framebuffer_check`, `virtio_gpu_user_framebuffer_create`), but for planes of formats that the device does not show:
/// these are refused whatever the planes are. What handles, pitches and offsets of further planes say does not
/// matter: old clients do not clear them.
pub(crate) fn check(new: &NewFramebuffer) -> Result<Image, Refusal> {
    const fn bad(why: &'static str) -> Refusal {
        Refusal::new(Errno::EINVAL, why)
    }
    if new.flags & !(INTERLACED | MODIFIERS) != 0 {
        return Err(bad("unknown flags"));
    }
    if !(SMALLEST..=LARGEST).contains(&new.width) || !(SMALLEST..=LARGEST).contains(&new.height) {
        return Err(bad("the framebuffer is too small or too large"));
    }
    if new.flags & MODIFIERS != 0 || new.modifiers != [0; 4] {
        return Err(bad("pixels lie in rows: there are no modifiers"));
    }
    if ![XRGB8888, ARGB8888].contains(&new.format) {
        return Err(if format::is_known(new.format) {
            Refusal::new(Errno::ENOENT, "the device does not show this format")
        } else {
            bad("no such format")
        });
    }
    let row = u64::from(new.width) * PIXEL;
    let end = u64::from(new.height) * u64::from(new.pitch) + u64::from(new.offset);
    if u32::try_from(end).is_err() {
        return Err(Refusal::new(Errno::ERANGE, "the framebuffer ends beyond 4 GiB"));
    }
    if u64::from(new.pitch) < row {
        return Err(bad("rows overlap"));
    }
    let image = new.image.clone().ok_or(bad("the file has no such handle"))?;
    let last_row = u64::from(new.height - 1) * u64::from(new.pitch) + row + u64::from(new.offset);
    if last_row > image.bytes {
        return Err(bad("the framebuffer is larger than its buffer"));
    }
    Ok(image)
}
