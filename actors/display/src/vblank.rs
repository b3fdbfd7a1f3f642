//! The pace of an output: refreshes come at the rate of its mode, on a clock that runs whether anybody looks or
//! not. Nothing is done at a refresh that nobody waits for.

use std::time::Duration;

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, Token};
use virgld_protocol::message::display::{Answer, Event, Moment, Notice};
use virgld_runtime::Time;

use crate::mode;
use crate::object::Object;
use crate::output::Output;
use crate::state::{Caller, Effect, Outcome, State};

/// When refreshes happen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    origin: Time,
    /// Nanoseconds; 0 while the output is off.
    period: u64,
    /// Refreshes before `origin`.
    before: u64,
}

/// Somebody who waits for a refresh.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) file: FileId,
    pub(crate) output: usize,
    sequence: u64,
    what: What,
    /// When a call that waits is given up.
    until: Option<Time>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Answer(Token),
    Vblank(u64),
    Sequence(u64),
}

/// `DRM_VBLANK_RELATIVE`, `_HIGH_CRTC_MASK`, `_EVENT`, `_NEXTONMISS`, `_SECONDARY`, `_SIGNAL`, `_FLIP`.
const RELATIVE: u32 = 1;
const HIGH_CRTC: u32 = 0x3e;
const EVENT: u32 = 0x0400_0000;
const NEXT_ON_MISS: u32 = 0x1000_0000;
const SECONDARY: u32 = 0x2000_0000;
const UNDERSTOOD: u32 = RELATIVE | HIGH_CRTC | EVENT | NEXT_ON_MISS | SECONDARY;

/// Events that a file may have coming; Linux has room for 4096 bytes of them.
const MOST_WAITING: usize = 128;
/// How long a call waits for its refresh (`drm_wait_vblank_ioctl`).
const LONGEST_CALL: Duration = Duration::from_secs(3);

impl Clock {
    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.period > 0
    }

    pub(crate) fn period(&self) -> u64 {
        self.period
    }

    /// How many refreshes there have been.
    pub(crate) fn sequence(&self, now: Time) -> u64 {
        let since = now.0.saturating_sub(self.origin.0);
        self.before + since.checked_div(self.period).unwrap_or(0)
    }

    /// When a refresh is, or was.
    pub(crate) fn time(&self, sequence: u64) -> Time {
        let steps = sequence.saturating_sub(self.before);
        Time(self.origin.0.saturating_add(steps.saturating_mul(self.period)))
    }

    /// The refresh for what is ready now: the next one, or the last where none comes or none is to be waited for.
    pub(crate) fn refresh_for(&self, now: Time, at_once: bool) -> u64 {
        self.sequence(now) + u64::from(self.runs() && !at_once)
    }

    /// Goes on at another pace, or stops; the count goes on.
    pub(crate) fn pace(&mut self, now: Time, period: u64) {
        if period != self.period {
            *self = Self { before: self.sequence(now), origin: now, period };
        }
    }
}

impl Waiter {
    /// Whether its refresh has come.
    fn is_met(&self, clock: Clock, now: Time) -> bool {
        self.sequence <= clock.sequence(now)
    }
}

impl Output {
    /// Has refreshes come at the rate of the mode that is set.
    pub(crate) fn keep_pace(&mut self, now: Time) {
        let nanoseconds = |mode| u64::try_from(mode::period(mode).as_nanos()).unwrap_or(u64::MAX);
        let period = self.config.lit().map_or(0, nanoseconds);
        self.clock.pace(now, period);
    }
}

impl State {
    pub(crate) fn wait_vblank(
        &mut self,
        caller: Caller,
        kind: u32,
        sequence: u32,
        user_data: u64,
    ) -> Result<Outcome, Refusal> {
        const FLAGS: Refusal = Refusal::new(Errno::EINVAL, "unknown flags");
        if kind & !UNDERSTOOD != 0 {
            return Err(FLAGS);
        }
        let pipe = match kind & HIGH_CRTC {
            0 => u32::from(kind & SECONDARY != 0),
            high => high >> 1,
        };
        let index = usize::try_from(pipe).ok().filter(|index| *index < self.outputs.len());
        let index = index.ok_or(Refusal::new(Errno::EINVAL, "no such CRTC"))?;
        let current = self.running(caller.now, index)?;
        // Clients count in 32 bits: the one meant is the nearest.
        let target =
            if kind & RELATIVE != 0 { current + u64::from(sequence) } else { nearest(current, sequence) };
        let missed = target <= current && kind & RELATIVE == 0 && kind & NEXT_ON_MISS != 0;
        let target = if missed { current + 1 } else { target };
        let what = if kind & EVENT == 0 { What::Answer(caller.token) } else { What::Vblank(user_data) };
        self.wait(caller, index, target, what)
    }

    pub(crate) fn sequence(&mut self, now: Time, crtc: u32) -> Result<Outcome, Refusal> {
        let index = self.crtc(crtc)?;
        let output = &self.outputs[index];
        let sequence = output.clock.sequence(now);
        let (time, active) = (output.clock.time(sequence).0, output.clock.runs());
        Ok(Outcome::Answer(Answer::Vblank { sequence, time, active }))
    }

    pub(crate) fn queue_sequence(
        &mut self,
        caller: Caller,
        crtc: u32,
        flags: u32,
        sequence: u64,
        user_data: u64,
    ) -> Result<Outcome, Refusal> {
        const RELATIVE: u32 = 1;
        const NEXT_ON_MISS: u32 = 2;
        if flags & !(RELATIVE | NEXT_ON_MISS) != 0 {
            return Err(Refusal::new(Errno::EINVAL, "unknown flags"));
        }
        let index = self.crtc(crtc)?;
        let current = self.running(caller.now, index)?;
        let relative = if flags & RELATIVE != 0 { current } else { 0 };
        let target = sequence.checked_add(relative).ok_or(Refusal::new(Errno::EINVAL, "too far ahead"))?;
        let missed = target <= current && flags & NEXT_ON_MISS != 0;
        let target = if missed { current + 1 } else { target };
        self.wait(caller, index, target, What::Sequence(user_data))?;
        let time = self.outputs[index].clock.time(target).0;
        Ok(Outcome::Answer(Answer::Vblank { sequence: target, time, active: true }))
    }

    fn running(&self, now: Time, index: usize) -> Result<u64, Refusal> {
        const OFF: Refusal = Refusal::new(Errno::EINVAL, "the CRTC is off");
        let clock = self.outputs[index].clock;
        if clock.runs() { Ok(clock.sequence(now)) } else { Err(OFF) }
    }

    fn wait(&mut self, caller: Caller, output: usize, sequence: u64, what: What) -> Result<Outcome, Refusal> {
        const MANY: Refusal = Refusal::new(Errno::ENOMEM, "too many events of this file are to come");
        if self.waiters.iter().filter(|waiter| waiter.file == caller.file).count() >= MOST_WAITING {
            return Err(MANY);
        }
        let answer = match what {
            What::Answer(_) => Outcome::Later,
            _ => {
                let time = self.outputs[output].clock.time(sequence).0;
                Outcome::Answer(Answer::Vblank { sequence, time, active: true })
            }
        };
        let until = matches!(what, What::Answer(_)).then(|| caller.now.after(LONGEST_CALL));
        self.waiters.push(Waiter { file: caller.file, output, sequence, what, until });
        Ok(answer)
    }

    /// When the next refresh is that somebody waits for.
    pub(crate) fn next_wait(&self) -> Option<Time> {
        let next = |waiter: &Waiter| {
            let refresh = self.outputs[waiter.output].clock.time(waiter.sequence);
            waiter.until.map_or(refresh, |until| until.min(refresh))
        };
        self.waiters.iter().map(next).min()
    }

    /// Tells those whose refresh has come, or comes too late. Of an output that went off, nobody waits for ever.
    pub(crate) fn tell_waiters(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let outputs = &self.outputs;
        let due = |waiter: &mut Waiter| {
            let clock = outputs[waiter.output].clock;
            !clock.runs() || waiter.is_met(clock, now) || waiter.until.is_some_and(|until| until <= now)
        };
        for waiter in self.waiters.extract_if(.., due) {
            let clock = outputs[waiter.output].clock;
            let sequence = clock.sequence(now);
            let moment = |user_data| Moment {
                user_data,
                crtc: Object::Crtc(waiter.output).number(),
                sequence,
                time: clock.time(sequence).0,
            };
            effects.push(Effect::Scheme(match waiter.what {
                What::Answer(token) if clock.runs() && !waiter.is_met(clock, now) => {
                    const LATE: Refusal = Refusal::new(Errno::EBUSY, "the refresh is too far ahead");
                    Notice::Answered { token, result: Err(LATE) }
                }
                What::Answer(token) => Notice::Answered {
                    token,
                    result: Ok(Answer::Vblank { sequence, time: clock.time(sequence).0, active: true }),
                },
                What::Vblank(data) => Notice::Event { file: waiter.file, event: Event::Vblank(moment(data)) },
                What::Sequence(data) => {
                    Notice::Event { file: waiter.file, event: Event::Sequence(moment(data)) }
                }
            }));
        }
    }
}

/// The count nearest to `current` whose low half is `sequence`.
fn nearest(current: u64, sequence: u32) -> u64 {
    let low = u32::try_from(current & u64::from(u32::MAX)).unwrap_or(0);
    let ahead = sequence.wrapping_sub(low);
    if ahead <= u32::MAX / 2 {
        current.saturating_add(u64::from(ahead))
    } else {
        current.saturating_sub(u64::from(ahead.wrapping_neg()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshes_are_counted_across_changes_of_pace() {
        let mut clock = Clock::default();
        assert!(!clock.runs());
        clock.pace(Time(1000), 10);
        assert_eq!((clock.sequence(Time(1000)), clock.sequence(Time(1059))), (0, 5));
        assert_eq!(clock.time(6), Time(1060));
        clock.pace(Time(1055), 20);
        assert_eq!((clock.sequence(Time(1055)), clock.time(6)), (5, Time(1075)));
        clock.pace(Time(1100), 0);
        assert_eq!(clock.sequence(Time(9000)), 7);
    }

    #[test]
    fn a_count_of_32_bits_means_the_nearest() {
        let current = (7 << 32) + 5;
        assert_eq!(nearest(current, 9), current + 4);
        assert_eq!(nearest(current, 2), current - 3);
        assert_eq!(nearest(current, u32::MAX), current - 6);
    }
}
