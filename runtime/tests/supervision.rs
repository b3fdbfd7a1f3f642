//! A supervision tree on a real stage: who is started anew with whom, in which order, and what that one is told.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use virgld_runtime::fault::{Point, Rule, When, Wrong, midst};
use virgld_runtime::{
    Actor, Badge, Cap, Death, Fault, Intensity, Interface, Mailbox, Restart, Spawner, Stage, Strategy,
    Supervisor, Time, Turn, Wake, words,
};

#[derive(Debug)]
enum Word {
    Say(u32),
    Die,
}

words!(Word {
    "Say" => Word::Say(_),
    "Die" => Word::Die,
});

struct Words;

impl Interface for Words {
    type Message = Word;
    type Whole = Word;
    const NAME: &'static str = "Words";

    fn widen(message: Word) -> Word {
        message
    }
}

/// Says what happens to it.
struct Child {
    name: &'static str,
    log: Sender<String>,
    /// How often it fails when it is started anew.
    stillborn: u32,
}

impl Child {
    fn say(&self, what: &str) {
        let _ = self.log.send(format!("{} {what}", self.name));
    }
}

impl Actor for Child {
    type Message = Word;

    fn handle(&mut self, _: Turn, message: Word) -> Result<(), Fault> {
        match message {
            Word::Say(number) => {
                midst();
                self.say(&number.to_string());
            }
            Word::Die => panic!("told to"),
        }
        Ok(())
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        if self.stillborn > 0 {
            self.stillborn -= 1;
            return Err(Fault::new("it is not ready"));
        }
        self.say(if restart.doubt { "anew, in doubt" } else { "anew" });
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.say("gone");
    }
}

struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// `all`, one for one, with `first`, `line` and `last`; `line` with `a`, `b` and `c`.
struct Scene {
    stage: Stage,
    spawner: Spawner,
    line: Supervisor,
    log: Receiver<String>,
    sender: Sender<String>,
}

impl Scene {
    fn new(all: usize, line: (Strategy, usize)) -> Self {
        let stage = Stage::new(Arc::new(Quiet));
        let (sender, log) = channel();
        let spawner = stage.spawner();
        let top = spawner.supervisor("all", Strategy::OneForOne, intensity(all));
        let line = top.supervisor("line", line.0, intensity(line.1));
        Self { stage, spawner, line, log, sender }
    }

    fn child(&self, name: &'static str) -> (Mailbox<Word>, Child) {
        (self.spawner.mailbox(), Child { name, log: self.sender.clone(), stillborn: 0 })
    }

    /// Starts a child of `line`.
    fn start(&self, name: &'static str, stillborn: u32) -> Cap<Words> {
        let (mailbox, mut child) = self.child(name);
        child.stillborn = stillborn;
        let cap = mailbox.open(Badge(0));
        self.line.start(name, mailbox, child);
        cap
    }

    fn run(&mut self) -> Vec<String> {
        self.stage.run(Time(1));
        self.log.try_iter().collect()
    }

    fn casualties(&mut self) -> Vec<(&'static str, Death, Vec<&'static str>)> {
        self.stage.casualties().into_iter().map(|it| (it.name, it.death, it.with)).collect()
    }
}

fn intensity(restarts: usize) -> Intensity {
    Intensity { restarts, period: Duration::from_secs(1) }
}

const REST: Strategy = Strategy::RestForOne;

#[test]
fn the_rest_is_started_anew_with_the_one_that_broke_off_before_anybody_acts() {
    let mut scene = Scene::new(0, (REST, 1));
    let [a, b, c] = ["a", "b", "c"].map(|name| scene.start(name, 0));
    assert!(scene.run().is_empty());
    // All three have mail when the second dies.
    for (cap, word) in [(&b, Word::Die), (&c, Word::Say(1)), (&a, Word::Say(2)), (&b, Word::Say(3))] {
        cap.send(word).unwrap();
    }
    assert_eq!(scene.run(), ["b anew, in doubt", "c anew, in doubt", "c 1", "a 2", "b 3"]);
    assert_eq!(scene.casualties(), [("b", Death::Restarted, vec!["c"])]);
    let report = scene.spawner.supervisors();
    assert_eq!(report.iter().map(|it| it.restarts).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(report[1].children, [("a", 0), ("b", 1), ("c", 1)]);
}

#[test]
fn between_two_steps_nothing_is_in_doubt() {
    let mut scene = Scene::new(0, (REST, 9));
    let [b, c] = ["b", "c"].map(|name| scene.start(name, 0));
    for point in [Point::Before, Point::After, Point::Effect] {
        let (actor, word, wrong, when) = ("b".into(), None, Wrong::Panic, When::Nth(1));
        scene.spawner.injector().inject(1, vec![Rule { actor, word, point, wrong, when, times: 1 }]);
        b.send(Word::Say(1)).unwrap();
        c.send(Word::Say(2)).unwrap();
        let said = scene.run();
        assert!(said.contains(&"b anew".into()) && said.contains(&"c anew".into()), "{point:?}: {said:?}");
        assert!(said.contains(&"b 1".into()) && said.contains(&"c 2".into()), "{point:?}: {said:?}");
        scene.spawner.injector().clear();
    }
}

#[test]
fn what_an_injected_fault_breaks_off_is_in_doubt_and_not_repeated() {
    let mut scene = Scene::new(0, (REST, 9));
    let [b, _c] = ["b", "c"].map(|name| scene.start(name, 0));
    let (actor, word, wrong, when) = ("b".into(), None, Wrong::Panic, When::Nth(1));
    let rule = Rule { actor, word, point: Point::Within, wrong, when, times: 1 };
    scene.spawner.injector().inject(1, vec![rule]);
    b.send(Word::Say(1)).unwrap();
    b.send(Word::Say(2)).unwrap();
    assert_eq!(scene.run(), ["b anew, in doubt", "c anew, in doubt", "b 2"]);
}

#[test]
fn one_too_many_begins_the_supervisor_anew_and_then_ends_all_the_last_first() {
    let mut scene = Scene::new(1, (REST, 1));
    let [_a, b, _c] = ["a", "b", "c"].map(|name| scene.start(name, 0));
    let mut die = || {
        b.send(Word::Die).unwrap();
        scene.run()
    };
    assert_eq!(die(), ["b anew, in doubt", "c anew, in doubt"]);
    assert_eq!(die(), ["a anew, in doubt", "b anew, in doubt", "c anew, in doubt"]);
    assert_eq!(die(), ["b anew, in doubt", "c anew, in doubt"], "it counts anew");
    assert_eq!(die(), ["b gone", "c gone", "a gone"]);
    let last = scene.stage.casualties().pop().unwrap();
    assert_eq!((last.name, last.death), ("b", Death::Escalated));
    let what = &last.fault.what;
    let limits = ["more than 1 restarts within 1s under line", "more than 1 restarts within 1s under all"];
    assert!(limits.iter().all(|limit| what.contains(limit)) && what.ends_with("told to"), "{what}");
    assert!(!b.is_alive());
}

#[test]
fn a_restart_that_fails_is_another_death() {
    for (stillborn, expected) in
        [(1, vec!["b anew, in doubt", "c anew, in doubt"]), (9, vec!["b gone", "c gone"])]
    {
        let mut scene = Scene::new(1, (REST, 2));
        let (b, _c) = (scene.start("b", stillborn), scene.start("c", 0));
        b.send(Word::Die).unwrap();
        assert_eq!(scene.run(), expected);
        let last = scene.stage.casualties().pop().unwrap();
        assert!(last.fault.what.contains("told to"), "what it died of first is told: {}", last.fault);
        assert_eq!(last.fault.what.contains("it is not ready"), stillborn == 9);
    }
}

#[test]
fn one_that_fails_when_another_is_started_anew_does_not_keep_the_others_down() {
    let mut scene = Scene::new(0, (REST, 2));
    let [a, _b, c] = [("a", 0), ("b", 1), ("c", 0)].map(|(name, stillborn)| scene.start(name, stillborn));
    a.send(Word::Die).unwrap();
    c.send(Word::Say(1)).unwrap();
    assert_eq!(scene.run(), ["a anew, in doubt", "b anew, in doubt", "c anew, in doubt", "c 1"]);
}

#[test]
fn temporary_children_end_when_what_they_build_on_begins_anew_and_their_own_death_counts_for_nothing() {
    let mut scene = Scene::new(0, (REST, 1));
    let a = scene.start("a", 0);
    let (mailbox, child) = scene.child("guest");
    let guest: Cap<Words> = mailbox.open(Badge(0));
    scene.line.spawner().start("guest", mailbox, child);
    let (mailbox, child) = scene.child("other");
    let other: Cap<Words> = mailbox.open(Badge(0));
    scene.line.spawner().start("other", mailbox, child);
    other.send(Word::Die).unwrap();
    assert_eq!(scene.run(), ["other gone"]);
    assert_eq!(scene.casualties(), [("other", Death::Ended, vec![])]);
    a.send(Word::Die).unwrap();
    assert_eq!(scene.run(), ["guest gone", "a anew, in doubt"]);
    assert_eq!(scene.casualties(), [("guest", Death::Ended, vec![]), ("a", Death::Restarted, vec![])]);
    assert!(!guest.is_alive());
}
