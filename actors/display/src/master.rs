//! Who may change what is on the screens.
//!
//! As in Linux (`drm_auth.c`): the first file of `card0` becomes master; one that is privileged, or was master before, may
//! become it again when there is none.

use std::collections::VecDeque;

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, Token};
use virgld_protocol::message::display::Call;
use virgld_runtime::Time;

use crate::output::Config;
use crate::state::{DONE, Effect, Outcome, State};

/// What a file may, and what it understands.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    pub(crate) privileged: bool,
    was_master: bool,
    pub(crate) universal_planes: bool,
    pub(crate) atomic: bool,
    pub(crate) hotspots: bool,
}

impl State {
    pub(crate) fn open(&mut self, file: FileId, privileged: bool) {
        let first = self.master.is_none();
        if first {
            self.master = Some(file);
        }
        self.files.insert(file, Rights { privileged, was_master: first, ..Rights::default() });
    }

    /// The last descriptor of a file is gone: so is what it set up.
    pub(crate) fn close(&mut self, now: Time, file: FileId, effects: &mut Vec<Effect>) {
        if self.files.remove(&file).is_none() {
            return;
        }
        self.waiters.retain(|waiter| waiter.file != file);
        let (gone, left) = std::mem::take(&mut self.deferred).into_iter().partition(|(it, ..)| *it == file);
        self.deferred = left;
        let gone: VecDeque<(FileId, Token, Call)> = gone;
        for (.., call) in gone {
            self.give_up(&call, Errno::ECANCELED, effects);
        }
        self.forget_calls(file);
        for flip in self.flips.iter_mut().flatten() {
            flip.forget(file);
        }
        if self.master == Some(file) {
            self.master = None;
            for index in 0..self.outputs.len() {
                self.force(now, index, Config::default(), effects);
            }
        }
        self.remove_framebuffers_of(now, file, effects);
        self.disown_blobs_of(file);
    }

    /// Refuses what only a master may.
    pub(crate) fn may(&self, file: FileId, call: &Call) -> Result<(), Refusal> {
        const NOT_MASTER: Refusal = Refusal::new(Errno::EACCES, "only a master may");
        if !needs_master(call) || self.master == Some(file) { Ok(()) } else { Err(NOT_MASTER) }
    }

    pub(crate) fn set_master(&mut self, file: FileId) -> Result<Outcome, Refusal> {
        const NOT_PRIVILEGED: Refusal = Refusal::new(Errno::EACCES, "it was never master, and is not root's");
        const TAKEN: Refusal = Refusal::new(Errno::EBUSY, "another file is master");
        let rights = self.rights(file)?;
        if !rights.was_master && !rights.privileged {
            return Err(NOT_PRIVILEGED);
        }
        rights.was_master = true;
        if self.master.is_some_and(|master| master != file) {
            return Err(TAKEN);
        }
        self.master = Some(file);
        DONE
    }

    pub(crate) fn drop_master(&mut self, file: FileId) -> Result<Outcome, Refusal> {
        const NOT_PRIVILEGED: Refusal = Refusal::new(Errno::EACCES, "it was never master, and is not root's");
        const NOT_MASTER: Refusal = Refusal::new(Errno::EINVAL, "it is not master");
        let rights = self.rights(file)?;
        if !rights.was_master && !rights.privileged {
            return Err(NOT_PRIVILEGED);
        }
        if self.master != Some(file) {
            return Err(NOT_MASTER);
        }
        self.master = None;
        DONE
    }

    /// SET_CLIENT_CAP.
    pub(crate) fn understand(
        &mut self,
        file: FileId,
        capability: u64,
        value: u64,
    ) -> Result<Outcome, Refusal> {
        const VALUE: Refusal = Refusal::new(Errno::EINVAL, "no such value");
        const UNKNOWN: Refusal = Refusal::new(Errno::EINVAL, "no such client capability");
        const NEEDS_ATOMIC: Refusal = Refusal::new(Errno::EINVAL, "only for clients that use atomic");
        let rights = self.rights(file)?;
        let most = if capability == 3 { 2 } else { 1 };
        if value > most {
            return Err(VALUE);
        }
        match capability {
            // STEREO_3D, ASPECT_RATIO: no mode has either, so there is nothing to hide.
            1 | 4 => {}
            2 => rights.universal_planes = value > 0,
            3 => {
                rights.atomic = value > 0;
                rights.universal_planes = value > 0;
            }
            // WRITEBACK_CONNECTORS: there are none.
            5 if rights.atomic => {}
            6 if rights.atomic => rights.hotspots = value > 0,
            5 | 6 => return Err(NEEDS_ATOMIC),
            _ => return Err(UNKNOWN),
        }
        DONE
    }

    pub(crate) fn rights(&mut self, file: FileId) -> Result<&mut Rights, Refusal> {
        self.files.get_mut(&file).ok_or(Refusal::new(Errno::EACCES, "not a file of card0"))
    }
}

/// Which calls only a master may make (`DRM_MASTER` in `drm_ioctl.c`).
fn needs_master(call: &Call) -> bool {
    matches!(
        call,
        Call::NeedMaster(_)
            | Call::SetCrtc(_)
            | Call::PageFlip { .. }
            | Call::Dirty { .. }
            | Call::SetPlane(_)
            | Call::Cursor(_)
            | Call::SetGamma { .. }
            | Call::SetProperty { .. }
            | Call::Atomic { .. }
            | Call::Lease(_)
    )
}
