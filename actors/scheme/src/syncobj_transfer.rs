//! SYNCOBJ_TRANSFER: what a point of one object stands for becomes a point of another.

use std::time::Duration;

use virgld_protocol::client::{Call, Reply, SyncobjFlags, SyncobjTransfer};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, Token};
use virgld_protocol::message::door::Attach;
use virgld_runtime::Time;

use crate::state::{Caller, Effect, Outcome, State, answer};
use crate::syncobj::{Due, Fence, Progress, SyncobjId};
use crate::syncobj_calls::NO_FENCE;

/// A call whose source has no fence yet.
pub(crate) struct TransferWait {
    pub(crate) file: FileId,
    token: Token,
    pub(crate) deadline: Time,
    way: Way,
}

/// From a point of one object to one of another.
#[derive(Clone, Copy)]
struct Way {
    from: (SyncobjId, u64),
    to: (SyncobjId, u64),
}

/// So long a fence is waited for, as on Linux (`DRM_SYNCOBJ_WAIT_FOR_SUBMIT_TIMEOUT`).
const SUBMIT: Duration = Duration::from_secs(5);
const TIME: Refusal = Refusal::new(Errno::ETIME, "no fence came in time");

impl State {
    pub(crate) fn syncobj_transfer(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const BAD: Refusal = Refusal::new(Errno::EINVAL, "unknown flags, or a field that must be zero");
        let asked = call.parse::<SyncobjTransfer>()?.fixed;
        let flags = SyncobjFlags::from_bits(asked.flags).ok_or(BAD)?;
        if asked.pad != 0 || !SyncobjFlags::WAIT_FOR_SUBMIT.contains(flags) {
            return Err(BAD);
        }
        let from = self.syncobj(caller.file, asked.src_handle)?;
        let to = self.syncobj(caller.file, asked.dst_handle)?;
        let way = Way { from: (from, asked.src_point), to: (to, asked.dst_point) };
        if let Progress::Due(due) = self.syncobjs.progress(from, asked.src_point) {
            self.transfer_due(caller.file, way, &due)?;
            self.review_sync_waits(effects);
            return Ok(Outcome::Answer(Reply::empty()));
        }
        if flags.is_empty() {
            return Err(NO_FENCE);
        }
        let token = caller.token.ok_or(TIME)?;
        let deadline = caller.now.after(SUBMIT);
        self.transfers.push(TransferWait { file: caller.file, token, deadline, way });
        Ok(Outcome::Later)
    }

    fn transfer_due(&mut self, file: FileId, way: Way, due: &Due) -> Result<(), Refusal> {
        let (to, point) = way.to;
        self.need_room(to)?;
        match self.merge_for(file, due)? {
            Attach::Fence { result: Some(result), .. } => {
                self.syncobjs.put(to, point, Fence::Signalled(result));
            }
            Attach::Fence { fence, result: None } => self.put_fence(to, point, fence),
            _ => {}
        }
        Ok(())
    }

    /// Makes the transfers whose fence has come. Says whether there was one: it may be what others wait for.
    pub(crate) fn review_transfers(&mut self, effects: &mut Vec<Effect>) -> bool {
        let waits = std::mem::take(&mut self.transfers);
        let before = waits.len();
        for wait in waits {
            let (from, point) = wait.way.from;
            match self.syncobjs.progress(from, point) {
                Progress::Absent => self.transfers.push(wait),
                Progress::Due(due) => {
                    let done = self.transfer_due(wait.file, wait.way, &due);
                    answer(Some(wait.token), done.map(|()| Outcome::Answer(Reply::empty())), effects);
                }
            }
        }
        self.transfers.len() < before
    }

    pub(crate) fn expire_transfers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for wait in self.transfers.extract_if(.., |wait| wait.deadline <= now) {
            answer(Some(wait.token), Err(TIME), effects);
        }
    }
}
