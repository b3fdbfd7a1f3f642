//! Nobody waits for ever.
//!
//! Messages between actors do not get lost, so whatever a file waits for comes, or its refusal does, within what the
//! device and the daemon have for it. Should one not come all the same, an actor has gone wrong without dying. So all that
//! waits for another actor is looked at now and then, and what is the same at too many looks is given up: the
//! call fails with EIO, and a context whose work does not go on counts as dead.
//!
//! Looks are counted, not time, as by the watchdog: a daemon that was stopped as a whole has missed nothing.

use std::time::Duration;

use foldhash::HashMap;

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, Token};
use virgld_protocol::message::door::Command;
use virgld_protocol::message::resource::Request;
use virgld_runtime::Time;

use crate::create::Awaited;
use crate::state::{Effect, State, answer};

/// What waits for another actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    /// A call that the resource actor has.
    Parked(Token),
    /// A call that the display has.
    Shown(Token),
    /// Work that the context of a file has, or its end.
    Work(FileId),
    /// Work of a file that is closed.
    Orphans(FileId),
}

/// What was seen of a subject: how far it was, and at how many looks it was no farther.
#[derive(Debug, Clone, Copy)]
struct Seen {
    progress: u64,
    looks: u32,
}

/// The looks at what waits.
#[derive(Default)]
pub(crate) struct Vigil {
    next: Option<Time>,
    seen: HashMap<Subject, Seen>,
    /// How much was given up so far.
    pub(crate) silences: u64,
}

impl Vigil {
    /// There is somebody who may wait.
    pub(crate) fn begin(&mut self, now: Time, silence: Duration) {
        self.next.get_or_insert(now.after(silence / LOOKS));
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.next
    }
}

const SILENT: Refusal = Refusal::new(Errno::EIO, "an actor has not answered in time");
/// At so many looks one after the other it must have been the same.
const LOOKS: u32 = 4;

impl State {
    /// Looks at all that waits, if it is time, and gives up what has waited too long.
    pub(crate) fn keep_vigil(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.vigil.next.is_none_or(|next| next > now) {
            return;
        }
        let before = std::mem::take(&mut self.vigil.seen);
        let mut silent = Vec::new();
        let subjects: Vec<(Subject, u64)> = self.subjects().collect();
        let at_work = subjects.iter().filter(|(subject, _)| matches!(subject, Subject::Work(_))).count();
        for (subject, progress) in subjects {
            let same = before.get(&subject).filter(|seen| seen.progress == progress);
            let looks = same.map_or(0, |seen| seen.looks + 1);
            if looks >= self.patience(subject, at_work) {
                silent.push(subject);
            } else {
                self.vigil.seen.insert(subject, Seen { progress, looks });
            }
        }
        for subject in silent {
            self.vigil.silences += 1;
            self.give_up(subject, effects);
        }
        let waits = !(self.files.is_empty() && self.orphans.is_empty());
        self.vigil.next = waits.then(|| now.after(self.limits.silence / LOOKS));
    }

    /// At how many looks a subject may be the same. The device takes commands in order: work of a file may be behind two
    /// commands of each other file, and each of those may take as long as a command may.
    fn patience(&self, subject: Subject, at_work: usize) -> u32 {
        if !matches!(subject, Subject::Work(_) | Subject::Orphans(_)) {
            return LOOKS;
        }
        let look = (self.limits.silence / LOOKS).as_millis().max(1);
        let behind = self.limits.command.as_millis() * 2 * at_work.saturating_sub(1) as u128;
        LOOKS.saturating_add(u32::try_from(behind.div_ceil(look)).unwrap_or(u32::MAX))
    }

    fn subjects(&self) -> impl Iterator<Item = (Subject, u64)> {
        let parked = self.parked.keys().map(|token| (Subject::Parked(*token), 0));
        let shown = self.shown.keys().map(|token| (Subject::Shown(*token), 0));
        let at_work = self.files.iter().filter(|(_, file)| {
            file.context.is_open() && (file.closed || file.latest > file.reached.complete)
        });
        let work = at_work.map(|(id, file)| {
            let progress = file.reached.executed.0.wrapping_add(file.reached.complete.0);
            (Subject::Work(*id), progress.wrapping_add(u64::from(file.revivals)))
        });
        let mut orphans: HashMap<FileId, u64> = HashMap::default();
        for (file, _) in self.orphans.keys() {
            *orphans.entry(*file).or_default() += 1;
        }
        let orphans = orphans.into_iter().map(|(file, left)| (Subject::Orphans(file), left));
        parked.chain(shown).chain(work).chain(orphans)
    }

    fn give_up(&mut self, subject: Subject, effects: &mut Vec<Effect>) {
        match subject {
            Subject::Parked(token) => self.give_up_parked(token, effects),
            Subject::Shown(token) => self.display_answered(token, Err(SILENT), effects),
            Subject::Work(file) => {
                effects.push(Effect::EndContext(file));
                self.context_died(file, effects);
            }
            Subject::Orphans(file) => self.orphans_died(file, effects),
        }
    }

    fn give_up_parked(&mut self, token: Token, effects: &mut Vec<Effect>) {
        let Some(parked) = self.parked.remove(&token) else { return };
        match parked.awaited() {
            // Should it be there, it goes: nobody has its number.
            Awaited::Create(_) | Awaited::Dumb(_) => {
                effects.push(Effect::Resource(Request::Withdraw { token }));
            }
            // Where the bytes of its buffer are is in doubt.
            Awaited::Export(_, resource) | Awaited::Revocation(resource) => {
                effects.push(Effect::Door(Command::Expel { file: parked.file() }));
                for mapper in self.take_mappers(*resource) {
                    answer(mapper.caller(), Err(SILENT), effects);
                }
            }
            // What it waits for is given up as well, if that is silent.
            Awaited::Map(..) => {}
        }
        answer(parked.caller(), Err(SILENT), effects);
    }
}
