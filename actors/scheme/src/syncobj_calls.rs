//! The ioctls of synchronisation objects, but for the waits.

use virgld_protocol::client::{
    Call, ExecbufferSyncobj, Reply, SyncobjCreate, SyncobjDestroy, SyncobjFdToHandle, SyncobjHandleToFd,
    SyncobjQuery, SyncobjReset, SyncobjSignal, SyncobjTimelineSignal,
};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FenceKey, FileId};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, SyncobjKey};

use crate::fence::Order;
use crate::state::{Caller, Effect, Outcome, State};
use crate::syncobj::{Due, Fence, Progress, SyncobjId};

const BAD: Refusal = Refusal::new(Errno::EINVAL, "unknown flags, or a field that must be zero");
pub(crate) const NO_FENCE: Refusal = Refusal::new(Errno::EINVAL, "the object has no fence there");
const NO_HANDLE: Refusal = Refusal::new(Errno::EINVAL, "the file has no such synchronisation object");
const EXPORT_SYNC_FILE: u32 = 1;
const IMPORT_SYNC_FILE: u32 = 1;
const TIMELINE: u32 = 2;

impl State {
    /// The object that a handle of a file stands for.
    pub(crate) fn syncobj(&mut self, file: FileId, handle: u32) -> Result<SyncobjId, Refusal> {
        const NO_HANDLE: Refusal = Refusal::new(Errno::ENOENT, "the file has no such synchronisation object");
        let key = (handle as usize).checked_sub(1).ok_or(NO_HANDLE)?;
        self.file(file)?.syncobjs.get(key).copied().ok_or(NO_HANDLE)
    }

    /// The objects that an array of handles names.
    pub(crate) fn syncobj_list(&mut self, file: FileId, handles: &[u8]) -> Result<Vec<SyncobjId>, Refusal> {
        const NONE: Refusal = Refusal::new(Errno::EINVAL, "no object is named");
        if handles.is_empty() {
            return Err(NONE);
        }
        words(handles).map(|handle| self.syncobj(file, handle)).collect()
    }

    fn enter_syncobj(&mut self, file: FileId, id: SyncobjId) -> Result<u32, Refusal> {
        const MANY: Refusal = Refusal::new(Errno::ENOMEM, "the file has too many synchronisation objects");
        let most = self.limits.syncobjs;
        let of_user: usize = self.files_of_same_user(file).map(|file| file.syncobjs.len()).sum();
        if of_user >= self.limits.user.syncobjs {
            return Err(MANY);
        }
        let file = self.file(file)?;
        if file.syncobjs.len() >= most {
            return Err(MANY);
        }
        let key = file.syncobjs.insert(id);
        Ok(u32::try_from(key + 1).unwrap_or(u32::MAX))
    }

    pub(crate) fn syncobj_create(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        let asked = call.parse::<SyncobjCreate>()?.fixed;
        if asked.flags & !1 != 0 {
            return Err(BAD);
        }
        let id = self.syncobjs.create(asked.flags == 1);
        match self.enter_syncobj(file, id) {
            Ok(handle) => Ok(Outcome::Answer(Reply::fixed(&SyncobjCreate { handle, ..asked }))),
            Err(refusal) => {
                self.syncobjs.release(id);
                Err(refusal)
            }
        }
    }

    pub(crate) fn syncobj_destroy(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        let asked = call.parse::<SyncobjDestroy>()?.fixed;
        if asked.pad != 0 {
            return Err(BAD);
        }
        let key = (asked.handle as usize).checked_sub(1).ok_or(NO_HANDLE)?;
        let id = self.file(file)?.syncobjs.try_remove(key).ok_or(NO_HANDLE)?;
        self.syncobjs.release(id);
        Ok(Outcome::Answer(Reply::empty()))
    }

    /// A file is closed.
    pub(crate) fn release_syncobjs(&mut self, file: FileId) {
        let Some(file) = self.files.get_mut(&file) else { return };
        for id in file.syncobjs.drain() {
            self.syncobjs.release(id);
        }
    }

    pub(crate) fn syncobj_export(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        let asked = call.parse::<SyncobjHandleToFd>()?.fixed;
        if asked.pad != 0 || asked.flags & !(EXPORT_SYNC_FILE | TIMELINE) != 0 {
            return Err(BAD);
        }
        let sync_file = asked.flags & EXPORT_SYNC_FILE != 0;
        // Linux tells a missing handle otherwise for the object itself than for its fence.
        let id = self
            .syncobj(file, asked.handle)
            .map_err(|refusal| if sync_file { refusal } else { NO_HANDLE })?;
        let attach = if sync_file {
            let point = if asked.flags & TIMELINE != 0 { asked.point } else { 0 };
            let due = self.due_at(id, point)?;
            self.merge_for(file, &due)?
        } else {
            const MANY: Refusal = Refusal::new(Errno::EMFILE, "the user has shared too many objects");
            let fresh = SyncobjKey(self.fresh());
            let (user, most) = (self.file(file)?.user(), self.limits.user.exported_syncobjs);
            Attach::Syncobj(self.syncobjs.export(id, fresh, user, most).ok_or(MANY)?)
        };
        Ok(Outcome::AnswerWith(Reply::fixed(&asked), attach))
    }

    pub(crate) fn syncobj_import(
        &mut self,
        file: FileId,
        call: &Call,
        attached: Option<Attached>,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const NOT_OURS: Refusal = Refusal::new(Errno::EINVAL, "the descriptor is nothing of the kind");
        let asked = call.parse::<SyncobjFdToHandle>()?.fixed;
        if asked.pad != 0 || asked.flags & !(IMPORT_SYNC_FILE | TIMELINE) != 0 {
            return Err(BAD);
        }
        if asked.flags & IMPORT_SYNC_FILE != 0 {
            let id = self.syncobj(file, asked.handle)?;
            let point = if asked.flags & TIMELINE != 0 { asked.point } else { 0 };
            let key = self.fence_of(attached).ok_or(NOT_OURS)?;
            self.need_room(id)?;
            self.put_fence(id, point, key);
            self.review_sync_waits(effects);
            return Ok(Outcome::Answer(Reply::fixed(&asked)));
        }
        let Some(Attached::Syncobj(key)) = attached else { return Err(NOT_OURS) };
        let id = self.syncobjs.exported(key).ok_or(NOT_OURS)?;
        let handle = self.enter_syncobj(file, id)?;
        self.syncobjs.hold(id);
        Ok(Outcome::Answer(Reply::fixed(&SyncobjFdToHandle { handle, ..asked })))
    }

    pub(crate) fn syncobj_reset(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        let wire = call.parse::<SyncobjReset>()?;
        if wire.fixed.pad != 0 {
            return Err(BAD);
        }
        for id in self.syncobj_list(file, wire.arrays[0])? {
            self.syncobjs.reset(id);
        }
        Ok(Outcome::Answer(Reply::empty()))
    }

    pub(crate) fn syncobj_signal(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let wire = call.parse::<SyncobjSignal>()?;
        if wire.fixed.pad != 0 {
            return Err(BAD);
        }
        for id in self.syncobj_list(caller.file, wire.arrays[0])? {
            self.syncobjs.put(id, 0, Fence::DONE);
        }
        self.review_sync_waits(effects);
        Ok(Outcome::Answer(Reply::empty()))
    }

    pub(crate) fn syncobj_timeline_signal(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let wire = call.parse::<SyncobjTimelineSignal>()?;
        if wire.fixed.flags != 0 {
            return Err(BAD);
        }
        let objects = self.syncobj_list(caller.file, wire.arrays[0])?;
        for id in &objects {
            self.need_room(*id)?;
        }
        for (id, point) in objects.into_iter().zip(points(wire.arrays[1])) {
            self.syncobjs.put(id, point, Fence::DONE);
        }
        self.review_sync_waits(effects);
        Ok(Outcome::Answer(Reply::empty()))
    }

    pub(crate) fn syncobj_query(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        const LAST_SUBMITTED: u32 = 1;
        let wire = call.parse::<SyncobjQuery>()?;
        if wire.fixed.flags & !LAST_SUBMITTED != 0 {
            return Err(BAD);
        }
        let submitted = wire.fixed.flags & LAST_SUBMITTED != 0;
        let objects = self.syncobj_list(file, wire.arrays[0])?;
        let points = objects.into_iter().flat_map(|id| self.syncobjs.last_point(id, submitted).to_le_bytes());
        Ok(Outcome::Answer(Reply::empty().with(points.collect::<Vec<u8>>())))
    }

    /// Refuses more points for an object that has too many which are not reached.
    pub(crate) fn need_room(&self, id: SyncobjId) -> Result<(), Refusal> {
        const LONG: Refusal = Refusal::new(Errno::ENOMEM, "too many points of the timeline are not reached");
        if self.syncobjs.has_room(id) { Ok(()) } else { Err(LONG) }
    }

    /// What a point stands for.
    fn due_at(&self, id: SyncobjId, point: u64) -> Result<Due, Refusal> {
        match self.syncobjs.progress(id, point) {
            Progress::Absent => Err(NO_FENCE),
            Progress::Due(due) => Ok(due),
        }
    }

    /// Puts a fence into an object; one that has signalled already counts as such, with its error.
    pub(crate) fn put_fence(&mut self, id: SyncobjId, point: u64, key: FenceKey) {
        let fence = match self.fences.result_of(key) {
            None => Fence::Pending(key),
            Some(result) => Fence::Signalled(result),
        };
        self.syncobjs.put(id, point, fence);
        self.fences.inform(key, id);
    }

    /// What a submit must wait for because of one of its synchronisation objects.
    pub(crate) fn syncobj_gates(
        &mut self,
        order: Order,
        wait: &ExecbufferSyncobj,
    ) -> Result<Vec<FenceKey>, Refusal> {
        let id = self.syncobj(order.file, wait.handle)?;
        let due = self.due_at(id, wait.point)?;
        Ok(due.pending.into_iter().filter_map(|key| self.fences.gate(key, order)).collect())
    }

    /// Checks the objects that a submit is to signal.
    pub(crate) fn check_targets(
        &mut self,
        file: FileId,
        targets: &[ExecbufferSyncobj],
    ) -> Result<(), Refusal> {
        for target in targets {
            if target.flags != 0 {
                return Err(BAD);
            }
            let id = self.syncobj(file, target.handle)?;
            self.need_room(id)?;
        }
        Ok(())
    }

    /// Resets the objects that a submit waited for and wanted reset.
    pub(crate) fn reset_waited(&mut self, file: FileId, waits: &[ExecbufferSyncobj]) {
        for wait in waits.iter().filter(|wait| wait.flags & 1 != 0) {
            if let Ok(id) = self.syncobj(file, wait.handle) {
                self.syncobjs.reset(id);
            }
        }
    }

    /// Puts the fence of a submit into the objects that it is to signal.
    pub(crate) fn attach_fence(
        &mut self,
        file: FileId,
        targets: &[ExecbufferSyncobj],
        key: FenceKey,
        effects: &mut Vec<Effect>,
    ) {
        for target in targets {
            if let Ok(id) = self.syncobj(file, target.handle) {
                self.put_fence(id, target.point, key);
            }
        }
        self.review_sync_waits(effects);
    }
}

/// An array of handles.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]))
}

/// An array of points. It need not be aligned.
pub(crate) fn points(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes
        .chunks_exact(8)
        .map(|it| u64::from_le_bytes([it[0], it[1], it[2], it[3], it[4], it[5], it[6], it[7]]))
}
