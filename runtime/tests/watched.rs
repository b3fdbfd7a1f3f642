//! An actor that does not return: the stage goes on without it, on another thread.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use virgld_runtime::{
    Abandonment, Actor, Badge, Cap, Death, Fault, Intensity, Interface, Mailbox, Restart, Revoked, Stage,
    Strategy, Time, Turn, Wake, Watched, words,
};

#[derive(Debug)]
struct Number(u32);

words!(Number { "Number" => Number(_), });

struct Numbers;

impl Interface for Numbers {
    type Message = u32;
    type Whole = Number;
    const NAME: &'static str = "Numbers";

    fn widen(message: u32) -> Number {
        Number(message)
    }
}

/// Passes numbers on; hangs at 13 until it is let go.
struct Relay {
    next: Cap<Numbers>,
    hangs: Sender<()>,
    let_go: Receiver<()>,
}

impl Actor for Relay {
    type Message = Number;

    fn handle(&mut self, _: Turn, Number(number): Number) -> Result<(), Fault> {
        if number == 13 {
            self.hangs.send(()).unwrap();
            self.let_go.recv().unwrap();
        }
        self.next.send(number).map_err(|dead| Fault::new(dead.to_string()))
    }
}

struct Ear(Sender<u32>);

impl Actor for Ear {
    type Message = Number;

    fn handle(&mut self, _: Turn, Number(number): Number) -> Result<(), Fault> {
        let _ = self.0.send(number);
        Ok(())
    }
}

struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

#[test]
fn one_that_hangs_is_given_up_with_its_thread_and_the_others_go_on() {
    for supervised in [false, true] {
        let stage = Stage::new(Arc::new(Quiet));
        let spawner = stage.spawner();
        let (relay, ear): (Mailbox<Number>, Mailbox<Number>) = (spawner.mailbox(), spawner.mailbox());
        let (to_relay, to_ear) = (relay.open::<Numbers>(Badge(0)), ear.open::<Numbers>(Badge(0)));
        let (hangs, hung) = channel();
        let (release, let_go) = channel();
        let actor = Relay { next: ear.open(Badge(0)), hangs, let_go };
        if supervised {
            let intensity = Intensity { restarts: 5, period: std::time::Duration::MAX };
            spawner.supervisor("all", Strategy::OneForOne, intensity).start("relay", relay, actor);
        } else {
            spawner.start("relay", relay, actor);
        }
        let (sender, heard) = channel();
        spawner.start("ear", ear, Ear(sender));

        let watched = Arc::new(Watched::new(stage));
        let tenure = watched.tenure();
        for number in [1, 13, 2] {
            to_relay.send(number).unwrap();
        }
        let own = Arc::clone(&watched);
        let thread = thread::spawn(move || own.run(&tenure, || Time(0)));
        hung.recv().unwrap();
        let steps = watched.steps();

        let Abandonment::Done(tenure) = watched.abandon(steps) else { panic!("it hangs") };
        assert!(matches!(watched.abandon(steps), Abandonment::NoActor), "nobody else hangs");
        assert!(!to_relay.is_alive(), "its epoch is revoked");
        to_ear.send(7).unwrap();
        assert_eq!(watched.run(&tenure, || Time(1)), Ok(true));
        assert!(watched.steps() > steps);
        let casualty = watched.with(&tenure, Stage::casualties).unwrap().remove(0);
        assert_eq!(casualty.death, if supervised { Death::Escalated } else { Death::Ended });

        // It returns after all: nothing that it says arrives, and its thread ends.
        release.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), Err(Revoked));
        watched.run(&tenure, || Time(2)).unwrap();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1, 7]);
        watched.end();
        assert_eq!(watched.run(&tenure, || Time(3)), Err(Revoked));
        assert!(!to_ear.is_alive());
    }
}

#[test]
fn one_that_returned_after_all_is_not_given_up_nor_is_whoever_acts_next() {
    let stage = Stage::new(Arc::new(Quiet));
    let spawner = stage.spawner();
    let (first, second, ear): (Mailbox<Number>, Mailbox<Number>, Mailbox<Number>) =
        (spawner.mailbox(), spawner.mailbox(), spawner.mailbox());
    let (to_first, to_second) = (first.open::<Numbers>(Badge(0)), second.open::<Numbers>(Badge(0)));
    let (hangs, hung) = channel();
    let (release, let_go) = channel();
    let (release_next, let_next_go) = channel();
    let next = second.open(Badge(0));
    spawner.start("first", first, Relay { next, hangs: hangs.clone(), let_go });
    spawner.start("second", second, Relay { next: ear.open(Badge(0)), hangs, let_go: let_next_go });
    let (sender, heard) = channel();
    spawner.start("ear", ear, Ear(sender));

    let watched = Arc::new(Watched::new(stage));
    let tenure = watched.tenure();
    to_first.send(13).unwrap();
    let own = Arc::clone(&watched);
    let thread = thread::spawn(move || own.run(&tenure, || Time(0)));
    hung.recv().unwrap();
    let steps = watched.steps();
    release.send(()).unwrap();
    // The watchdog goes by what it saw of the first when the second acts.
    hung.recv().unwrap();
    assert!(matches!(watched.abandon(steps), Abandonment::MovedOn));
    assert!(to_first.is_alive() && to_second.is_alive());

    release_next.send(()).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(true), "its thread keeps its tenure");
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [13]);
    watched.end();
}

#[test]
fn one_that_can_be_made_from_nothing_has_its_place_taken_and_keeps_its_mail() {
    let stage = Stage::new(Arc::new(Quiet));
    let spawner = stage.spawner();
    let (relay, ear): (Mailbox<Number>, Mailbox<Number>) = (spawner.mailbox(), spawner.mailbox());
    let to_relay = relay.open::<Numbers>(Badge(0));
    let (hangs, hung) = channel();
    let (release, let_go) = channel();
    let mut let_go = Some(let_go);
    let next = ear.open::<Numbers>(Badge(0));
    // Only the first can be let go.
    let make = move || {
        Renewed(Relay {
            next: next.grant(),
            hangs: hangs.clone(),
            let_go: let_go.take().unwrap_or_else(|| channel().1),
        })
    };
    let intensity = Intensity { restarts: 1, period: std::time::Duration::MAX };
    spawner.supervisor("all", Strategy::OneForOne, intensity).start_by("relay", relay, make);
    let (sender, heard) = channel();
    spawner.start("ear", ear, Ear(sender));

    let watched = Arc::new(Watched::new(stage));
    let tenure = watched.tenure();
    for number in [1, 13, 2] {
        to_relay.send(number).unwrap();
    }
    let own = Arc::clone(&watched);
    let thread = thread::spawn(move || own.run(&tenure, || Time(0)));
    hung.recv().unwrap();

    let Abandonment::Done(tenure) = watched.abandon(watched.steps()) else { panic!("it hangs") };
    assert!(to_relay.is_alive(), "there is another behind the same address");
    watched.run(&tenure, || Time(1)).unwrap();
    let casualty = watched.with(&tenure, Stage::casualties).unwrap().remove(0);
    assert_eq!(casualty.death, Death::Restarted);
    assert!(casualty.fault.what.contains("did not return"), "{}", casualty.fault);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1, 1000, 2], "what hung is not repeated");

    // It returns after all. What comes now is not for it, and its end is nobody's.
    to_relay.send(3).unwrap();
    release.send(()).unwrap();
    assert_eq!(thread.join().unwrap(), Err(Revoked));
    watched.run(&tenure, || Time(2)).unwrap();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [3]);
    assert!(to_relay.is_alive());
}

/// Says so when it takes the place of another.
struct Renewed(Relay);

impl Actor for Renewed {
    type Message = Number;

    fn handle(&mut self, turn: Turn, message: Number) -> Result<(), Fault> {
        self.0.handle(turn, message)
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        assert!(restart.doubt);
        self.0.next.send(1000).map_err(|dead| Fault::new(dead.to_string()))
    }
}
