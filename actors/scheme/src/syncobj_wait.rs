//! Waiting for synchronisation objects.

use virgld_protocol::client::{Call, Reply, SyncobjFlags, SyncobjTimelineWait, SyncobjWait};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FenceKey, FileId, Token};
use virgld_runtime::Time;

use crate::state::{Caller, Effect, Outcome, State, answer};
use crate::syncobj::{Progress, SyncobjId};
use crate::syncobj_calls::points;

/// A call that waits.
pub(crate) struct SyncWait {
    pub(crate) file: FileId,
    token: Token,
    pub(crate) deadline: Time,
    what: Awaited,
}

/// What it waits for: that fences signal. How they do is, as on Linux, told by their sync files and not here.
struct Awaited {
    items: Vec<Item>,
    flags: SyncobjFlags,
    /// The call's fixed part, to be answered with the index filled in.
    fixed: Fixed,
}

/// One of the objects.
enum Item {
    /// It has no fence for this point: the first to come will be waited for.
    Absent(SyncobjId, u64),
    /// The fences that it had when they were first looked for. What becomes of the object is of no concern.
    Fences(Vec<FenceKey>),
}

#[derive(Clone, Copy)]
enum Fixed {
    Binary(SyncobjWait),
    Timeline(SyncobjTimelineWait),
}

const BAD_FLAGS: Refusal = Refusal::new(Errno::EINVAL, "unknown flags");
const ABSENT: Refusal =
    Refusal::new(Errno::EINVAL, "an object has no fence, and the call does not wait for one");
const TIME: Refusal = Refusal::new(Errno::ETIME, "not signalled in time");

impl State {
    pub(crate) fn syncobj_wait(&mut self, caller: Caller, call: &Call) -> Result<Outcome, Refusal> {
        let wire = call.parse::<SyncobjWait>()?;
        let fixed = wire.fixed;
        let flags = SyncobjFlags::from_bits(fixed.flags).ok_or(BAD_FLAGS)?;
        if flags.contains(SyncobjFlags::WAIT_AVAILABLE) {
            return Err(BAD_FLAGS);
        }
        let objects = self.syncobj_list(caller.file, wire.arrays[0])?;
        let items = objects.into_iter().map(|id| self.item(id, 0)).collect();
        let what = Awaited { items, flags, fixed: Fixed::Binary(fixed) };
        self.sync_wait(caller, what, fixed.timeout_nsec)
    }

    pub(crate) fn syncobj_timeline_wait(&mut self, caller: Caller, call: &Call) -> Result<Outcome, Refusal> {
        let wire = call.parse::<SyncobjTimelineWait>()?;
        let fixed = wire.fixed;
        let flags = SyncobjFlags::from_bits(fixed.flags).ok_or(BAD_FLAGS)?;
        let objects = self.syncobj_list(caller.file, wire.arrays[0])?;
        let items = objects.into_iter().zip(points(wire.arrays[1]));
        let items = items.map(|(id, point)| self.item(id, point)).collect();
        let what = Awaited { items, flags, fixed: Fixed::Timeline(fixed) };
        self.sync_wait(caller, what, fixed.timeout_nsec)
    }

    fn sync_wait(&mut self, caller: Caller, what: Awaited, timeout: i64) -> Result<Outcome, Refusal> {
        let patient = what.flags.intersects(SyncobjFlags::WAIT_FOR_SUBMIT | SyncobjFlags::WAIT_AVAILABLE);
        if !patient && what.items.iter().any(|item| matches!(item, Item::Absent(..))) {
            return Err(ABSENT);
        }
        if let Some(index) = self.satisfied(&what) {
            return Ok(Outcome::Answer(what.fixed.reply(index)));
        }
        let deadline = Time(u64::try_from(timeout).unwrap_or(0));
        let Some(token) = caller.token.filter(|_| deadline > caller.now) else { return Err(TIME) };
        self.sync_waits.push(SyncWait { file: caller.file, token, deadline, what });
        Ok(Outcome::Later)
    }

    fn item(&self, id: SyncobjId, point: u64) -> Item {
        match self.syncobjs.progress(id, point) {
            Progress::Absent => Item::Absent(id, point),
            Progress::Due(due) => Item::Fences(due.pending),
        }
    }

    /// The index of the first object that is where it should be, once enough are.
    fn satisfied(&self, what: &Awaited) -> Option<usize> {
        let available = what.flags.contains(SyncobjFlags::WAIT_AVAILABLE);
        let good = |item: &Item| match item {
            Item::Absent(..) => false,
            Item::Fences(keys) => available || !keys.iter().any(|key| self.fences.is_pending(*key)),
        };
        if what.flags.contains(SyncobjFlags::WAIT_ALL) {
            what.items.iter().all(good).then_some(0)
        } else {
            what.items.iter().position(good)
        }
    }

    /// Something about synchronisation objects changed: answers those whose wait is over.
    pub(crate) fn review_sync_waits(&mut self, effects: &mut Vec<Effect>) {
        self.answer_sync_waits(effects);
        while self.review_transfers(effects) {
            self.answer_sync_waits(effects);
        }
    }

    fn answer_sync_waits(&mut self, effects: &mut Vec<Effect>) {
        let waits = std::mem::take(&mut self.sync_waits);
        for mut wait in waits {
            for item in &mut wait.what.items {
                if let Item::Absent(id, point) = *item {
                    *item = self.item(id, point);
                }
            }
            match self.satisfied(&wait.what) {
                Some(index) => {
                    answer(Some(wait.token), Ok(Outcome::Answer(wait.what.fixed.reply(index))), effects);
                }
                None => self.sync_waits.push(wait),
            }
        }
    }

    pub(crate) fn expire_sync_waits(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for wait in self.sync_waits.extract_if(.., |wait| wait.deadline <= now) {
            answer(Some(wait.token), Err(TIME), effects);
        }
    }
}

impl Fixed {
    fn reply(self, index: usize) -> Reply {
        let first_signaled = u32::try_from(index).unwrap_or(u32::MAX);
        match self {
            Self::Binary(fixed) => Reply::fixed(&SyncobjWait { first_signaled, ..fixed }),
            Self::Timeline(fixed) => Reply::fixed(&SyncobjTimelineWait { first_signaled, ..fixed }),
        }
    }
}
