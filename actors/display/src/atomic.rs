//! Atomic mode setting: properties of many objects, all or none of them.

use virgld_protocol::client::kms::AtomicFlags;
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::message::display::Notice;

use crate::commit::{Commit, Fences};
use crate::damage::Damage;
use crate::object::Object;
use crate::output::{Config, Plane};
use crate::property as is;
use crate::state::{Caller, DONE, Effect, Outcome, State};

const NO_OBJECT: Refusal = Refusal::new(Errno::ENOENT, "no such object");
const NO_PROPERTY: Refusal = Refusal::new(Errno::ENOENT, "the object has no such property");
const VALUE: Refusal = Refusal::new(Errno::EINVAL, "no such value");

impl State {
    pub(crate) fn atomic(
        &mut self,
        caller: Caller,
        flags: u32,
        sets: &[(u32, u32, u64)],
        user_data: u64,
        fences: Fences,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const NOT_ATOMIC: Refusal =
            Refusal::new(Errno::EINVAL, "the file did not say that it understands atomic");
        const FLAGS: Refusal =
            Refusal::new(Errno::EINVAL, "unknown flags, or flags that exclude one another");
        const MORE: Refusal =
            Refusal::new(Errno::EINVAL, "more than the picture would change at once, without a refresh");
        const MODESET: Refusal =
            Refusal::new(Errno::EINVAL, "the change sets a mode, and that is not allowed");
        if !self.rights(caller.file)?.atomic {
            return Err(NOT_ATOMIC);
        }
        let flags = AtomicFlags::from_bits(flags).ok_or(FLAGS)?;
        let event = flags.contains(AtomicFlags::PAGE_FLIP_EVENT);
        let only_try = flags.contains(AtomicFlags::TEST_ONLY);
        if only_try && event {
            return Err(FLAGS);
        }
        let mut changes: Vec<(usize, Config)> = Vec::new();
        for (object, property, value) in sets {
            let object = Object::of(*object, self.outputs.len()).ok_or(NO_OBJECT)?;
            let index = object.index();
            let place = changes.iter().position(|(it, _)| *it == index).unwrap_or_else(|| {
                changes.push((index, self.outputs[index].config.clone()));
                changes.len() - 1
            });
            self.set(&mut changes[place].1, object, *property, *value)?;
        }
        let sets_mode = |(index, new): &(usize, Config)| {
            let old = &self.outputs[*index].config;
            let timing = |config: &Config| config.mode.as_ref().map(|(_, mode)| *mode);
            (old.active, old.joined, timing(old)) != (new.active, new.joined, timing(new))
        };
        let at_once = flags.contains(AtomicFlags::PAGE_FLIP_ASYNC);
        if at_once && (fences.out.is_some() || !changes.iter().all(|change| self.only_flips(change))) {
            return Err(MORE);
        }
        let allowed = flags.contains(AtomicFlags::ALLOW_MODESET) || !changes.iter().any(sets_mode);
        for (_, config) in &changes {
            self.check(config)?;
        }
        if !allowed {
            return Err(MODESET);
        }
        if only_try {
            if fences.out.is_some() {
                return Err(Refusal::new(Errno::EINVAL, "what is only tried signals no fence"));
            }
            return DONE;
        }
        if changes.is_empty() && event {
            return Err(Refusal::new(Errno::EINVAL, "an event is wanted of no CRTC"));
        }
        // A fence that no CRTC was asked for means that all is shown already.
        if changes.is_empty()
            && let Some(fence) = fences.out
        {
            effects.push(Effect::Scheme(Notice::Signal { fence, result: Ok(()) }));
        }
        let event = event.then_some(user_data);
        let blocking = !flags.contains(AtomicFlags::NONBLOCK);
        self.commit(caller, Commit { changes, event, blocking, at_once, fences }, effects)
    }

    /// Whether a change is of the picture alone, as Linux wants it of one that is to be shown at once.
    fn only_flips(&self, (index, new): &(usize, Config)) -> bool {
        let mut flipped = self.outputs[*index].config.clone();
        flipped.primary.framebuffer = new.primary.framebuffer;
        flipped.primary.damage = new.primary.damage.clone();
        flipped == *new
    }

    /// Sets one property in a configuration to be.
    fn set(&self, config: &mut Config, object: Object, property: u32, value: u64) -> Result<(), Refusal> {
        let crtc = Object::Crtc(object.index()).number();
        match (object, property) {
            (Object::Crtc(_), is::ACTIVE) => config.active = flag(value)?,
            (Object::Crtc(_), is::MODE_ID) => {
                config.mode = self.mode_of(u32::try_from(value).map_err(|_| VALUE)?)?;
            }
            // Which fence it is has been seen to; that there may be one is for the commit.
            (Object::Crtc(_), is::OUT_FENCE_PTR) if value <= 1 => {}
            (Object::Connector(_), is::CRTC_ID) => config.joined = joins(crtc, value)?,
            (Object::Connector(_), is::LINK_STATUS) if value <= 1 => {}
            (Object::Primary(_), is::DAMAGE) => config.primary.damage = self.damage(value)?,
            (Object::Primary(_), _) => {
                self.set_plane_property(&mut config.primary, crtc, property, value)?;
                // A plane that a commit names is shown anew, unless it says that only parts have changed.
                if config.primary.damage == Damage::Nothing {
                    config.primary.damage = Damage::Everything;
                }
            }
            (Object::Cursor(_), is::HOTSPOT_X) => config.cursor.hotspot.0 = signed(value)?,
            (Object::Cursor(_), is::HOTSPOT_Y) => config.cursor.hotspot.1 = signed(value)?,
            (Object::Cursor(_), _) => self.set_plane_property(&mut config.cursor, crtc, property, value)?,
            // Linux lets nobody set these through atomic, though the objects have them.
            (Object::Connector(_), is::EDID | is::DPMS | is::NON_DESKTOP | is::LINK_STATUS) => {
                return Err(VALUE);
            }
            (Object::Crtc(_), is::OUT_FENCE_PTR) => return Err(VALUE),
            _ => return Err(NO_PROPERTY),
        }
        Ok(())
    }

    fn set_plane_property(
        &self,
        plane: &mut Plane,
        crtc: u32,
        property: u32,
        value: u64,
    ) -> Result<(), Refusal> {
        let unsigned = || u32::try_from(value).map_err(|_| VALUE);
        let size = || i32::try_from(value).map(i32::cast_unsigned).map_err(|_| VALUE);
        match property {
            is::FB_ID => {
                let id = unsigned()?;
                let current = plane.framebuffer == Some(id);
                if id != 0 && !current {
                    self.named(id).map_err(|_| VALUE)?;
                }
                plane.framebuffer = (id != 0).then_some(id);
            }
            is::CRTC_ID => plane.joined = joins(crtc, value)?,
            is::CRTC_X => plane.position.0 = signed(value)?,
            is::CRTC_Y => plane.position.1 = signed(value)?,
            is::CRTC_W => plane.size.0 = size()?,
            is::CRTC_H => plane.size.1 = size()?,
            is::SRC_X => plane.source[0] = unsigned()?,
            is::SRC_Y => plane.source[1] = unsigned()?,
            is::SRC_W => plane.source[2] = unsigned()?,
            is::SRC_H => plane.source[3] = unsigned()?,
            is::IN_FENCE_FD if value.cast_signed() == -1 || value == 0 => {}
            is::TYPE | is::IN_FENCE_FD => return Err(VALUE),
            _ => return Err(NO_PROPERTY),
        }
        Ok(())
    }

    /// What a blob of clips says, now: its maker may drop it before they are used. Clips are rectangles of four 32-bit
    /// numbers.
    fn damage(&self, value: u64) -> Result<Damage, Refusal> {
        let id = u32::try_from(value).map_err(|_| VALUE)?;
        if id == 0 {
            return Ok(Damage::Everything);
        }
        let blob = self.blobs.get(&id).ok_or(VALUE)?;
        let (clips, rest) = blob.bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(VALUE);
        }
        let number = |bytes: &[u8; 4]| u16::try_from(i32::from_le_bytes(*bytes).max(0)).unwrap_or(u16::MAX);
        let clip = |bytes: &[u8; 16]| {
            let (numbers, _) = bytes.as_chunks::<4>();
            std::array::from_fn(|at| number(&numbers[at]))
        };
        Ok(Damage::of(&clips.iter().map(clip).collect::<Vec<_>>()))
    }

    /// SETPROPERTY and OBJ_SETPROPERTY.
    pub(crate) fn set_property(
        &mut self,
        caller: Caller,
        (object, kind): (u32, u32),
        property: u32,
        value: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let object = Object::of(object, self.outputs.len())
            .filter(|it| kind == 0 || it.kind() == kind)
            .ok_or(NO_OBJECT)?;
        let visible = self.values_for(caller.file, object)?;
        if !visible.iter().any(|(id, _)| *id == property) {
            return Err(Refusal::new(Errno::EINVAL, "the object has no such property"));
        }
        let index = object.index();
        let mut config = self.outputs[index].config.clone();
        match (object, property) {
            (Object::Connector(_), is::DPMS) => {
                if value > 3 {
                    return Err(VALUE);
                }
                config.active = value == 0 && config.mode.is_some();
            }
            // Fences come with atomic commits alone.
            (_, is::IN_FENCE_FD) if value.cast_signed() != -1 => return Err(VALUE),
            (_, is::OUT_FENCE_PTR) if value != 0 => return Err(VALUE),
            _ => self.set(&mut config, object, property, value)?,
        }
        if config == self.outputs[index].config {
            return DONE;
        }
        self.commit(caller, Commit::blocking(index, config), effects)
    }
}

/// Whether an object joins its CRTC: it can join no other.
fn joins(crtc: u32, value: u64) -> Result<bool, Refusal> {
    if value == 0 {
        Ok(false)
    } else if value == u64::from(crtc) {
        Ok(true)
    } else {
        Err(VALUE)
    }
}

fn flag(value: u64) -> Result<bool, Refusal> {
    if value > 1 { Err(VALUE) } else { Ok(value == 1) }
}

/// A signed value as properties carry it.
fn signed(value: u64) -> Result<i32, Refusal> {
    i32::try_from(value.cast_signed()).map_err(|_| VALUE)
}
