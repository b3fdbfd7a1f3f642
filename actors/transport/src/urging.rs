//! When to notify the device again, although it has been told of everything.
//!
//! QEMU's device looks whether fences have signalled when it is notified of the control queue, and else when a timer
//! of 10 ms fires. The specification lets a driver notify at any time. So while somebody waits for a command, the
//! device is notified again and again, less and less often.
//!
//! That does not always help. A notification while the device is busy blocks until it is through, and the answer that comes at
//! that moment by itself is seen later; and the device looks once more at what it has done already, while somebody wants the
//! next thing of it. So it is found out by trying: some waits are left alone, others are not, and what is better is done
//! for a while. Then it is tried anew, as habits change. Better is what makes waits shorter and has the next one begin sooner,
//! as that is what counts for whoever waits; or what makes them much shorter, for the sake of programs that have a pace of
//! their own.

use std::time::Duration;

use virgld_runtime::Time;

/// The policy. It knows no device: it is told what happens, and says when to notify.
#[derive(Debug)]
pub(crate) struct Urging {
    wait: Option<Wait>,
    /// The wait before, until the next begins.
    ended: Option<Ended>,
    waits: u64,
    phase: Phase,
    /// For how many waits the next result is to hold.
    holds: u32,
}

/// Somebody waits.
#[derive(Debug)]
struct Wait {
    since: Time,
    /// Whether it is one of those that are not left alone.
    urged: bool,
    /// When to notify.
    next: Time,
    /// Notifications so far.
    urges: u32,
}

/// Nobody waits any more.
#[derive(Debug)]
struct Ended {
    wait: Wait,
    length: Duration,
}

#[derive(Debug)]
enum Phase {
    /// Waits of both kinds are compared.
    Trial { alone: Sample, urged: Sample },
    /// One kind was found to be better, and to last so long. It is done for as many waits as are left: urging at least until
    /// that moment, leaving alone at most, and only while few are late.
    Settled { urged: bool, usual: Duration, left: u32, late: u32, until: Time },
}

/// Waits of one kind.
#[derive(Debug, Default)]
struct Sample {
    length: Mean,
    /// From the beginning of one to that of the next, whoever's that is.
    period: Mean,
}

/// A mean of all but the longest: one wait that lasted for some other reason is not to decide everything.
#[derive(Debug, Default)]
struct Mean {
    sum: Duration,
    longest: Duration,
    count: u32,
}

impl Default for Urging {
    fn default() -> Self {
        Self { wait: None, ended: None, waits: 0, phase: Phase::trial(), holds: FIRST_HOLDS }
    }
}

impl Urging {
    /// A command that somebody waits for is under way. Does nothing if there was one already.
    pub(crate) fn begin(&mut self, now: Time) {
        if self.wait.is_some() {
            return;
        }
        if let Some(ended) = self.ended.take() {
            self.learn(now, &ended);
        }
        self.waits += 1;
        let urged = match &self.phase {
            Phase::Settled { urged, .. } => *urged,
            Phase::Trial { alone, urged } if !alone.is_enough() && !urged.is_enough() => self.lot(),
            Phase::Trial { urged, .. } => !urged.is_enough(),
        };
        let next = now.after(if urged { interval(0) } else { self.phase.patience() });
        self.wait = Some(Wait { since: now, urged, next, urges: 0 });
    }

    /// Such a command has come back; `more` says whether there is another.
    pub(crate) fn end(&mut self, now: Time, more: bool) {
        self.ended = self.wait.take().map(|wait| Ended { length: now.since(wait.since), wait });
        if more {
            self.begin(now);
        }
    }

    /// The device is gone, and with it what was learned.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The device is notified of something new: it looks at that moment, so it need not be urged soon.
    pub(crate) fn notified(&mut self, now: Time) {
        if let Some(Wait { urged: true, next, urges, .. }) = &mut self.wait {
            *next = now.after(interval(*urges));
        }
    }

    /// When the device is to be notified.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.wait.as_ref().map(|wait| wait.next)
    }

    /// Whether that moment has come; the next one is then set.
    pub(crate) fn due(&mut self, now: Time) -> bool {
        let Some(Wait { next, urges, .. }) = self.wait.as_mut().filter(|wait| wait.next <= now) else {
            return false;
        };
        *urges += 1;
        *next = now.after(interval(*urges));
        true
    }

    /// Learns from the wait before the one that begins now.
    fn learn(&mut self, now: Time, Ended { wait, length }: &Ended) {
        match &mut self.phase {
            Phase::Trial { alone, urged } => {
                let sample = if wait.urged { &mut *urged } else { &mut *alone };
                sample.length.add(*length);
                sample.period.add(now.since(wait.since));
                if alone.is_enough() && urged.is_enough() {
                    let better = urged.is_better_than(alone);
                    let usual = if better { urged } else { alone }.length.get();
                    let until = now.after(if better { URGED } else { ALONE });
                    self.phase = Phase::Settled { urged: better, usual, left: self.holds, late: 0, until };
                    self.holds = (self.holds * 2).min(LAST_HOLDS);
                }
            }
            Phase::Settled { urged, left, late, until, .. } => {
                *left = left.saturating_sub(1);
                *late += u32::from(!*urged && wait.urges > 0);
                let outdated = *late >= MANY_LATE;
                if outdated {
                    self.holds = FIRST_HOLDS;
                }
                let (many, long) = (*left == 0, *until <= now);
                if outdated || if *urged { many && long } else { many || long } {
                    self.phase = Phase::trial();
                }
            }
        }
    }

    /// Heads or tails. Not every second wait: a program whose waits are long and short by turns would have the long ones
    /// always treated in one way, and that way taken for what makes them long.
    fn lot(&self) -> bool {
        // The finaliser of SplitMix64.
        let mut bits = self.waits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) & 1 == 0
    }
}

impl Phase {
    fn trial() -> Self {
        Self::Trial { alone: Sample::default(), urged: Sample::default() }
    }

    /// How long a wait may last before the device is notified although it is left alone.
    fn patience(&self) -> Duration {
        let usual = match self {
            Self::Trial { urged, .. } => urged.length.get(),
            Self::Settled { usual, .. } => *usual,
        };
        (usual * 4).clamp(LONGEST, LATEST)
    }
}

impl Sample {
    fn is_enough(&self) -> bool {
        self.length.count >= TRIALS
    }

    /// Whether notifications, which cost something, are worth it.
    fn is_better_than(&self, alone: &Self) -> bool {
        let (length, usual) = (self.length.get(), alone.length.get());
        let sooner = self.period.get() < alone.period.get() / 20 * 19;
        length < usual / 10 * 9 && (sooner || usual - length > MUCH)
    }
}

impl Mean {
    fn add(&mut self, length: Duration) {
        self.sum += length;
        self.longest = self.longest.max(length);
        self.count += 1;
    }

    fn get(&self) -> Duration {
        (self.sum - self.longest) / self.count.saturating_sub(1).max(1)
    }
}

/// How long to wait after so many notifications: long waits are not worth many.
fn interval(urges: u32) -> Duration {
    (FIRST * (1 << (urges / AT_ONE_PACE).min(16))).min(LONGEST)
}

/// A fence that was not there when the device was through with the command often is a moment later.
const FIRST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(2);
const AT_ONE_PACE: u32 = 2;
/// So many waits of each kind tell which is better.
const TRIALS: u32 = 8;
/// By this a wait is much shorter, whatever comes after it.
const MUCH: Duration = Duration::from_millis(1);
/// For so many waits the first result holds, and for twice as many each one after it, up to the last.
const FIRST_HOLDS: u32 = 128;
const LAST_HOLDS: u32 = 512;
/// Waits are left alone for no longer: should they be others by then, each may be longer by all that the device's timer takes.
const ALONE: Duration = Duration::from_millis(250);
/// Waits are urged for so long at least: to leave some alone, to find out, may make each longer by as much.
const URGED: Duration = Duration::from_millis(500);
/// So many waits that lasted far longer than usual are too many.
const MANY_LATE: u32 = 4;
/// No wait is left alone for longer.
const LATEST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    /// A device that is done after `work`, but says so only when it is notified or at the next of its own looks.
    struct Device {
        work: u64,
        looks_every: Option<u64>,
    }

    /// Plays `waits` waits. Gives the mean length and the mean number of notifications of the last half.
    fn play(urging: &mut Urging, device: &Device, waits: u64) -> (u64, u64) {
        play_on(&mut 1, urging, device, waits)
    }

    /// The same at a time that goes on.
    fn play_on(clock: &mut u64, urging: &mut Urging, device: &Device, waits: u64) -> (u64, u64) {
        let (mut now, mut total, mut urges) = (*clock, 0, 0);
        for wait in 0..waits {
            let counts = wait >= waits / 2;
            let begin = now;
            urging.begin(Time(now));
            let done = begin + device.work;
            let says = device.looks_every.map_or(done, |every| begin + device.work.div_ceil(every) * every);
            while let Some(Time(next)) = urging.deadline().filter(|next| next.0 < says) {
                now = next;
                assert!(urging.due(Time(now)));
                urges += u64::from(counts);
                if now >= done {
                    break;
                }
            }
            now = if now >= done { now } else { says };
            urging.end(Time(now), false);
            total += if counts { now - begin } else { 0 };
            now += MILLISECOND;
        }
        *clock = now;
        (total / (waits - waits / 2), urges / (waits - waits / 2))
    }

    #[test]
    fn a_device_that_must_be_asked_is_asked() {
        let device = Device { work: MILLISECOND / 2, looks_every: Some(10 * MILLISECOND) };
        let (length, urges) = play(&mut Urging::default(), &device, 256);
        assert!(length < MILLISECOND, "{length}");
        assert!((1..=5).contains(&urges), "{urges}");
    }

    #[test]
    fn a_device_that_tells_is_left_alone() {
        let device = Device { work: MILLISECOND, looks_every: None };
        let mut urging = Urging::default();
        let (length, urges) = play(&mut urging, &device, 256);
        assert_eq!((length, urges), (MILLISECOND, 0));
    }

    #[test]
    fn waits_that_are_long_and_short_by_turns_are_no_reason_to_ask() {
        let mut urging = Urging::default();
        let mut urges = 0;
        for turn in 0..1024 {
            let device = Device { work: MILLISECOND * if turn % 2 == 0 { 1 } else { 4 }, looks_every: None };
            urges += play(&mut urging, &device, 1).1;
        }
        // Few waits are still tried, with about ten notifications.
        assert!(urges < 1024 / 8 * 15, "{urges}");
    }

    /// Plays waits of two lengths, each of which begins so long after the one before as is said. Gives whether the last were
    /// urged.
    fn play_periods(alone: (u64, u64), urged: (u64, u64)) -> bool {
        let (mut now, mut urging) = (1, Urging::default());
        for _ in 0..=3 * TRIALS {
            urging.begin(Time(now));
            let is_urged = urging.wait.as_ref().is_some_and(|wait| wait.urged);
            let (length, period) = if is_urged { urged } else { alone };
            urging.end(Time(now + length), false);
            now += period;
        }
        matches!(urging.phase, Phase::Settled { urged: true, .. })
    }

    #[test]
    fn what_a_wait_gains_is_not_to_be_lost_before_the_next() {
        let unit = MILLISECOND / 10;
        assert!(!play_periods((6 * unit, 20 * unit), (3 * unit, 20 * unit)));
        assert!(!play_periods((6 * unit, 20 * unit), (3 * unit, 22 * unit)));
        assert!(play_periods((6 * unit, 20 * unit), (3 * unit, 17 * unit)));
    }

    #[test]
    fn a_program_that_has_a_pace_of_its_own_need_not_wait_longer_for_that() {
        assert!(play_periods((10 * MILLISECOND, 17 * MILLISECOND), (3 * MILLISECOND, 17 * MILLISECOND)));
    }

    #[test]
    fn a_habit_that_changes_is_noticed() {
        let mut urging = Urging::default();
        let telling = Device { work: MILLISECOND, looks_every: None };
        let asked = Device { work: MILLISECOND, looks_every: Some(10 * MILLISECOND) };
        play(&mut urging, &telling, 128);
        let (length, _) = play(&mut urging, &asked, 1024);
        assert!(length < 2 * MILLISECOND, "{length}");
        let (_, urges) = play(&mut urging, &telling, 8192);
        assert_eq!(urges, 0);
    }

    /// Begins waits until one is not left alone.
    fn await_urged(urging: &mut Urging) {
        while !urging.wait.as_ref().is_some_and(|wait| wait.urged) {
            urging.end(Time(0), true);
            urging.begin(Time(0));
        }
    }

    #[test]
    fn that_long_waits_are_left_alone_is_soon_tried_anew() {
        let (mut clock, mut urging) = (1, Urging::default());
        play_on(&mut clock, &mut urging, &Device { work: 17 * MILLISECOND, looks_every: None }, 20);
        assert!(matches!(urging.phase, Phase::Settled { urged: false, .. }));
        let device = Device { work: MILLISECOND / 2, looks_every: Some(10 * MILLISECOND) };
        let (length, _) = play_on(&mut clock, &mut urging, &device, 120);
        assert!(length < MILLISECOND, "{length}");
    }

    #[test]
    fn short_waits_that_are_urged_are_seldom_left_alone_to_find_out() {
        let (mut clock, mut urging) = (1, Urging::default());
        let device = Device { work: MILLISECOND / 20, looks_every: Some(10 * MILLISECOND) };
        play_on(&mut clock, &mut urging, &device, 16);
        let mut alone = 0;
        for _ in 0..4 * FIRST_HOLDS {
            urging.begin(Time(clock));
            alone += u32::from(urging.wait.as_ref().is_some_and(|wait| !wait.urged));
            clock += MILLISECOND / 20;
            urging.end(Time(clock), false);
        }
        assert_eq!(alone, 0, "in 26 ms");
        clock += 500 * MILLISECOND;
        urging.begin(Time(clock));
        urging.end(Time(clock + 1), false);
        assert!(matches!(urging.phase, Phase::Trial { .. }), "habits change");
    }

    #[test]
    fn a_wait_that_is_left_alone_to_find_out_is_not_left_for_long() {
        let device = Device { work: MILLISECOND / 5, looks_every: Some(10 * MILLISECOND) };
        let mut urging = Urging::default();
        let longest = (0..1024).map(|_| play(&mut urging, &device, 1).0).max();
        assert!(longest <= Some(3 * MILLISECOND), "{longest:?}");
    }

    #[test]
    fn a_single_wait_that_lasts_decides_nothing() {
        for long in 0..2 * TRIALS {
            let mut urging = Urging::default();
            for wait in 0..64 {
                let work = if wait == long { 100 * MILLISECOND } else { MILLISECOND };
                play(&mut urging, &Device { work, looks_every: None }, 1);
            }
            assert!(matches!(urging.phase, Phase::Settled { urged: false, .. }), "{long}");
        }
    }

    #[test]
    fn long_waits_too_are_made_shorter_by_asking() {
        let device = Device { work: 11 * MILLISECOND, looks_every: Some(10 * MILLISECOND) };
        let (length, _) = play(&mut Urging::default(), &device, 256);
        assert!(length < 15 * MILLISECOND, "{length}");
    }

    #[test]
    fn a_long_wait_costs_few_notifications() {
        let mut urging = Urging::default();
        await_urged(&mut urging);
        let mut urges = 0;
        while let Some(next) = urging.deadline().filter(|next| next.0 < 1000 * MILLISECOND) {
            assert!(!urging.due(Time(next.0 - 1)));
            assert!(urging.due(next));
            urges += 1;
        }
        assert!((500..520).contains(&urges), "one every two milliseconds: {urges}");
    }

    #[test]
    fn a_device_that_is_told_of_something_new_is_not_urged_at_once() {
        let mut urging = Urging::default();
        urging.notified(Time(0));
        await_urged(&mut urging);
        let step = 50_000;
        assert_eq!(urging.deadline(), Some(Time(step)));
        urging.notified(Time(step / 2));
        assert!(!urging.due(Time(step)));
        assert!(urging.due(Time(step / 2 + step)));
    }

    #[test]
    fn nobody_waits_and_nobody_is_asked() {
        let mut urging = Urging::default();
        assert_eq!(urging.deadline(), None);
        urging.begin(Time(0));
        urging.begin(Time(5));
        urging.end(Time(10), true);
        urging.end(Time(20), false);
        assert_eq!(urging.deadline(), None);
        assert!(!urging.due(Time(u64::MAX)));
    }
}
