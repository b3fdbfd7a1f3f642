//! What a stage promises to its actors, and what one actor's death costs the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use virgld_runtime::{
    Actor, Badge, Cap, Fault, Interface, Mailbox, SlotId, Spawner, Stage, Time, Turn, Wake, Watched,
};

struct Word;

/// All that actors hear here.
struct Heard(u32);

virgld_runtime::words!(Heard {
    "big" => Heard(500..),
    "small" => Heard(_),
}
    fn twin(&self) -> Option<Self> {
        Some(Heard(self.0))
    }
);

impl Interface for Word {
    type Message = u32;
    type Whole = Heard;
    const NAME: &'static str = "Word";

    fn widen(message: u32) -> Heard {
        Heard(message)
    }
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn stage() -> (Stage, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    (Stage::new(bell.clone()), bell)
}

/// Reports what it hears; dies of some words.
struct Listener(Sender<(u64, u32)>);

const PANIC: u32 = 1000;
const FAULT: u32 = 1001;

impl Actor for Listener {
    type Message = Heard;

    fn handle(&mut self, turn: Turn, Heard(message): Heard) -> Result<(), Fault> {
        assert_ne!(message, PANIC, "told to");
        if message == FAULT {
            return Err(Fault::new("told to"));
        }
        let _ = self.0.send((turn.badge.0, message));
        Ok(())
    }
}

fn listener(spawner: &Spawner) -> (Cap<Word>, Mailbox<Heard>) {
    let mailbox = spawner.mailbox();
    (mailbox.open(Badge(7)), mailbox)
}

#[test]
fn messages_arrive_in_order_and_carry_their_badge() {
    let (mut stage, _) = stage();
    let (cap, mailbox) = listener(&stage.spawner());
    let other: Cap<Word> = mailbox.open(Badge(8));
    let (sender, heard) = channel();
    cap.send(1).unwrap();
    stage.spawner().start("listener", mailbox, Listener(sender));
    for word in 2..5 {
        cap.send(word).unwrap();
    }
    other.send(9).unwrap();
    assert!(stage.run(Time(0)));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(7, 1), (7, 2), (7, 3), (7, 4), (8, 9)]);
    assert!(!stage.run(Time(0)));
}

#[test]
fn a_panic_and_a_fault_cost_one_actor_alone() {
    for word in [PANIC, FAULT] {
        let (mut stage, _) = stage();
        let (doomed, mailbox) = listener(&stage.spawner());
        let (cap, other) = listener(&stage.spawner());
        let (sender, heard) = channel();
        let slot: SlotId = stage.spawner().start("doomed", mailbox, Listener(sender.clone()));
        stage.spawner().start("other", other, Listener(sender));
        doomed.send(word).unwrap();
        cap.send(5).unwrap();
        stage.run(Time(0));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(7, 5)]);
        let casualties = stage.casualties();
        assert_eq!(casualties.len(), 1);
        assert_eq!((casualties[0].slot, casualties[0].name), (slot, "doomed"));
        assert!(casualties[0].fault.what.contains("told to"), "{}", casualties[0].fault.what);
        assert!(!doomed.is_alive() && doomed.send(1).is_err());
        assert!(cap.is_alive());
    }
}

#[test]
fn a_stopped_actor_refuses() {
    let (mut stage, _) = stage();
    let spawner = stage.spawner();
    let (cap, mailbox) = listener(&spawner);
    let slot = spawner.start("listener", mailbox, Listener(channel().0));
    stage.run(Time(0));
    spawner.stop(slot);
    stage.run(Time(0));
    assert!(cap.send(1).is_err());
}

#[test]
fn only_a_sleeping_stage_is_woken() {
    let (mut stage, bell) = stage();
    let (cap, mailbox) = listener(&stage.spawner());
    stage.spawner().start("listener", mailbox, Listener(channel().0));
    stage.run(Time(0));
    cap.send(1).unwrap();
    assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    assert!(!stage.may_sleep(), "a message waits");
    stage.run(Time(0));
    assert!(stage.may_sleep());
    cap.send(2).unwrap();
    cap.send(3).unwrap();
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
}

/// Sends itself a word as large as the one it hears, less one, until that is nothing.
struct Countdown(Cap<Word>, Sender<u32>);

impl Actor for Countdown {
    type Message = Heard;

    fn handle(&mut self, _: Turn, Heard(message): Heard) -> Result<(), Fault> {
        let _ = self.1.send(message);
        message
            .checked_sub(1)
            .map_or(Ok(()), |less| self.0.send(less).map_err(|dead| Fault::new(dead.to_string())))
    }
}

#[test]
fn what_an_actor_sends_itself_is_heard_after_what_others_were_sent_before() {
    let (mut stage, _) = stage();
    let (cap, mailbox) = listener(&stage.spawner());
    let (sender, heard) = channel();
    stage.spawner().start("countdown", mailbox, Countdown(cap.grant(), sender));
    cap.send(3).unwrap();
    cap.send(1).unwrap();
    stage.run(Time(0));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [3, 1, 2, 0, 1, 0]);
}

/// A thread that sleeps.
struct Parked(std::thread::Thread);

impl Wake for Parked {
    fn wake(&self) {
        self.0.unpark();
    }
}

#[test]
fn however_often_a_stage_sleeps_no_message_leaves_it_asleep() {
    const LONG: Duration = Duration::from_secs(20);
    let own = std::thread::current();
    let mut stage = Stage::new(Arc::new(Parked(own.clone())));
    let (cap, mailbox) = listener(&stage.spawner());
    let (sender, heard) = channel();
    stage.spawner().start("listener", mailbox, Listener(sender));
    let over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Each comes a moment after the one before was heard: while the stage is about to sleep.
            for moment in (0..100).cycle().take(100_000) {
                (0..moment).for_each(|_| std::hint::spin_loop());
                cap.send(1).unwrap();
                let since = Instant::now();
                while heard.try_recv().is_err() {
                    assert!(since.elapsed() < 2 * LONG, "nobody hears");
                }
            }
            over.store(true, Ordering::SeqCst);
            own.unpark();
        });
        while !over.load(Ordering::SeqCst) {
            stage.run(Time(0));
            if stage.may_sleep() {
                let since = Instant::now();
                std::thread::park_timeout(LONG);
                assert!(since.elapsed() < LONG, "asleep while a message waits");
            }
            stage.awake();
        }
    });
}

/// Names a moment, and counts how often it was woken.
struct Sleeper(Arc<AtomicUsize>, Option<Time>);

impl Actor for Sleeper {
    type Message = Heard;

    fn handle(&mut self, turn: Turn, Heard(message): Heard) -> Result<(), Fault> {
        self.1 = Some(turn.now.after(Duration::from_nanos(u64::from(message))));
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        self.1
    }

    fn wake(&mut self, _: Time) -> Result<(), Fault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1 = None;
        Ok(())
    }
}

#[test]
fn actors_are_woken_at_their_moment_and_not_before() {
    let (mut stage, _) = stage();
    let (cap, mailbox) = listener(&stage.spawner());
    let woken = Arc::new(AtomicUsize::new(0));
    stage.spawner().start("sleeper", mailbox, Sleeper(woken.clone(), None));
    cap.send(10).unwrap();
    stage.run(Time(100));
    assert_eq!(stage.deadline(), Some(Time(110)));
    stage.run(Time(109));
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    stage.run(Time(110));
    assert_eq!((woken.load(Ordering::SeqCst), stage.deadline()), (1, None));
}

#[test]
fn a_moment_that_has_passed_does_not_hang_the_stage() {
    struct Impatient;
    impl Actor for Impatient {
        type Message = Heard;

        fn handle(&mut self, _: Turn, _: Heard) -> Result<(), Fault> {
            Ok(())
        }

        fn deadline(&self) -> Option<Time> {
            Some(Time(1))
        }
    }
    let (mut stage, _) = stage();
    let (cap, mailbox) = listener(&stage.spawner());
    stage.spawner().start("impatient", mailbox, Impatient);
    cap.send(1).unwrap();
    stage.run(Time(50));
    assert_eq!(stage.deadline(), Some(Time(51)));
}

#[test]
fn an_actor_that_always_has_more_to_do_does_not_keep_the_caller() {
    struct Busy(Cap<Word>, Arc<AtomicUsize>);
    impl Actor for Busy {
        type Message = Heard;

        const SETTLES: bool = true;

        fn handle(&mut self, _: Turn, _: Heard) -> Result<(), Fault> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn settle(&mut self, _now: Time) -> Result<(), Fault> {
            self.0.send(1).map_err(|dead| Fault::new(dead.to_string()))
        }
    }
    let (mut stage, bell) = stage();
    let (cap, mailbox) = listener(&stage.spawner());
    let heard = Arc::new(AtomicUsize::new(0));
    stage.spawner().start("busy", mailbox, Busy(cap.grant(), heard.clone()));
    cap.send(1).unwrap();
    assert!(stage.run(Time(1)), "it returns");
    let first = heard.load(Ordering::SeqCst);
    assert!(!stage.may_sleep(), "but it must not sleep: there is more");
    assert!(stage.run(Time(2)));
    assert!(heard.load(Ordering::SeqCst) > first, "what was left is done then");
    assert_eq!(bell.0.load(Ordering::SeqCst), 0, "nobody slept");
}

/// Shares a number with somebody outside, who tells it of another only where it has asked to be told.
struct Shared {
    number: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
    asks: Arc<AtomicUsize>,
    /// What comes at the last moment, while it dozes off.
    late: Arc<AtomicUsize>,
    own: Cap<Word>,
}

impl Actor for Shared {
    type Message = Heard;

    const SETTLES: bool = true;

    fn handle(&mut self, _: Turn, _: Heard) -> Result<(), Fault> {
        Ok(())
    }

    fn settle(&mut self, _now: Time) -> Result<(), Fault> {
        self.seen.store(self.number.load(Ordering::SeqCst), Ordering::SeqCst);
        Ok(())
    }

    fn glance(&self) -> bool {
        self.number.load(Ordering::SeqCst) != self.seen.load(Ordering::SeqCst)
    }

    fn doze(&mut self, _now: Time) -> Result<(), Fault> {
        self.asks.fetch_add(1, Ordering::SeqCst);
        self.number.fetch_add(self.late.swap(0, Ordering::SeqCst), Ordering::SeqCst);
        if self.glance() { self.own.send(1).map_err(|dead| Fault::new(dead.to_string())) } else { Ok(()) }
    }
}

#[test]
fn what_is_seen_in_shared_memory_is_taken_and_nobody_sleeps_before_all_doze() {
    let (stage, _bell) = stage();
    let (own, mailbox) = listener(&stage.spawner());
    let [number, seen, asks, late] = [(); 4].map(|()| Arc::new(AtomicUsize::new(0)));
    let actor =
        Shared { number: number.clone(), seen: seen.clone(), asks: asks.clone(), late: late.clone(), own };
    stage.spawner().start("shared", mailbox, actor);
    let watched = Watched::new(stage);
    let tenure = watched.tenure();
    let seen = || seen.load(Ordering::SeqCst);
    let has_work = || watched.with(&tenure, |stage| stage.has_work(Time(0))).unwrap();
    let may_sleep = || watched.with(&tenure, |stage| stage.may_sleep()).unwrap();

    watched.run(&tenure, || Time(0)).unwrap();
    assert!(!has_work() && !may_sleep(), "nobody has asked to be told");
    number.store(1, Ordering::SeqCst);
    assert!(has_work());
    assert_eq!((watched.run(&tenure, || Time(0)), seen()), (Ok(true), 1));

    late.store(1, Ordering::SeqCst);
    assert_eq!((watched.doze(&tenure, || Time(0)), seen()), (Ok(true), 2), "it came before it had asked");
    assert!(!may_sleep());
    assert_eq!((watched.doze(&tenure, || Time(0)), may_sleep()), (Ok(false), true));
    assert_eq!(asks.load(Ordering::SeqCst), 2);
}
