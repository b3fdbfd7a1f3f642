//! When to notify the device again, although it has been told of everything.
//!
//! QEMU's device looks whether fences have signalled when it is notified of the control queue, and else when a timer
//! of 10 ms fires. The specification lets a driver notify at any time. So while somebody waits for a command, the
//! device is notified again and again, less and less often; and only where that makes the wait shorter, which is
//! found out by trying: some waits are left alone, others are not, and their lengths are compared.

use std::time::Duration;

use virgld_runtime::Time;

/// The policy. It knows no device: it is told what happens, and says when to notify.
#[derive(Debug, Default)]
pub(crate) struct Urging {
    wait: Option<Wait>,
    waits: u64,
    /// How long waits last that are left alone.
    alone: Habit,
    /// How long the others last.
    urged: Habit,
}

/// Somebody waits.
#[derive(Debug)]
struct Wait {
    since: Time,
    /// When to notify, if this wait is not left alone.
    next: Option<Time>,
    /// Notifications so far.
    urges: u32,
}

/// A mean that forgets.
#[derive(Debug, Default)]
struct Habit {
    nanoseconds: u64,
    waits: u32,
}

impl Urging {
    /// A command that somebody waits for is under way. Does nothing if there was one already.
    pub(crate) fn begin(&mut self, now: Time) {
        if self.wait.is_none() {
            let next = self.urges_this_one().then(|| now.after(interval(0)));
            self.waits += 1;
            self.wait = Some(Wait { since: now, next, urges: 0 });
        }
    }

    /// Such a command has come back; `more` says whether there is another.
    pub(crate) fn end(&mut self, now: Time, more: bool) {
        if let Some(wait) = self.wait.take() {
            let habit = if wait.next.is_some() { &mut self.urged } else { &mut self.alone };
            habit.learn(now.since(wait.since));
        }
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
        if let Some(Wait { next: Some(next), urges, .. }) = &mut self.wait {
            *next = now.after(interval(*urges));
        }
    }

    /// When the device is to be notified.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.wait.as_ref()?.next
    }

    /// Whether that moment has come; the next one is then set.
    pub(crate) fn due(&mut self, now: Time) -> bool {
        let Some(Wait { next: Some(next), urges, .. }) = &mut self.wait else { return false };
        if *next > now {
            return false;
        }
        *urges += 1;
        *next = now.after(interval(*urges));
        true
    }

    /// Whether the next wait is not left alone: as it is shorter, but now and then the other way, since habits
    /// change; half of them while there is no telling which is shorter.
    fn urges_this_one(&self) -> bool {
        let (alone, urged) = (self.alone.nanoseconds, self.urged.nanoseconds);
        if self.alone.waits < TRIALS || self.urged.waits < TRIALS {
            self.one_in(2)
        } else if urged < alone / 4 * 3 {
            !self.one_in(ANOTHER_ALONE)
        } else if urged < alone / 10 * 9 {
            self.one_in(2)
        } else {
            self.one_in(ANOTHER_URGED)
        }
    }

    /// Whether this wait is one of `many`. Not every `many`th: a program whose waits are long and short by turns would
    /// have the long ones always treated in one way, and that way taken for what makes them long.
    fn one_in(&self, many: u64) -> bool {
        // The finaliser of SplitMix64.
        let mut bits = self.waits.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)).is_multiple_of(many)
    }
}

impl Habit {
    fn learn(&mut self, length: Duration) {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        // The first few count alike, later ones an eighth: waits differ in length for other reasons, too.
        self.waits = (self.waits + 1).min(TRIALS);
        let share = u64::from(self.waits);
        self.nanoseconds = self.nanoseconds / share * (share - 1) + length / share;
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
const TRIALS: u32 = 8;
/// A wait left alone may be long, one that is not costs a few notifications.
const ANOTHER_ALONE: u64 = 64;
const ANOTHER_URGED: u64 = 16;

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
        let (mut now, mut total, mut urges) = (1, 0, 0);
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
        // One wait in sixteen is still tried, with about ten notifications.
        assert!(urges < 1024 / 8 * 15, "{urges}");
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

    #[test]
    fn a_long_wait_costs_few_notifications() {
        let mut urging = Urging::default();
        while urging.deadline().is_none() {
            urging.end(Time(0), true);
            urging.begin(Time(0));
        }
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
        while urging.deadline().is_none() {
            urging.end(Time(0), true);
            urging.begin(Time(0));
        }
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
