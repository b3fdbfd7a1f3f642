//! Fault plans on the whole system, thousands of them, each made up from a seed.
//!
//! A run that fails says its seed. `SEED=<seed> cargo test -p virgld-testkit --test plans` runs that one alone, in each
//! of the tests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use virgld_faults::{DeviceRule, DeviceWrong, Plan, actors};
use virgld_runtime::Death;
use virgld_runtime::dma::SizeClass;
use virgld_runtime::fault::{Point, Rule, When, Wrong};
use virgld_testkit::Random;
use virgld_testkit::clients::{Clients, Mood};
use virgld_testkit::system::{System, SystemConfig};

fn for_seeds(count: u64, life: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("SEED") {
        return named(seed.parse().expect("SEED is a number"), &life);
    }
    (0..count).for_each(|seed| named(seed, &life));
}

/// Whatever panics, be it the system under test or what drives it: the seed is said.
fn named(seed: u64, life: impl Fn(u64)) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| life(seed))) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let what = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        panic!("seed {seed} (again: SEED={seed} cargo test -p virgld-testkit --test plans): {what}");
    }
}

fn verdict(plan: &Plan, what: &[String]) {
    assert!(what.is_empty(), "{}\n{plan:#?}", what.join("\n"));
}

#[test]
#[should_panic(expected = "seed 7 (again: SEED=7 cargo test -p virgld-testkit --test plans): of the harness")]
fn a_harness_that_panics_says_its_seed() {
    named(7, |_| panic!("of the harness"));
}

/// What must be so when all clients have left and the faults are over.
fn check_end(system: &mut System, clients: &Clients) -> Vec<String> {
    let mut wrong = clients.offences().to_vec();
    wrong.extend(check_rest(system));
    wrong
}

/// The same, where clients may be told anything.
fn check_rest(system: &mut System) -> Vec<String> {
    let mut wrong = system.offences();
    let report = system.report();
    if !report.as_ref().is_some_and(|report| report.is_empty()) {
        wrong.push(format!("left behind: {report:?}"));
    }
    let (unanswered, unsignalled) = (system.door.unanswered(), system.door.unsignalled());
    if (unanswered, unsignalled) != (0, 0) {
        wrong.push(format!("{unanswered} calls and {unsignalled} fences were never answered"));
    }
    let host = system.device.host();
    if (host.contexts(), host.resources()) != (0, 0) {
        wrong.push(format!(
            "left on the device: {} contexts, {} resources",
            host.contexts(),
            host.resources()
        ));
    }
    wrong
}

/// Lets clients live under a plan, and then without.
fn live(seed: u64, random: &mut Random, plan: &Plan, mood: Mood) -> (System, Clients) {
    live_on(seed, random, plan, mood, |_| ())
}

/// The same on a system that is made up in a way of its own.
fn live_on(
    seed: u64,
    random: &mut Random,
    plan: &Plan,
    mood: Mood,
    make_up: impl Fn(&mut System),
) -> (System, Clients) {
    let mut config = SystemConfig::default();
    let mut clients = Clients::new(seed, mood);
    if seed % 3 == 2 {
        // Contexts outlive their devices.
        config.journals = Some(1 << 20);
        config.small.push(SizeClass { size: 64 << 10, count: 2 });
        clients = clients.drawing();
    }
    let mut system = System::new(&config, seed);
    make_up(&mut system);
    system.inject(plan);
    for _ in 0..20 + random.below(80) {
        clients.step(&mut system);
    }
    (system, clients)
}

/// An actor that dies at its boundary and is started anew loses nothing, so nobody notices, whichever it is.
#[test]
fn actors_that_die_between_steps_cost_nobody_anything() {
    for_seeds(500, |seed| {
        let mut random = Random::new(seed);
        let lasting: Vec<_> = actors().into_iter().filter(|actor| actor.name != "context").collect();
        let mut rule = || {
            let actor = &lasting[random.below(lasting.len())];
            Rule {
                actor: actor.name.into(),
                word: random.chance(700).then(|| actor.words[random.below(actor.words.len())].into()),
                point: [Point::Before, Point::After, Point::Effect][random.below(3)],
                wrong: Wrong::Panic,
                when: When::Nth(1 + random.number() % 9),
                times: 1,
            }
        };
        let faults = vec![rule(), rule(), rule()];
        let plan = Plan { seed, faults, device: Vec::new() };
        let (mut system, mut clients) = live(seed, &mut random, &plan, Mood::Calm);
        clients.leave(&mut system);
        verdict(&plan, &check_end(&mut system, &clients));
        let struck: u64 = system.faults().iter().map(|account| account.struck).sum();
        let restarted = system.casualties().iter().filter(|it| it.death == Death::Restarted).count();
        assert!(struck == 0 || restarted > 0, "{struck} faults and no restart: {plan:#?}");
    });
}

/// One that breaks off in the middle of a step costs whom that was for, or the device. Nothing is left of it, and nobody
/// waits for ever.
#[test]
fn actors_that_die_in_the_middle_of_a_step_leave_nothing_behind() {
    for_seeds(500, |seed| {
        let mut random = Random::new(seed);
        let all = actors();
        let mut rule = || {
            let actor = &all[random.below(all.len())];
            Rule {
                actor: actor.name.into(),
                word: random.chance(700).then(|| actor.words[random.below(actor.words.len())].into()),
                point: Point::Within,
                wrong: Wrong::Panic,
                when: When::Nth(1 + random.number() % 30),
                times: 1,
            }
        };
        let plan = Plan { seed, faults: vec![rule(), rule(), rule()], device: Vec::new() };
        let (mut system, mut clients) = live(seed, &mut random, &plan, Mood::Stormy);
        system.calm();
        clients.leave(&mut system);
        verdict(&plan, &check_rest(&mut system));
    });
}

/// A context's death costs its own file alone.
#[test]
fn a_context_that_dies_costs_its_file_alone() {
    for_seeds(300, |seed| {
        let mut random = Random::new(seed);
        let point = [Point::Before, Point::After, Point::Effect][random.below(3)];
        let wrong = if random.chance(200) { Wrong::Hang } else { Wrong::Panic };
        let when = When::Nth(1 + random.number() % 40);
        let rule = Rule { actor: "context".into(), word: None, point, wrong, when, times: 1 };
        let plan = Plan { seed, faults: vec![rule], device: Vec::new() };
        let (mut system, mut clients) = live(seed, &mut random, &plan, Mood::Calm);
        clients.leave(&mut system);
        verdict(&plan, &check_end(&mut system, &clients));
    });
}

/// Messages that come late, out of order or twice, answers that turn bad, requests that are refused: what fails says
/// so, and nothing is left.
#[test]
fn words_that_suffer_on_their_way_leave_nothing_behind() {
    for_seeds(400, |seed| {
        let mut random = Random::new(seed);
        let all = actors();
        let mut rule = || {
            let actor = &all[random.below(all.len())];
            let delay = Wrong::Delay(Duration::from_millis(1 + random.number() % 300));
            Rule {
                actor: actor.name.into(),
                word: None,
                point: Point::Before,
                wrong: [delay, Wrong::Corrupt, Wrong::Refuse, Wrong::Duplicate][random.below(4)],
                when: When::Every(3 + random.number() % 30),
                times: 1 + random.number() % 4,
            }
        };
        let plan = Plan { seed, faults: vec![rule(), rule()], device: Vec::new() };
        let (mut system, mut clients) = live(seed, &mut random, &plan, Mood::Stormy);
        system.calm();
        clients.leave(&mut system);
        let mut wrong = check_rest(&mut system);
        if plan.faults.iter().any(|it| it.actor == "control queue" && it.wrong == Wrong::Corrupt) {
            // An answer that turned bad said that there is no such context, and the device has it all the same: nobody takes
            // a buffer from a context that there is not.
            wrong.retain(|it| !it.contains("went while attached to context"));
        }
        verdict(&plan, &wrong);
    });
}

/// However late, out of order, or often the keeper hears of a device: each that is lost is replaced, once, and none that
/// is there.
#[test]
fn a_device_is_replaced_once_however_its_loss_is_told() {
    for_seeds(300, |seed| {
        let mut random = Random::new(seed);
        let mut rule = || {
            let delay = Wrong::Delay(Duration::from_millis(1 + random.number() % 12_000));
            let wrong = [delay, Wrong::Reorder, Wrong::Duplicate][random.below(3)];
            let when = When::Every(1 + random.number() % 3);
            Rule { actor: "device keeper".into(), word: None, point: Point::Before, wrong, when, times: 9 }
        };
        let faults = vec![rule(), rule()];
        let deaths = 1 + random.number() % 3;
        let mut death = || {
            let when = Some(When::Nth(1 + random.number() % 80));
            DeviceRule { wrong: DeviceWrong::Death, when, after: None, times: 1 }
        };
        let plan = Plan { seed, faults, device: (0..deaths).map(|_| death()).collect() };
        // While one hangs, the transport says again and again that the one before is away.
        let hang = [0, 1, 2][random.below(3)];
        let (mut system, mut clients) = live_on(seed, &mut random, &plan, Mood::Stormy, |system| {
            system.stall_heirs_at_regions(hang);
        });
        system.outlast();
        let died = system.device_struck() + u64::from(hang);
        system.calm();
        clients.leave(&mut system);
        let mut wrong = check_rest(&mut system);
        let report = system.report();
        let (losses, up) = report.map_or((0, false), |it| (it.keeper.losses, it.transport.up));
        let heirs = system.heirs();
        // One may be struck twice before another takes its place.
        if heirs != losses || losses > died || (died > u64::from(hang) && losses == 0) || !up {
            wrong.push(format!("{died} deaths, {losses} losses, {heirs} devices started; up: {up}"));
        }
        verdict(&plan, &wrong);
    });
}

/// Each fault of the device, alone and with others.
#[test]
fn whatever_the_device_does_wrong_files_go_on_and_nothing_is_left() {
    for_seeds(150, |seed| {
        let mut random = Random::new(seed);
        let mut rule = || {
            let wrong = match DeviceWrong::ALL[random.below(DeviceWrong::ALL.len())].1 {
                DeviceWrong::LateResponse(_) => DeviceWrong::LateResponse(Duration::from_millis(700)),
                wrong => wrong,
            };
            DeviceRule { wrong, when: Some(When::Nth(1 + random.number() % 60)), after: None, times: 1 }
        };
        let plan = Plan { seed, faults: Vec::new(), device: vec![rule(), rule()] };
        let (mut system, mut clients) = live(seed, &mut random, &plan, Mood::Stormy);
        system.calm();
        clients.leave(&mut system);
        verdict(&plan, &check_end(&mut system, &clients));
    });
}
