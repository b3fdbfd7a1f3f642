//! When to start a device, and when to give up.

use std::time::Duration;

use virgld_protocol::message::keeper::Report;
use virgld_protocol::message::transport::DeviceEvent;
use virgld_runtime::{Intensity, Restarts, Time};

/// Something that the state wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Begin to start a device.
    Start,
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
    /// When it was lost, while it is.
    lost_at: Option<Time>,
    /// When the transport last said so.
    away_at: Time,
    /// When to try again.
    retry_at: Option<Time>,
    report: Report,
}

impl State {
    /// A device that is being started for the first time.
    pub fn new(intensity: Intensity) -> Self {
        let restarts = Restarts::new(intensity);
        Self { restarts, lost_at: None, away_at: Time(0), retry_at: None, report: Report::default() }
    }

    /// Takes what the transport tells.
    pub fn transport(&mut self, now: Time, event: DeviceEvent, effects: &mut Vec<Effect>) {
        match event {
            DeviceEvent::Up => {
                if let Some(lost_at) = self.lost_at.take() {
                    self.report.last_outage = Some(now.since(lost_at));
                }
            }
            DeviceEvent::Lost { reason } => {
                self.report.losses += 1;
                self.report.last_reason = Some(reason.clone());
                // A device that is lost before it was ready is still the same outage.
                if !self.is_known_away(now) {
                    self.lost_at = Some(now);
                }
                self.away_at = now;
                if self.may_restart(now, &reason, effects) {
                    effects.push(Effect::Start);
                }
            }
            // The loss itself was not heard of.
            DeviceEvent::Away { reason } if !self.is_known_away(now) => {
                self.transport(now, DeviceEvent::Lost { reason }, effects);
            }
            DeviceEvent::Away { .. } => {
                self.away_at = now;
                self.look(now, effects);
            }
        }
    }

    /// Whether a device was away until lately: if it was, and nobody has said so for long, one came unheard.
    fn is_known_away(&self, now: Time) -> bool {
        self.lost_at.is_some() && now.since(self.away_at) <= STALE
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

    /// A device could not be started.
    pub fn failed(&mut self, now: Time, reason: String, effects: &mut Vec<Effect>) {
        self.report.last_reason = Some(reason.clone());
        if self.may_restart(now, &reason, effects) {
            // Whatever was in the way may be gone in a moment.
            self.retry_at = Some(now.after(PAUSE));
        }
    }

    /// When it wants to be woken.
    pub fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// Tries again.
    pub fn wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            effects.push(Effect::Start);
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
/// A device of which nobody has said for so long that it is away is not: the transport says so every 5 s.
const STALE: Duration = Duration::from_secs(20);
/// Between two attempts to start a device.
const PAUSE: Duration = Duration::from_millis(200);
