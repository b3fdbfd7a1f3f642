//! The calls from before atomic mode setting, in its terms.

use virgld_protocol::client::kms::PageFlipFlags;
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::message::display::{SetCrtc, SetPlane};

use crate::commit::Commit;
use crate::damage::{Clip, Damage};
use crate::framebuffer::PRIMARY_FORMATS;
use crate::mode;
use crate::object::Object;
use crate::output::{Config, Plane};
use crate::state::{Caller, DONE, Effect, Outcome, Presentation, State};

/// What a flip may ask for; a refresh as its target is not offered.
const FLIPS: PageFlipFlags = PageFlipFlags::EVENT.union(PageFlipFlags::ASYNC);
/// The framebuffer that is shown already, as SETCRTC names it.
const SAME: u32 = u32::MAX;

const NO_CRTC: Refusal = Refusal::new(Errno::ENOENT, "no such CRTC");
const NO_SPACE: Refusal = Refusal::new(Errno::ENOSPC, "the framebuffer is smaller than the mode");

impl State {
    pub(crate) fn set_crtc(
        &mut self,
        caller: Caller,
        it: &SetCrtc,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const CONNECTORS: Refusal = Refusal::new(Errno::EINVAL, "a mode needs a connector, and one a mode");
        const NO_CONNECTOR: Refusal = Refusal::new(Errno::ENOENT, "no such connector");
        const NOT_FED: Refusal = Refusal::new(Errno::EINVAL, "the CRTC cannot feed this connector");
        const FORMAT: Refusal = Refusal::new(Errno::EINVAL, "the screen does not show this format");
        const FAR: Refusal = Refusal::new(Errno::ERANGE, "planes begin at 65535 at most");
        // In a plane's 16.16 numbers there is no room for more.
        if it.mode.is_some() && (it.position.0 | it.position.1) > u32::from(u16::MAX) {
            return Err(FAR);
        }
        let index = self.crtc(it.crtc)?;
        let cursor = self.outputs[index].config.cursor.clone();
        let Some(mode) = &it.mode else {
            if !it.connectors.is_empty() {
                return Err(CONNECTORS);
            }
            let off = Config { cursor, ..Config::default() };
            return self.commit(caller, Commit::blocking(index, off), effects);
        };
        let current = self.outputs[index].config.primary.framebuffer;
        let id = match it.framebuffer {
            SAME => current.ok_or(Refusal::new(Errno::EINVAL, "no framebuffer is shown"))?,
            id => id,
        };
        let framebuffer = if Some(id) == current { self.framebuffers.get(&id) } else { None };
        let framebuffer = framebuffer.map_or_else(|| self.named(id), Ok)?;
        mode::check(mode).map_err(|refusal| Refusal::new(Errno::EINVAL, refusal.why))?;
        let extent = (u32::from(mode.hdisplay), u32::from(mode.vdisplay));
        let fits =
            |start: u32, size: u32, whole: u32| start.checked_add(size).is_some_and(|end| end <= whole);
        if !fits(it.position.0, extent.0, framebuffer.width)
            || !fits(it.position.1, extent.1, framebuffer.height)
        {
            return Err(NO_SPACE);
        }
        if !PRIMARY_FORMATS.contains(&framebuffer.format) {
            return Err(FORMAT);
        }
        if it.connectors.is_empty() || it.connectors.len() > self.outputs.len() {
            return Err(CONNECTORS);
        }
        for connector in &it.connectors {
            match Object::of(*connector, self.outputs.len()) {
                Some(Object::Connector(of)) if of == index => {}
                Some(Object::Connector(_)) => return Err(NOT_FED),
                _ => return Err(NO_CONNECTOR),
            }
        }
        let blob = self.blob_of(mode);
        let primary = Plane::covering(id, it.position, extent);
        let config = Config { joined: true, active: true, mode: Some((blob, *mode)), primary, cursor };
        self.commit(caller, Commit::blocking(index, config), effects)
    }

    pub(crate) fn page_flip(
        &mut self,
        caller: Caller,
        crtc: u32,
        framebuffer: u32,
        flags: u32,
        user_data: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const FLAGS: Refusal = Refusal::new(Errno::EINVAL, "unknown flags, or flips that are not offered");
        const NOTHING: Refusal = Refusal::new(Errno::EBUSY, "the CRTC shows nothing that could be flipped");
        const OFF: Refusal = Refusal::new(Errno::EINVAL, "the CRTC is off");
        const FORMAT: Refusal = Refusal::new(Errno::EINVAL, "a flip cannot change the format");
        let flags = PageFlipFlags::from_bits(flags).filter(|it| FLIPS.contains(*it)).ok_or(FLAGS)?;
        let index = self.crtc(crtc)?;
        let mut config = self.outputs[index].config.clone();
        let old = config.primary.framebuffer.and_then(|id| self.framebuffers.get(&id)).ok_or(NOTHING)?;
        let new = self.named(framebuffer)?;
        let [x, y, width, height] = config.primary.source.map(|it| it >> 16);
        if x + width > new.width || y + height > new.height {
            return Err(NO_SPACE);
        }
        if old.format != new.format {
            return Err(FORMAT);
        }
        if config.lit().is_none() {
            return Err(OFF);
        }
        config.primary.framebuffer = Some(framebuffer);
        config.primary.damage = Damage::Everything;
        let event = flags.contains(PageFlipFlags::EVENT).then_some(user_data);
        let at_once = flags.contains(PageFlipFlags::ASYNC);
        let changes = vec![(index, config)];
        self.commit(caller, Commit { changes, event, at_once, ..Commit::default() }, effects)
    }

    pub(crate) fn set_plane(
        &mut self,
        caller: Caller,
        it: &SetPlane,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const NO_PLANE: Refusal = Refusal::new(Errno::ENOENT, "no such plane");
        const ELSEWHERE: Refusal = Refusal::new(Errno::EINVAL, "the plane belongs to another CRTC");
        let (index, is_cursor) = match Object::of(it.plane, self.outputs.len()) {
            Some(Object::Primary(index)) => (index, false),
            Some(Object::Cursor(index)) => (index, true),
            _ => return Err(NO_PLANE),
        };
        let mut config = self.outputs[index].config.clone();
        let plane = if is_cursor { &mut config.cursor } else { &mut config.primary };
        if it.framebuffer == 0 {
            *plane = Plane::default();
        } else {
            self.named(it.framebuffer)?;
            if self.crtc(it.crtc)? != index {
                return Err(ELSEWHERE);
            }
            *plane = Plane {
                framebuffer: Some(it.framebuffer),
                joined: true,
                position: it.position,
                size: it.size,
                source: it.source,
                damage: Damage::Everything,
                ..Plane::default()
            };
        }
        self.commit(caller, Commit::blocking(index, config), effects)
    }

    /// DIRTYFB: what is written into a framebuffer that is shown is to be seen.
    pub(crate) fn dirty(
        &mut self,
        caller: Caller,
        id: u32,
        flags: u32,
        clips: &[Clip],
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        /// `DRM_MODE_FB_DIRTY_ANNOTATE_COPY`: clips come in pairs.
        const COPY: u32 = 1;
        const ODD: Refusal = Refusal::new(Errno::EINVAL, "clips of a copy come in pairs");
        self.named(id)?;
        // Linux looks at no other flag.
        if flags & COPY != 0 && !clips.len().is_multiple_of(2) {
            return Err(ODD);
        }
        let showing = |index: &usize| self.outputs[*index].shown.primary.framebuffer == Some(id);
        let showing: Vec<usize> = (0..self.outputs.len()).filter(showing).collect();
        if showing.is_empty() || self.presentation == Presentation::ReadBack || !self.up {
            return DONE;
        }
        self.block(caller, showing.len())?;
        for index in showing {
            self.update(index, clips, caller.token, effects);
        }
        Ok(Outcome::Later)
    }

    /// There is no gamma table: setting one is refused, and asking for one without entries is not.
    pub(crate) fn gamma(&mut self, crtc: u32, size: u32) -> Result<Outcome, Refusal> {
        const SIZE: Refusal = Refusal::new(Errno::EINVAL, "the gamma table has no entries");
        self.crtc(crtc)?;
        if size == 0 { DONE } else { Err(SIZE) }
    }

    pub(crate) fn set_gamma(&mut self, crtc: u32) -> Result<Outcome, Refusal> {
        self.crtc(crtc)?;
        Err(Refusal::new(Errno::ENOSYS, "the device has no gamma table"))
    }

    /// The place of the output whose CRTC this is.
    pub(crate) fn crtc(&self, id: u32) -> Result<usize, Refusal> {
        match Object::of(id, self.outputs.len()) {
            Some(Object::Crtc(index)) => Ok(index),
            _ => Err(NO_CRTC),
        }
    }
}
