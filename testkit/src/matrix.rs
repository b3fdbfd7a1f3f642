//! The fault matrix: every actor and the device by every fault, on the whole system.
//!
//! In each cell one client is at work when the fault strikes, and another begins its work at that very moment. The
//! cell says what both were told, how long it took until the first could work again, and what was left of all when
//! they had gone. A fault can strike any of the messages that an actor hears; a cell is the worst of them.

mod client;
mod draw;
mod exception;

use std::fmt;
use std::time::Duration;

use virgld_faults::{Actor, DeviceRule, DeviceWrong, Plan, actors};
use virgld_protocol::message::scheme::Node;
use virgld_runtime::fault::{Account, Point, Rule, When, Wrong};
use virgld_runtime::{Death, Time};

use self::client::Client;
pub use self::draw::{markdown, svg};
pub use self::exception::{EXCEPTIONS, Exception, Finding, Flaw};
use crate::device::Offence;
use crate::system::{System, SystemConfig};

/// What a client was told, from good to bad.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// That all went well.
    #[default]
    Nothing,
    /// An error, and the same file worked again afterwards.
    Error,
    /// Errors only, until it opened its file anew.
    Lost,
    /// Nothing at all: a call or a fence came to no end.
    Silence,
}

/// One cell.
#[derive(Debug, Default, Clone)]
pub struct Cell {
    /// How often the fault struck, over all the messages that it was tried on.
    pub struck: u64,
    /// What the client was told that was at work.
    pub concerned: Told,
    /// What the other was told.
    pub other: Told,
    /// The longest time until the first client could work again.
    pub recovery: Duration,
    /// What was left when both had gone.
    pub left: Vec<String>,
    /// Whatever rule was broken, which nothing excuses.
    pub wrong: Vec<String>,
    /// What the device was told of that it did not know.
    pub refused: Vec<String>,
    /// All that is not good and may have its reason.
    pub findings: Vec<Finding>,
}

/// A row's name, a column's name and the cell.
pub type Entry = (&'static str, &'static str, Cell);

/// The faults at an actor's boundary, as columns.
pub const WRONGS: [(&str, Point, Wrong); 12] = [
    ("panic before", Point::Before, Wrong::Panic),
    ("panic within", Point::Within, Wrong::Panic),
    ("panic after", Point::After, Wrong::Panic),
    ("panic, effects sent", Point::Effect, Wrong::Panic),
    ("hang", Point::Before, Wrong::Hang),
    ("delay", Point::Before, Wrong::Delay(DELAY)),
    ("drop", Point::Before, Wrong::Drop),
    ("drop effects", Point::After, Wrong::Drop),
    ("duplicate", Point::Before, Wrong::Duplicate),
    ("reorder", Point::Before, Wrong::Reorder),
    ("corrupt", Point::Before, Wrong::Corrupt),
    ("refuse", Point::Before, Wrong::Refuse),
];

/// The actors that belong to one client each.
pub const CONTEXT: &str = "context";
/// The actor that hears of lost devices.
pub const KEEPER: &str = "device keeper";
const DEATH: DeviceRule =
    DeviceRule { wrong: DeviceWrong::Death, when: Some(When::Nth(1)), after: None, times: 1 };
const DELAY: Duration = Duration::from_millis(50);
/// How many of a word's occurrences are tried.
const STRUCK: u64 = 3;
/// Which commands of the device.
const COMMANDS: std::ops::RangeInclusive<u64> = 1..=12;

/// The cells of all actors.
pub fn of_actors() -> Vec<Entry> {
    let mut entries = Vec::new();
    let heard = heard();
    for actor in actors() {
        for (name, point, wrong) in WRONGS {
            let mut cell = Cell::default();
            // That of any other actor ends the daemon.
            let ends = wrong == Wrong::Hang && ![CONTEXT, KEEPER].contains(&actor.name);
            let words = if ends { &[] } else { actor.words };
            for word in words {
                // The keeper has nothing to hear before a device is lost.
                let (device, most) = match actor.name {
                    KEEPER => (vec![DEATH], STRUCK),
                    _ => (Vec::new(), occurrences(actor.name, word, &heard).min(STRUCK)),
                };
                for number in 1..=most {
                    let when = When::Nth(number);
                    let (actor, name) = (actor.name.into(), Some((*word).into()));
                    let rule = Rule { actor, word: name, point, wrong, when, times: 1 };
                    let plan = Plan { seed: number, faults: vec![rule], device: device.clone() };
                    let mut one = Cell::of(&plan);
                    one.find(word);
                    cell.add(one);
                }
            }
            entries.push((actor.name, name, cell));
        }
    }
    entries
}

/// How often each word is heard while a client works and nothing goes wrong.
fn heard() -> Vec<Account> {
    let never = |actor: &Actor, word: &&'static str| Rule {
        actor: actor.name.into(),
        word: Some((*word).into()),
        point: Point::Before,
        wrong: Wrong::Panic,
        when: When::Nth(u64::MAX),
        times: 1,
    };
    let all = actors();
    let faults =
        all.iter().flat_map(|actor| actor.words.iter().map(move |word| never(actor, word))).collect();
    let (mut system, mut concerned, _) = stage();
    system.inject(&Plan { seed: 0, faults, device: Vec::new() });
    concerned.begin();
    drive(&mut system, &mut [&mut concerned], |_| false);
    system.faults()
}

fn occurrences(actor: &str, word: &str, heard: &[Account]) -> u64 {
    let found = heard.iter().find(|it| it.rule.actor == actor && it.rule.word.as_deref() == Some(word));
    found.map_or(0, |account| account.seen)
}

/// A system and two clients that have worked, so that what they need is there.
fn stage() -> (System, Client, Client) {
    let mut system = System::new(&config(), 1);
    let mut concerned = Client::open(&mut system, Node::Card);
    let mut other = Client::open(&mut system, Node::Render);
    for client in [&mut concerned, &mut other] {
        client.begin();
        drive(&mut system, &mut [client], |_| false);
    }
    (system, concerned, other)
}

/// The cells of the device.
pub fn of_device() -> Vec<Entry> {
    let cell = |wrong| {
        let mut cell = Cell::default();
        for number in COMMANDS {
            let rule = DeviceRule { wrong, when: Some(When::Nth(number)), after: None, times: 1 };
            cell.add(Cell::of(&Plan { seed: number, faults: Vec::new(), device: vec![rule] }));
        }
        cell
    };
    let late = |wrong| match wrong {
        DeviceWrong::LateResponse(_) => DeviceWrong::LateResponse(DELAY),
        wrong => wrong,
    };
    DeviceWrong::ALL.map(|(name, wrong)| ("device", name, cell(late(wrong)))).into()
}

impl Cell {
    fn of(plan: &Plan) -> Self {
        let (mut system, mut concerned, mut other) = stage();
        system.inject(plan);
        let begin = system.now();
        concerned.begin();
        drive(&mut system, &mut [&mut concerned], |system| struck(system, plan) > 0);
        let struck = struck(&system, plan);
        if struck == 0 {
            return Self::default();
        }
        // Whoever comes from now on is not concerned.
        system.calm();
        other.begin();
        drive(&mut system, &mut [&mut concerned, &mut other], |_| false);
        let mut cell = Self { struck, ..Self::default() };
        (cell.concerned, cell.recovery) = recover(&mut system, &mut concerned, begin);
        cell.other = recover(&mut system, &mut other, begin).0;
        system.door.close(concerned.file());
        system.door.close(other.file());
        system.outlast();
        system.outlast();
        cell.left = left(&mut system);
        (cell.wrong, cell.refused) = broken(&system);
        cell
    }

    /// What is not good of a fault that struck this word.
    fn find(&mut self, word: &'static str) {
        let mut found = |is: bool, flaw, what: String| {
            self.findings.extend(is.then_some(Finding { word, flaw, what }));
        };
        found(self.other != Told::Nothing, Flaw::Told, self.other.to_string());
        found(self.concerned == Told::Silence, Flaw::Silent, String::new());
        found(!self.left.is_empty(), Flaw::Left, self.left.join("; "));
        found(!self.refused.is_empty(), Flaw::Refused, self.refused.join("; "));
    }

    fn add(&mut self, one: Self) {
        self.struck += one.struck;
        self.concerned = self.concerned.max(one.concerned);
        self.other = self.other.max(one.other);
        self.recovery = self.recovery.max(one.recovery);
        self.left.extend(one.left);
        self.wrong.extend(one.wrong);
        self.refused.extend(one.refused);
        self.findings.extend(one.findings);
    }
}

/// How often what the plan is about has happened.
fn struck(system: &System, plan: &Plan) -> u64 {
    if plan.faults.is_empty() {
        return system.device_struck();
    }
    system.faults().iter().map(|account| account.struck).sum()
}

fn config() -> SystemConfig {
    let mut config = SystemConfig::default();
    for quota in [&mut config.resources.file, &mut config.resources.user] {
        (quota.bytes, quota.isolated_bytes) = (1 << 20, 1 << 20);
    }
    config.link.places = 16;
    config
}

/// Works again, with a file of its own choice. Says what it was told on the way, and how long after `begin` it was done.
fn recover(system: &mut System, client: &mut Client, begin: Time) -> (Told, Duration) {
    let told = client.told();
    if told == Told::Nothing {
        return (told, client.done_at(system.now()).since(begin));
    }
    for again in [Told::Error, Told::Lost, Told::Lost, Told::Lost] {
        if again == Told::Lost {
            system.door.close(client.file());
            *client = Client::open(system, client.node());
        }
        client.begin();
        drive(system, &mut [client], |_| false);
        if client.told() == Told::Nothing {
            return (told.max(again), client.done_at(system.now()).since(begin));
        }
    }
    (Told::Silence, system.now().since(begin))
}

/// Lets clients work until they are done, or nobody would wait any longer, or it is `enough`.
fn drive(system: &mut System, clients: &mut [&mut Client], enough: impl Fn(&System) -> bool) {
    progress(system, clients);
    // Small steps first: times are read off them.
    let steps = [(1, 200), (10, 180), (100, 80), (1000, 50)];
    let pauses = steps.iter().flat_map(|(pause, times)| std::iter::repeat_n(*pause, *times));
    for pause in pauses.map(Duration::from_millis) {
        if enough(system) || clients.iter().all(|client| !client.is_at_work()) {
            return;
        }
        system.advance(pause);
        progress(system, clients);
    }
}

/// All that can be done while the clock stands still.
fn progress(system: &mut System, clients: &mut [&mut Client]) {
    loop {
        system.settle();
        let mut any = false;
        for client in &mut *clients {
            any |= client.step(system);
        }
        if !any {
            return;
        }
    }
}

/// What is there and should not be, now that nobody is.
fn left(system: &mut System) -> Vec<String> {
    let mut left = Vec::new();
    match system.report() {
        Some(report) if report.is_empty() => {}
        report => left.push(format!("left behind: {report:?}")),
    }
    let host = system.device.host();
    if (host.contexts(), host.resources()) != (0, 0) {
        let (contexts, resources) = (host.contexts(), host.resources());
        left.push(format!("left on the device: {contexts} contexts, {resources} resources"));
    }
    left
}

/// The rules that were broken, and what the device was told of that it does not know.
fn broken(system: &System) -> (Vec<String>, Vec<String>) {
    let (refused, wrong): (Vec<&Offence>, Vec<&Offence>) =
        system.device_offences().partition(|it| it.is_ignorance());
    let said = |it: &Offence| format!("at the device: {it}");
    let mut rules: Vec<String> = wrong.into_iter().map(said).collect();
    rules.extend(system.misconduct());
    if system.casualties().iter().any(|it| it.death == Death::Escalated) {
        rules.push("the daemon ended".into());
    }
    (rules, refused.into_iter().map(said).collect())
}

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Nothing => "nothing",
            Self::Error => "an error",
            Self::Lost => "its context is lost",
            Self::Silence => "no answer",
        })
    }
}
