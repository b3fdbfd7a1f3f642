//! Faults of a plan: what goes wrong with one command.

use std::time::Duration;

use virgld_faults::{DeviceRule, DeviceWrong};
use virgld_protocol::message::transport::{CONTROL_QUEUE, CURSOR_QUEUE};
use virgld_runtime::Time;
use virgld_runtime::fault::When;
use virgld_runtime::link::LinkEvent;

use super::FakeDevice;
use crate::Random;
use crate::link::locked;

/// The faults in force, and how far they are.
pub(super) struct Sabotage {
    rules: Vec<Progress>,
    random: Random,
}

struct Progress {
    rule: DeviceRule,
    seen: u64,
    struck: u64,
}

impl Default for Sabotage {
    fn default() -> Self {
        Self { rules: Vec::new(), random: Random::new(0) }
    }
}

impl Sabotage {
    fn new(seed: u64, rules: Vec<DeviceRule>) -> Self {
        let rules = rules.into_iter().map(|rule| Progress { rule, seen: 0, struck: 0 });
        Self { rules: rules.collect(), random: Random::new(seed) }
    }

    /// Counts a command. Says what goes wrong with it.
    pub(super) fn strike(&mut self) -> Option<DeviceWrong> {
        let mut found = None;
        for Progress { rule, seen, struck } in &mut self.rules {
            *seen += 1;
            let due = match rule.when {
                Some(When::Nth(number)) => *seen == number,
                Some(When::Every(number)) => seen.is_multiple_of(number),
                Some(When::Chance(millionths)) => self.random.number() % 1_000_000 < u64::from(millionths),
                None => false,
            };
            if due && *struck < rule.times && found.is_none() {
                *struck += 1;
                found = Some(rule.wrong);
            }
        }
        found
    }

    /// How often anything struck.
    pub(super) fn struck(&self) -> u64 {
        self.rules.iter().map(|progress| progress.struck).sum()
    }
}

impl FakeDevice {
    /// Puts the faults of a plan in force, in place of those that are. Faults that go by time are not for it: it has
    /// commands to go by.
    pub fn inject(&mut self, seed: u64, rules: Vec<DeviceRule>) {
        self.sabotage = Sabotage::new(seed, rules);
    }

    /// How often faults of the plan struck.
    pub fn struck(&self) -> u64 {
        self.sabotage.struck()
    }

    /// Tells it what time it is: late answers go by that.
    pub(crate) fn tell_time(&mut self, now: Time) {
        self.now = now;
    }

    pub(super) fn late_by(&self, wrong: Option<DeviceWrong>) -> Time {
        let by = if let Some(DeviceWrong::LateResponse(by)) = wrong { by } else { Duration::ZERO };
        self.now.after(by)
    }

    /// What goes wrong before a command is executed. Says whether it is executed at all.
    pub(super) fn suffer(&mut self, wrong: Option<DeviceWrong>) -> bool {
        match wrong {
            Some(DeviceWrong::Stall) => self.stalled = true,
            Some(DeviceWrong::Death) => self.die(),
            Some(DeviceWrong::LostInterrupt) => self.mute += 1,
            Some(DeviceWrong::SpuriousInterrupt) => {
                for queue in [CONTROL_QUEUE, CURSOR_QUEUE] {
                    locked(&self.wire).tell(LinkEvent::Interrupt { queue });
                }
            }
            Some(DeviceWrong::WrongId) => self.forge(u32::MAX),
            _ => {}
        }
        !self.stalled && !self.dead
    }

    /// A used element that nothing of the driver's belongs to.
    pub(super) fn forge(&mut self, id: u32) {
        // A queue whose memory is gone is one that nobody looks at.
        let _ = self.queues[usize::from(CONTROL_QUEUE)].ring.forge_used(id, 0);
        locked(&self.wire).tell(LinkEvent::Interrupt { queue: CONTROL_QUEUE });
    }
}
