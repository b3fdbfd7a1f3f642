//! A context that outlives its device: made anew, on the next, from its journal.

use std::time::Duration;

use virgld_protocol::message::context::Submit;
use virgld_protocol::message::ctrlq::{ContextCommand, DebugName, STREAM_OFFSET};
use virgld_protocol::message::scheme::ContextNotice;
use virgld_runtime::Time;

use crate::journal::Journal;
use crate::state::{Effect, State};

/// A context that is the death of one device after another is not worth making anew.
const REVIVALS: usize = 3;
const PERIOD: Duration = Duration::from_secs(30);

/// The capability sets whose streams the journal understands: the device's default, and the two of virgl.
const VIRGL: std::ops::RangeInclusive<u32> = 0..=2;

/// What it takes to make a context anew.
#[derive(Debug)]
pub(crate) struct Survival {
    journal: Journal,
    /// With what the context was made.
    creation: Option<(DebugName, u32)>,
    /// When it was made anew, of late.
    revivals: Vec<Time>,
    /// The scheme knows that the journal is of no use.
    told: bool,
    words: Vec<u32>,
    bytes: Vec<u8>,
}

impl State {
    /// A context that is made anew when the device is lost, from a journal of at most so many bytes.
    pub fn journaled(bound: usize) -> Self {
        let survival = Survival {
            journal: Journal::new(bound),
            creation: None,
            revivals: Vec::new(),
            told: false,
            words: Vec::new(),
            bytes: Vec::new(),
        };
        let mut state = Self::default();
        state.survival = Some(survival);
        state
    }

    pub(crate) fn begin_journal(&mut self, name: DebugName, capset: u32, effects: &mut Vec<Effect>) {
        if let Some(survival) = &mut self.survival {
            survival.creation = Some((name, capset));
        }
        if !VIRGL.contains(&capset) {
            self.note(effects, |journal| journal.give_up("its streams are not virgl's"));
        }
    }

    /// Has the journal take something down, where there is one, and says so when that was too much for it.
    pub(crate) fn note(&mut self, effects: &mut Vec<Effect>, note: impl FnOnce(&mut Journal)) {
        let Some(survival) = &mut self.survival else { return };
        note(&mut survival.journal);
        if let Some(why) = survival.journal.broken().filter(|_| !survival.told) {
            survival.told = true;
            effects.push(Effect::Scheme(ContextNotice::Unjournaled { why }));
        }
    }

    pub(crate) fn note_stream(&mut self, submit: &Submit, effects: &mut Vec<Effect>) {
        let Some(survival) = self.survival.as_mut().filter(|it| it.journal.broken().is_none()) else {
            return;
        };
        let (mut bytes, mut words) =
            (std::mem::take(&mut survival.bytes), std::mem::take(&mut survival.words));
        bytes.resize(submit.length as usize, 0);
        // The scheme has seen to it that the stream is as long as it says.
        let read = submit.stream.as_ref().map(|stream| stream.read(STREAM_OFFSET, &mut bytes));
        words.clear();
        if matches!(read, Some(Ok(()))) {
            words.extend(bytes.chunks_exact(4).map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]])));
        }
        self.note(effects, |journal| journal.stream(&words));
        if let Some(survival) = &mut self.survival {
            (survival.bytes, survival.words) = (bytes, words);
        }
    }

    /// The device is lost. Has the next make this context anew, if that is possible: the control queue keeps what is sent
    /// now until there is one.
    pub(crate) fn revive(&mut self, now: Time, effects: &mut Vec<Effect>) -> bool {
        let Some(survival) = &mut self.survival else { return false };
        survival.revivals.retain(|time| now.since(*time) < PERIOD);
        if survival.revivals.len() >= REVIVALS {
            survival.journal.give_up("it was made anew too often in a short time");
        }
        let broken = survival.journal.broken();
        let Some((name, capset)) = survival.creation.filter(|_| broken.is_none()) else {
            self.note(effects, |_| {});
            return false;
        };
        survival.revivals.push(now);
        let control = |command| Effect::Control(command);
        effects.push(control(ContextCommand::Create { name, capset }));
        let attached = survival.journal.attached();
        effects.extend(attached.map(|resource| control(ContextCommand::Attach { resource })));
        let streams = survival.journal.replay().into_iter();
        effects.extend(streams.map(|stream| control(ContextCommand::Replay { stream })));
        effects.push(Effect::Scheme(ContextNotice::Revived));
        // No fence is going to tell of what the lost device executed.
        self.unfenced = None;
        self.settle(self.last, effects);
        true
    }
}
