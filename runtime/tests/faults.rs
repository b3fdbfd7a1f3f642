//! Faults on purpose: each does what its name says, at its point, and to nobody else; and what dies is started anew.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use virgld_runtime::fault::{Injector, Point, Rule, When, Wrong, midst};
use virgld_runtime::{
    Actor, Badge, Cap, Death, Fault, Intensity, Interface, Mailbox, Restart, Stage, Strategy, Time, Turn,
    Wake, words,
};

/// A number, or the report that something went well.
enum Heard {
    Number(u32),
    Done(bool),
}

words!(Heard {
    "Number" => Heard::Number(_),
    "Done" => Heard::Done(_),
}
    fn twin(&self) -> Option<Self> {
        if let Self::Number(number) = self { Some(Self::Number(*number)) } else { None }
    }

    fn corrupt(&mut self) -> bool {
        if let Self::Done(done) = self { std::mem::take(done) } else { false }
    }
);

struct Numbers;

impl Interface for Numbers {
    type Message = u32;
    type Whole = Heard;
    const NAME: &'static str = "Numbers";

    fn widen(message: u32) -> Heard {
        Heard::Number(message)
    }
}

struct Dones;

impl Interface for Dones {
    type Message = bool;
    type Whole = Heard;
    const NAME: &'static str = "Dones";

    fn widen(message: bool) -> Heard {
        Heard::Done(message)
    }
}

/// Passes on what it hears, and its double.
struct Relay {
    next: Cap<Numbers>,
    restarts: u32,
}

impl Actor for Relay {
    type Message = Heard;

    fn handle(&mut self, _: Turn, message: Heard) -> Result<(), Fault> {
        let number = match message {
            Heard::Number(number) => number,
            Heard::Done(done) => u32::from(done),
        };
        midst();
        for number in [number, 2 * number] {
            self.next.send(number).map_err(|dead| Fault::new(dead.to_string()))?;
        }
        Ok(())
    }

    fn restart(&mut self, _: Restart) -> Result<(), Fault> {
        self.restarts += 1;
        Ok(())
    }
}

struct Ear(Sender<u32>);

impl Actor for Ear {
    type Message = Heard;

    fn handle(&mut self, _: Turn, message: Heard) -> Result<(), Fault> {
        if let Heard::Number(number) = message {
            let _ = self.0.send(number);
        }
        Ok(())
    }
}

struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

struct Scene {
    stage: Stage,
    numbers: Cap<Numbers>,
    dones: Cap<Dones>,
    heard: Receiver<u32>,
    injector: Injector,
}

fn scene(intensity: Option<usize>) -> Scene {
    let stage = Stage::new(Arc::new(Quiet));
    let spawner = stage.spawner();
    let (relay, ear): (Mailbox<Heard>, Mailbox<Heard>) = (spawner.mailbox(), spawner.mailbox());
    let (numbers, dones) = (relay.open(Badge(0)), relay.open(Badge(0)));
    let actor = Relay { next: ear.open(Badge(0)), restarts: 0 };
    match intensity {
        Some(restarts) => {
            let intensity = Intensity { restarts, period: Duration::from_secs(1) };
            spawner.supervisor("all", Strategy::OneForOne, intensity).start("relay", relay, actor)
        }
        None => spawner.start("relay", relay, actor),
    };
    let (sender, heard) = channel();
    spawner.start("ear", ear, Ear(sender));
    Scene { stage, numbers, dones, heard, injector: spawner.injector() }
}

fn rule(point: Point, wrong: Wrong, when: When) -> Rule {
    Rule { actor: "relay".into(), word: None, point, wrong, when, times: 99 }
}

impl Scene {
    /// Sends 1 to 3 with this fault at the second, and gives what came out by a time.
    fn hears(&mut self, point: Point, wrong: Wrong, by: Time) -> Vec<u32> {
        self.injector.inject(1, vec![rule(point, wrong, When::Nth(2))]);
        self.run(by)
    }

    fn run(&mut self, by: Time) -> Vec<u32> {
        for number in 1..4 {
            let _ = self.numbers.send(number);
        }
        self.stage.run(Time(0));
        self.stage.run(by);
        self.heard.try_iter().collect()
    }
}

const SOON: Time = Time(1);
const LATE: Time = Time(1_000_000_000);
const DELAY: Wrong = Wrong::Delay(Duration::from_millis(500));

#[test]
fn each_fault_does_what_its_name_says() {
    for (point, wrong, by, expected) in [
        (Point::Before, Wrong::Drop, SOON, vec![1, 2, 3, 6]),
        (Point::Before, Wrong::Duplicate, SOON, vec![1, 2, 2, 4, 2, 4, 3, 6]),
        (Point::Before, Wrong::Reorder, SOON, vec![1, 2, 3, 6, 2, 4]),
        (Point::Before, DELAY, SOON, vec![1, 2]),
        (Point::Before, DELAY, LATE, vec![1, 2, 2, 4, 3, 6]),
        (Point::Before, Wrong::Corrupt, SOON, vec![1, 2, 2, 4, 3, 6]),
        (Point::After, Wrong::Drop, SOON, vec![1, 2, 3, 6]),
        (Point::After, Wrong::Reorder, SOON, vec![1, 2, 4, 2, 3, 6]),
        (Point::After, DELAY, SOON, vec![1, 2]),
        (Point::After, DELAY, LATE, vec![1, 2, 2, 4, 3, 6]),
        (Point::Before, Wrong::Panic, SOON, vec![1, 2, 2, 4, 3, 6]),
        (Point::Within, Wrong::Panic, SOON, vec![1, 2, 3, 6]),
        (Point::After, Wrong::Panic, SOON, vec![1, 2, 2, 4, 3, 6]),
        (Point::Effect, Wrong::Panic, SOON, vec![1, 2, 2, 4, 3, 6]),
    ] {
        assert_eq!(scene(Some(5)).hears(point, wrong, by), expected, "{point:?} {wrong:?} {by:?}");
    }
}

#[test]
fn the_last_of_all_is_not_late_for_ever() {
    let mut scene = scene(Some(5));
    scene.injector.inject(1, vec![rule(Point::Before, Wrong::Reorder, When::Nth(3))]);
    assert_eq!(scene.run(SOON), [1, 2, 2, 4]);
    scene.stage.run(LATE);
    assert_eq!(scene.heard.try_iter().collect::<Vec<_>>(), [3, 6]);
}

#[test]
fn what_a_word_does_not_allow_is_counted_and_does_nothing() {
    let mut scene = scene(Some(5));
    scene.injector.inject(1, vec![rule(Point::Before, Wrong::Corrupt, When::Every(1))]);
    scene.numbers.send(4).unwrap();
    scene.dones.send(true).unwrap();
    scene.stage.run(SOON);
    assert_eq!(scene.heard.try_iter().collect::<Vec<_>>(), [4, 8, 0, 0]);
    let account = &scene.injector.accounts()[0];
    assert_eq!((account.seen, account.struck, account.impossible), (2, 1, 1));
    scene.injector.clear();
    scene.dones.send(true).unwrap();
    scene.stage.run(SOON);
    assert_eq!(scene.heard.try_iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn one_that_is_not_started_anew_takes_its_effects_with_it() {
    for (point, expected) in
        [(Point::Before, vec![1, 2]), (Point::After, vec![1, 2]), (Point::Effect, vec![1, 2, 2, 4])]
    {
        let mut scene = scene(None);
        assert_eq!(scene.hears(point, Wrong::Panic, SOON), expected);
        let casualties = scene.stage.casualties();
        assert_eq!((casualties.len(), casualties[0].death), (1, Death::Ended));
        assert!(!scene.numbers.is_alive());
    }
}

#[test]
fn one_restart_too_many_is_passed_on() {
    let mut scene = scene(Some(2));
    scene.injector.inject(1, vec![rule(Point::Before, Wrong::Panic, When::Every(1))]);
    // The first two are handled when it has been started anew: a message that was not handled waits still.
    assert_eq!(scene.run(SOON), [1, 2, 2, 4]);
    let deaths: Vec<Death> = scene.stage.casualties().iter().map(|it| it.death).collect();
    assert_eq!(deaths, [Death::Restarted, Death::Restarted, Death::Escalated]);
    assert!(!scene.numbers.is_alive());
}

#[test]
fn one_that_hangs_stops_its_stage_until_it_is_given_up() {
    for (restarts, death) in [(None, Death::Ended), (Some(2), Death::Escalated)] {
        let mut scene = scene(restarts);
        assert_eq!(scene.hears(Point::Before, Wrong::Hang, SOON), Vec::<u32>::new());
        assert!(scene.stage.is_hung());
        scene.stage.end_hung();
        scene.stage.run(LATE);
        let heard: Vec<u32> = scene.heard.try_iter().collect();
        assert_eq!(heard, [1, 2], "what it said before is heard, and what waited for it is lost");
        let casualty = scene.stage.casualties().remove(0);
        assert!(casualty.fault.what.contains("did not return"));
        assert_eq!(casualty.death, death);
        assert!(!scene.numbers.is_alive());
    }
}
