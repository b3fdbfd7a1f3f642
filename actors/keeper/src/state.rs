//! When to start a device, and when to give up.

use std::time::Duration;

use virgld_protocol::message::keeper::{Attempt, Report};
use virgld_protocol::message::transport::{DeviceEvent, DeviceNews, Generation};
use virgld_runtime::{Intensity, Restarts, Time};

/// Something that the state wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Begin to start a device.
    Start {
        /// Which attempt this is.
        attempt: Attempt,
    },
    /// There is no point in going on.
    GiveUp {
        /// What happened.
        reason: String,
    },
}

/// The device, as its supervisor sees it.
#[derive(Debug)]
pub struct State {
    restarts: Restarts,
    /// The last device that was heard of. The first is being started from the beginning.
    generation: Generation,
    /// Whether that is known to be lost.
    is_lost: bool,
    /// Since when no device is ready, while none is.
    lost_at: Option<Time>,
    /// The last attempt to start one.
    attempt: Attempt,
    /// When to try again.
    retry_at: Option<Time>,
    report: Report,
}

impl State {
    /// A device that is being started for the first time.
    pub fn new(intensity: Intensity) -> Self {
        Self {
            restarts: Restarts::new(intensity),
            generation: Generation::default(),
            is_lost: false,
            lost_at: None,
            attempt: Attempt::default(),
            retry_at: None,
            report: Report::default(),
        }
    }

    /// Takes what the transport tells. It may come late, twice, or not at all.
    pub fn transport(&mut self, now: Time, event: DeviceEvent, effects: &mut Vec<Effect>) {
        let DeviceEvent { generation, news } = event;
        let is_known_lost = generation == self.generation && self.is_lost;
        if generation < self.generation {
            return;
        }
        match news {
            DeviceNews::Up if !is_known_lost => {
                (self.generation, self.retry_at) = (generation, None);
                if let Some(lost_at) = self.lost_at.take() {
                    self.report.last_outage = Some(now.since(lost_at));
                }
                self.is_lost = false;
            }
            DeviceNews::Lost { reason, was_up } | DeviceNews::Away { reason, was_up } if !is_known_lost => {
                self.lost(now, reason, was_up, effects);
                // Last: a step that breaks off before is made once more.
                (self.generation, self.is_lost) = (generation, true);
            }
            DeviceNews::Up | DeviceNews::Lost { .. } => {}
            DeviceNews::Away { .. } => self.look(now, effects),
        }
    }

    /// A device is lost of which that was not known.
    fn lost(&mut self, now: Time, reason: String, was_up: bool, effects: &mut Vec<Effect>) {
        self.report.losses += 1;
        // A device that is lost before it was ready is still the same outage.
        if was_up || self.lost_at.is_none() {
            self.lost_at = Some(now);
        }
        self.retry_at = None;
        if self.may_restart(now, &reason, effects) {
            self.start(effects);
        }
        self.report.last_reason = Some(reason);
    }

    fn start(&mut self, effects: &mut Vec<Effect>) {
        self.attempt.0 += 1;
        effects.push(Effect::Start { attempt: self.attempt });
    }

    /// Gives up on a device that has been away for too long, whatever has become of those who start another.
    fn look(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(outage) = self.lost_at.map(|lost_at| now.since(lost_at)).filter(|it| *it >= PATIENCE) else {
            return;
        };
        let last = self.report.last_reason.as_deref().unwrap_or("none was given");
        let reason = format!("no device could be had for {} s; the last reason: {last}", outage.as_secs());
        effects.push(Effect::GiveUp { reason });
    }

    /// A device could not be started. What is told of another attempt than the one under way is old news.
    pub fn failed(&mut self, now: Time, attempt: Attempt, reason: String, effects: &mut Vec<Effect>) {
        if attempt != self.attempt || self.retry_at.is_some() || !self.is_lost {
            return;
        }
        if self.may_restart(now, &reason, effects) {
            // Whatever was in the way may be gone in a moment.
            self.retry_at = Some(now.after(PAUSE));
        }
        self.report.last_reason = Some(reason);
    }

    /// When it wants to be woken.
    pub fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// Tries again.
    pub fn wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.start(effects);
        }
    }

    /// The keeper's account.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    fn may_restart(&mut self, now: Time, reason: &str, effects: &mut Vec<Effect>) -> bool {
        let may = self.restarts.admit(now);
        if !may {
            let Intensity { restarts, period } = self.restarts.intensity();
            let reason = format!(
                "more than {restarts} devices were lost or could not be started within {period:?}; the last: {reason}"
            );
            effects.push(Effect::GiveUp { reason });
        }
        may
    }
}

/// For how long there may be no device: clients wait meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts to start a device.
const PAUSE: Duration = Duration::from_millis(200);
