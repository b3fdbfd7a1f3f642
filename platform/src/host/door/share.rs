//! Who has how much of the device's time: whoever has had more than others waits for them.
//!
//! The device goes through commands one by one, so the time from one sign of its progress to the next is spent on the file
//! whose work went on. A file that keeps the device busy may be [`SLICE`] ahead of the one that has had least; one that is
//! further ahead is held until the others have caught up. Brief work never waits, and whoever does it is at most half as far
//! ahead. A program that waits for each frame has nothing under way between two: for so long as it usually takes
//! ([`THINK`]) it is waited for, and that time is its own, too. Who does not come loses what it could have had.

use std::time::Duration;

use foldhash::HashMap;
use virgld_protocol::ids::FileId;
use virgld_runtime::Time;

/// What each file has had.
#[derive(Default)]
pub(super) struct Shares {
    files: HashMap<FileId, Share>,
    /// When the device last did something, or began to.
    since: Time,
    /// Files with work under way.
    busy: usize,
}

/// What one file has had.
#[derive(Default)]
struct Share {
    had: Duration,
    /// Of that, since it last had nothing under way.
    spell: Duration,
    /// When that began.
    began: Time,
    under_way: bool,
    /// When its work last began or went on.
    seen: Option<Time>,
    /// Others' work that came later went on first: something else than the device keeps it, and it is not waited for.
    stuck: bool,
}

impl Share {
    /// Until when the device is kept for it; always, while it has work there.
    fn awaited(&self, since: Time, now: Time) -> Option<Time> {
        let seen = self.seen.filter(|_| !self.stuck)?;
        let end = if self.under_way { seen.max(since).after(PATIENCE) } else { seen.after(THINK) };
        (self.under_way || now < end).then_some(end)
    }
}

impl Shares {
    /// A file has asked for work.
    pub(super) fn launched(&mut self, file: FileId, now: Time) {
        if self.files.get(&file).is_some_and(|share| share.under_way) {
            return;
        }
        let since = self.since;
        let least = self.least_of_others(file, now);
        let share = self.files.entry(file).or_default();
        if share.awaited(since, now).is_none() {
            share.had = share.had.max(least.unwrap_or_default().saturating_sub(SLICE));
        }
        if self.busy == 0 {
            let pause = now.since(since);
            share.had += if pause < THINK { pause } else { Duration::ZERO };
            self.since = now;
        }
        (share.spell, share.began) = (Duration::ZERO, now);
        (share.under_way, share.stuck) = (true, false);
        share.seen = Some(now);
        self.busy += 1;
    }

    /// The work of a file has gone on. `idle`: that was the last of it.
    pub(super) fn reached(&mut self, file: FileId, now: Time, idle: bool) {
        let Some(share) = self.files.get_mut(&file).filter(|share| share.under_way) else { return };
        let spent = now.since(self.since);
        share.had += spent;
        share.spell += spent;
        share.seen = Some(now);
        share.stuck = false;
        share.under_way = !idle;
        self.busy -= usize::from(idle);
        self.since = now;
        let began = share.began;
        if idle && share.spell < BRIEF {
            self.forgive(file, now);
        }
        let had = self.files.get(&file).map_or(Duration::ZERO, |share| share.had);
        let overtaken = |share: &&mut Share| share.under_way && share.seen.is_some_and(|seen| seen < began);
        for share in self.files.values_mut().filter(overtaken) {
            share.stuck = true;
            share.had = share.had.max(had.saturating_sub(SLICE));
        }
    }

    /// Brief work waits for nobody, so one who does it may come to be far ahead of others; it is not held for that once a
    /// piece of its work takes longer.
    fn forgive(&mut self, file: FileId, now: Time) {
        if let (Some(least), Some(share)) = (self.least_of_others(file, now), self.files.get_mut(&file)) {
            share.had = share.had.min(least + SLICE / 2);
        }
    }

    /// What that one of the others has had which has had least, of those that are waited for.
    fn least_of_others(&self, file: FileId, now: Time) -> Option<Duration> {
        let others = self.files.iter().filter(|(id, _)| **id != file).map(|(_, share)| share);
        others.filter(|share| share.awaited(self.since, now).is_some()).map(|share| share.had).min()
    }

    /// A file is gone.
    pub(super) fn forget(&mut self, file: FileId) {
        self.busy -= usize::from(self.files.remove(&file).is_some_and(|share| share.under_way));
    }

    /// Until when a file must let others go first; to be asked again when work of anybody's goes on.
    pub(super) fn held(&self, file: FileId, now: Time) -> Option<Time> {
        let share = self.files.get(&file).filter(|share| share.spell >= BRIEF)?;
        let had = share.had.checked_sub(SLICE)?;
        let behind = self.files.values().filter(|other| other.had < had);
        let end = behind.filter_map(|other| other.awaited(self.since, now)).max()?;
        // While it has work under way itself, the device is not without.
        if share.under_way { Some(end.max(now.after(THINK))) } else { Some(end).filter(|end| now < *end) }
    }
}

/// How far ahead of others a file may be: longer than 64 KiB of commands usually take, so that two that flood the device
/// alternate without a pause.
const SLICE: Duration = Duration::from_millis(5);
/// Work that keeps the device no longer is in nobody's way.
const BRIEF: Duration = Duration::from_micros(250);
/// How long a program that waits for its frames is waited for between two.
const THINK: Duration = Duration::from_millis(1);
/// How long a device with nothing else to do is left to work that does not go on, before it counts as kept by something else.
const PATIENCE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    /// A program that submits `cost` at a time and has `depth` of these under way, or waits for each and thinks.
    #[derive(Debug, Clone, Copy)]
    struct Program {
        cost: u64,
        depth: usize,
        think: u64,
    }

    const FLOOD: Program = Program { cost: 4 * MS, depth: 2, think: 0 };
    const FRAMES: Program = Program { cost: MS / 10, depth: 1, think: MS / 10 };

    /// Runs programs for a second on a device that does one thing after another: what each had of it, in ns.
    fn run(programs: &[Program]) -> Vec<u64> {
        let mut shares = Shares::default();
        let (mut now, mut queue, mut done) = (0, VecDeque::new(), None);
        let mut had = vec![0; programs.len()];
        let mut ready = vec![0; programs.len()];
        let mut under_way = vec![0; programs.len()];
        while now < 1000 * MS {
            let mut next = u64::MAX;
            for (index, program) in programs.iter().enumerate() {
                let file = FileId(index as u64);
                while under_way[index] < program.depth {
                    let again = shares.held(file, Time(now)).map_or(0, |time| time.0).max(ready[index]);
                    if again > now {
                        next = next.min(again);
                        break;
                    }
                    shares.launched(file, Time(now));
                    queue.push_back(index);
                    under_way[index] += 1;
                }
            }
            if done.is_none() {
                done = queue.front().map(|index| now + programs[*index].cost);
            }
            now = next.min(done.unwrap_or(u64::MAX));
            if done == Some(now) {
                done = None;
                let index = queue.pop_front().unwrap();
                had[index] += programs[index].cost;
                under_way[index] -= 1;
                ready[index] = now + programs[index].think;
                shares.reached(FileId(index as u64), Time(now), under_way[index] == 0);
            }
        }
        had
    }

    #[test]
    fn small_frames_beside_a_flood_have_as_much_as_half_of_the_device_would_give_them() {
        let alone = run(&[FRAMES])[0];
        for flood in
            [FLOOD, Program { cost: 20 * MS, depth: 1, think: 0 }, Program { cost: MS, depth: 8, ..FLOOD }]
        {
            let beside = run(&[FRAMES, flood]);
            assert!(beside[0] * 2 > alone * 8 / 10, "{beside:?}, {alone} alone");
            assert!(beside[1] > 400 * MS, "the flood has its half: {beside:?}");
        }
    }

    #[test]
    fn programs_that_think_for_long_cost_a_flood_nothing() {
        let desktop = Program { cost: MS, depth: 1, think: 15 * MS };
        let beside = run(&[desktop, FLOOD]);
        assert!(beside[1] > 900 * MS, "{beside:?}");
    }

    #[test]
    fn who_holds_work_back_is_waited_for_once() {
        let (mut shares, flood, stuck) = (Shares::default(), FileId(1), FileId(2));
        shares.launched(flood, Time(0));
        shares.launched(stuck, Time(1));
        let (mut held, mut now) = (0, 8 * MS);
        shares.reached(flood, Time(now), true);
        for _ in 0..100 {
            while shares.held(flood, Time(now)).is_some() {
                now += MS / 10;
                held += 1;
            }
            shares.launched(flood, Time(now));
            now += 4 * MS;
            shares.reached(flood, Time(now), true);
        }
        assert!((1..=50).contains(&held), "{held}");
        // Once it goes on, it has no more to catch up with than anybody who comes.
        shares.reached(stuck, Time(now), true);
        assert!(shares.files[&flood].had.saturating_sub(shares.files[&stuck].had) <= SLICE + 8 * SLICE / 10);
    }

    #[test]
    fn brief_work_is_not_held_against_its_file_when_some_takes_longer() {
        let (mut shares, first, second) = (Shares::default(), FileId(1), FileId(2));
        let mut now = 0;
        // Both are seen to be through at the same moment, and the time is taken for the first one's.
        for _ in 0..1000 {
            [first, second].into_iter().for_each(|file| shares.launched(file, Time(now)));
            now += MS / 5;
            [first, second].into_iter().for_each(|file| shares.reached(file, Time(now), true));
        }
        [first, second].into_iter().for_each(|file| shares.launched(file, Time(now)));
        now += 2 * MS;
        shares.reached(first, Time(now), true);
        assert_eq!(shares.held(first, Time(now)), None);
    }

    #[test]
    fn who_is_gone_is_waited_for_by_nobody() {
        let mut shares = Shares::default();
        shares.launched(FileId(2), Time(0));
        shares.launched(FileId(1), Time(0));
        shares.reached(FileId(1), Time(20 * MS), false);
        assert!(shares.held(FileId(1), Time(20 * MS)).is_some());
        shares.forget(FileId(2));
        assert_eq!(shares.held(FileId(1), Time(20 * MS)), None);
        shares.forget(FileId(1));
        shares.forget(FileId(1));
        assert_eq!(shares.busy, 0);
    }

    fn program() -> impl Strategy<Value = Program> {
        (MS / 20..10 * MS, 1..8_usize, 0..5 * MS).prop_map(|(cost, depth, think)| Program {
            cost,
            depth,
            think,
        })
    }

    proptest! {
        #[test]
        fn the_device_has_work_while_anybody_floods_it(
            others in prop::collection::vec(program(), 0..6),
        ) {
            let mut programs = others;
            programs.push(FLOOD);
            let used: u64 = run(&programs).iter().sum();
            // Not more is lost than the pauses of those who are waited for.
            prop_assert!(used > 400 * MS, "{used}");
        }

        #[test]
        fn nobody_who_floods_it_has_much_less_than_another(costs in prop::collection::vec(MS / 20..4 * MS, 2..6)) {
            let programs: Vec<Program> =
                costs.iter().map(|cost| Program { cost: *cost, depth: 2, think: 0 }).collect();
            let had = run(&programs);
            let (least, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
            prop_assert!(most - least <= 100 * MS, "{had:?}");
        }
    }
}
