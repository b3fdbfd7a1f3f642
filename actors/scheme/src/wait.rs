//! WAIT: until the device is done with a buffer.

use foldhash::HashMap;

use virgld_protocol::client::{Call, Reply, Wait};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId, Serial, Token};
use virgld_protocol::message::context::Request;
use virgld_protocol::message::display;
use virgld_protocol::message::scheme::Reached;
use virgld_runtime::Time;

use crate::file::File;
use crate::state::{Caller, Effect, Outcome, State, answer};

/// A call that waits for a buffer.
pub(crate) struct BufferWait {
    who: Waiting,
    pub(crate) deadline: Time,
    /// The work that it waits for.
    until: Uses,
}

/// Work that somebody waits for.
pub(crate) type Uses = Vec<Use>;

/// The last work of a file that uses a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Use {
    file: FileId,
    serial: Serial,
    /// Whether it is over when the device has executed it.
    staging: bool,
}

impl Use {
    fn is_over(&self, files: &HashMap<FileId, File>) -> bool {
        files.get(&self.file).is_none_or(|file| {
            let Reached { executed, complete } = file.reached;
            self.serial <= if self.staging { executed } else { complete }
        })
    }
}

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Call(FileId, Token),
    /// The display, which is about to show the buffer.
    Display(Token),
}

const BUSY: Refusal = Refusal::new(Errno::EBUSY, "the device still uses the buffer");

impl State {
    pub(crate) fn wait(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const ONLY_ASK: u32 = 1;
        const BAD_FLAGS: Refusal = Refusal::new(Errno::EINVAL, "unknown flags");
        let asked = call.parse::<Wait>()?.fixed;
        if asked.flags & !ONLY_ASK != 0 {
            return Err(BAD_FLAGS);
        }
        let resource = self.file(caller.file)?.entry(asked.handle)?.resource;
        self.end_query(caller.file, resource);
        let until = self.work_under_way(resource);
        if until.is_empty() {
            spend(&mut self.spent, until);
            return Ok(Outcome::Answer(Reply::empty()));
        }
        let Some(token) = caller.token.filter(|_| asked.flags & ONLY_ASK == 0) else {
            spend(&mut self.spent, until);
            return Err(BUSY);
        };
        ask_for(&until, effects);
        let deadline = caller.now.after(self.limits.wait);
        self.waits.push(BufferWait { who: Waiting::Call(caller.file, token), deadline, until });
        Ok(Outcome::Later)
    }

    /// The display is about to show a buffer: it is told when the work on that is complete.
    pub(crate) fn await_work(&mut self, gate: Token, resource: ResourceId, effects: &mut Vec<Effect>) {
        let until = self.work_under_way(resource);
        if until.is_empty() {
            spend(&mut self.spent, until);
            return effects.push(Effect::Display(display::Request::Ready { gate }));
        }
        ask_for(&until, effects);
        // Work has a deadline of its own: this wait needs none.
        self.waits.push(BufferWait { who: Waiting::Display(gate), deadline: Time(u64::MAX), until });
    }

    /// The work on a buffer that is not over: the last of each file that names it, or did.
    fn work_under_way(&mut self, resource: ResourceId) -> Uses {
        let mut found = self.spent.pop().unwrap_or_default();
        let Some(buffer) = self.buffers.get(&resource) else { return found };
        let staging = buffer.staging;
        let of_holder = |id: &FileId| Some((*id, self.files.get(id)?.entry_of(resource)?.last_use));
        let uses = buffer.holders.iter().filter_map(of_holder).chain(buffer.last_uses.iter().copied());
        let uses = uses.map(|(file, serial)| Use { file, serial, staging });
        found.extend(uses.filter(|it| !it.is_over(&self.files)));
        found
    }

    /// Work of a file has gone on: answers those who waited for it.
    pub(crate) fn retire_waits(&mut self, id: FileId, effects: &mut Vec<Effect>) {
        let files = &self.files;
        for wait in &mut self.waits {
            wait.until.retain(|it| it.file != id || !it.is_over(files));
        }
        for wait in self.waits.extract_if(.., |wait| wait.until.is_empty()) {
            match wait.who {
                Waiting::Call(_, token) => {
                    answer(Some(token), Ok(Outcome::Answer(Reply::empty())), effects);
                }
                Waiting::Display(gate) => effects.push(Effect::Display(display::Request::Ready { gate })),
            }
            spend(&mut self.spent, wait.until);
        }
    }

    /// A file is closed: nobody waits in it, nor for it.
    pub(crate) fn forget_waits(&mut self, id: FileId) {
        self.waits.retain(|wait| !matches!(wait.who, Waiting::Call(file, _) if file == id));
        self.shown.retain(|_, showing| showing.file != id || showing.abandon());
        self.sync_waits.retain(|wait| wait.file != id);
        self.transfers.retain(|wait| wait.file != id);
        self.parked.retain(|_, parked| parked.outlives(id));
    }

    pub(crate) fn expire_waits(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for wait in self.waits.extract_if(.., |wait| wait.deadline <= now) {
            if let Waiting::Call(_, token) = wait.who {
                answer(Some(token), Err(BUSY), effects);
            }
            spend(&mut self.spent, wait.until);
        }
    }
}

/// Keeps a list for the next wait, so that waits take no memory.
fn spend(spent: &mut Vec<Uses>, mut list: Uses) {
    if spent.len() < MOST_SPENT {
        list.clear();
        spent.push(list);
    }
}

/// More calls than this seldom wait at a time.
const MOST_SPENT: usize = 64;

/// Has the contexts find out when work is complete that must be.
fn ask_for(until: &[Use], effects: &mut Vec<Effect>) {
    for Use { file, serial, .. } in until.iter().copied().filter(|it| !it.staging) {
        effects.push(Effect::Context(file, Request::Await { serial }));
    }
}
