//! A context that outlives its device: made anew, on the next, from its journal.

use std::time::Duration;

use virgld_protocol::errno::Errno;
use virgld_protocol::message::ctrlq::{Blame, ContextCommand, DebugName};
use virgld_protocol::message::scheme::ContextNotice;
use virgld_runtime::Time;

use crate::budget::Budget;
use crate::journal::{Journal, Replay};
use crate::state::{Effect, State};

/// A context that is the death of one device after another is not worth making anew: it may be to blame this often in a
/// while. One that was not is made anew however often.
const REVIVALS: usize = 3;
const PERIOD: Duration = Duration::from_secs(30);

/// Streams of a replay that the control queue has at once: enough that the device does not wait for the next, and no more,
/// because many contexts are made anew at the same time.
const AT_ONCE: usize = 4;

/// The capability sets whose streams the journal understands: the device's default, and the two of virgl.
const VIRGL: std::ops::RangeInclusive<u32> = 0..=2;

/// What it takes to make a context anew.
#[derive(Debug)]
pub(crate) struct Survival {
    journal: Journal,
    /// With what the context was made.
    creation: Option<(DebugName, u32)>,
    /// When it was to blame for the loss of a device, of late.
    blamed: Vec<Time>,
    /// What the device has yet to be told, while the context is made anew.
    replay: Option<Replay>,
    /// Streams of it that the device has.
    under_way: usize,
    /// The scheme knows that the journal is of no use.
    told: bool,
}

impl State {
    /// A context that is made anew when the device is lost, from a journal that holds memory of `budget`.
    pub fn journaled(budget: Budget) -> Self {
        let survival = Survival {
            journal: Journal::new(budget),
            creation: None,
            blamed: Vec::new(),
            replay: None,
            under_way: 0,
            told: false,
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

    /// Whether there is a journal that is of use.
    pub(crate) fn is_journaled(&self) -> bool {
        self.survival.as_ref().is_some_and(|survival| survival.journal.broken().is_none())
    }

    /// Whether the context is being made anew.
    pub(crate) fn is_replaying(&self) -> bool {
        self.survival.as_ref().is_some_and(|survival| survival.replay.is_some())
    }

    pub(crate) fn end_replay(&mut self) {
        if let Some(survival) = &mut self.survival {
            survival.replay = None;
        }
    }

    /// The device is lost. Has the next make this context anew, if that is possible: the control queue keeps what is sent
    /// now until there is one.
    pub(crate) fn revive(&mut self, now: Time, blame: Blame, effects: &mut Vec<Effect>) -> bool {
        let Some(survival) = &mut self.survival else { return false };
        survival.judge(now, blame);
        let broken = survival.journal.broken();
        let Some((name, capset)) = survival.creation.filter(|_| broken.is_none()) else {
            self.note(effects, |_| {});
            return false;
        };
        effects.push(Effect::Control(ContextCommand::Create { name, capset }));
        let attached = survival.journal.attached();
        effects.extend(attached.map(|resource| Effect::Control(ContextCommand::Attach { resource })));
        survival.replay = Some(survival.journal.replay());
        survival.under_way = 0;
        survival.say_more(effects);
        effects.push(Effect::Scheme(ContextNotice::Revived));
        // No fence is going to tell of what the lost device executed.
        self.unfenced = None;
        self.settle(self.last, effects);
        true
    }

    /// The device has been through a stream of the replay.
    pub(crate) fn replayed(&mut self, now: Time, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        let Some(survival) = self.survival.as_mut().filter(|survival| survival.replay.is_some()) else {
            return;
        };
        if result.is_err() {
            self.note(effects, |journal| journal.give_up("the device refused to make it anew"));
            return self.lose(now, effects);
        }
        survival.under_way = survival.under_way.saturating_sub(1);
        survival.say_more(effects);
        if survival.under_way == 0 {
            survival.replay = None;
            self.proceed(now, effects);
        }
    }
}

impl Survival {
    /// Gives up what is the death of one device after another. A replay holds nothing that has to kill a device: one that
    /// does is given up at once, or it would kill the next.
    fn judge(&mut self, now: Time, blame: Blame) {
        let replaying = self.replay.take().is_some();
        if blame == Blame::Sole && replaying {
            return self.journal.give_up("a device died of making it anew");
        }
        if blame == Blame::Sole || (blame == Blame::Shared && replaying) {
            self.blamed.retain(|time| now.since(*time) < PERIOD);
            self.blamed.push(now);
        }
        if self.blamed.len() > REVIVALS {
            self.journal.give_up("devices died of it too often in a short time");
        }
    }

    /// Keeps the device busy with the replay.
    fn say_more(&mut self, effects: &mut Vec<Effect>) {
        let Some(replay) = &mut self.replay else { return };
        while self.under_way < AT_ONCE
            && let Some(stream) = replay.next(&self.journal)
        {
            self.under_way += 1;
            effects.push(Effect::Control(ContextCommand::Replay { stream }));
        }
    }
}
