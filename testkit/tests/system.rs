//! Thousands of short lives of the whole system, each decided by a seed.
//!
//! A run that fails says its seed. `SEED=<seed> cargo test -p virgld-testkit --test system` runs that one alone,
//! in each of the tests.

use std::time::Duration;

use virgld_protocol::client::ResourceCreate;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::scheme::Node;
use virgld_protocol::virgl::{ObjectKind, Verb, head};
use virgld_runtime::dma::SizeClass;
use virgld_testkit::Random;
use virgld_testkit::clients::{Clients, Mood};
use virgld_testkit::device::Temper;
use virgld_testkit::door::Submission;
use virgld_testkit::link::LinkConfig;
use virgld_testkit::system::{System, SystemConfig};
use zerocopy::IntoBytes;

/// Runs `life` for so many seeds, or for the one that the environment names.
fn for_seeds(count: u64, life: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("SEED") {
        return life(seed.parse().expect("SEED is a number"));
    }
    (0..count).for_each(life);
}

/// Fails the test with all that is needed to see it again.
fn verdict(seed: u64, what: &[String]) {
    assert!(
        what.is_empty(),
        "seed {seed} (again: SEED={seed} cargo test -p virgld-testkit --test system):\n{}",
        what.join("\n")
    );
}

/// A system whose shape depends on the seed: few or many places for regions, narrow or wide queues and pools.
fn config(random: &mut Random, temper: Temper) -> SystemConfig {
    let mut config = SystemConfig { temper, ..SystemConfig::default() };
    config.link =
        LinkConfig { places: 1 + random.below(10), queue_size: 8 << random.below(3), ..config.link };
    config.small[0].count = 8 + random.below(30);
    config.streams[0].count = 3 + random.below(12);
    config.resources.file.resources = 4 + random.below(12);
    config
}

/// Everything that must be so when all clients have left; a device that lives has only the regions that it had at
/// first.
fn check_end(system: &mut System, clients: &Clients, standing: Option<usize>) -> Vec<String> {
    let mut wrong = system.offences();
    wrong.extend_from_slice(clients.offences());
    let report = system.report();
    if !report.as_ref().is_some_and(|report| report.is_empty()) {
        wrong.push(format!("left behind: {report:?}"));
    }
    let (unanswered, unsignalled) = (system.door.unanswered(), system.door.unsignalled());
    if (unanswered, unsignalled) != (0, 0) {
        wrong.push(format!("{unanswered} calls and {unsignalled} fences were never answered"));
    }
    let host = system.device.host();
    let left = (host.contexts(), host.resources(), system.device.regions());
    if standing.is_some_and(|standing| left != (0, 0, standing)) {
        wrong.push(format!("left on the device, contexts, resources, regions: {left:?}"));
    }
    wrong
}

/// Slow devices that answer in another order than they were asked.
#[test]
fn whatever_clients_do_the_rules_are_kept_and_nothing_is_left() {
    for_seeds(700, |seed| {
        let mut random = Random::new(seed);
        let lost = if random.chance(300) { 300 } else { 0 };
        let temper = Temper { lost_interrupt: lost, ..Temper::default() };
        let mut system = System::new(&config(&mut random, temper), seed);
        let standing = system.device.regions();
        let mut clients = Clients::new(seed, Mood::Calm);
        for _ in 0..20 + random.below(100) {
            clients.step(&mut system);
        }
        clients.leave(&mut system);
        verdict(seed, &check_end(&mut system, &clients, Some(standing)));
    });
}

/// Devices that refuse commands, lie about lengths and leave out the mark of a fence: what fails is reported as
/// failed, and the driver still breaks no rule.
#[test]
fn a_device_that_refuses_and_lies_costs_only_what_it_refuses() {
    for_seeds(350, |seed| {
        let mut random = Random::new(seed);
        let mut rate = || if random.chance(500) { 100 } else { 0 };
        let temper = Temper {
            error: rate(),
            short: rate(),
            exaggerate: rate(),
            unmarked: rate(),
            lost_interrupt: rate(),
            refuse_region: rate(),
            forget: 0,
        };
        let mut system = System::new(&config(&mut random, temper), seed);
        let standing = system.device.regions();
        let mut clients = Clients::new(seed, Mood::Stormy);
        for _ in 0..20 + random.below(60) {
            clients.step(&mut system);
        }
        clients.leave(&mut system);
        verdict(seed, &check_end(&mut system, &clients, Some(standing)));
    });
}

/// Devices that forget commands: deadlines end them. What a device that never said so may still use is kept, and
/// goes with the device.
#[test]
fn a_device_that_forgets_commands_hangs_nobody() {
    for_seeds(300, |seed| {
        let mut random = Random::new(seed);
        let mut system = System::new(&config(&mut random, Temper::default()), seed);
        let standing = Some(system.device.regions());
        system.device.set_temper(Temper { forget: 60, ..Temper::default() });
        let mut clients = Clients::new(seed, Mood::Stormy);
        for _ in 0..20 + random.below(60) {
            clients.step(&mut system);
        }
        clients.leave(&mut system);
        system.device.die();
        system.outlast();
        verdict(seed, &check_end(&mut system, &clients, standing));
    });
}

/// Devices that die in the middle of it all, once or several times: what was under way fails, files and their buffers
/// stay, contexts made afterwards work, and in the end nothing is left on the last device.
#[test]
fn a_device_that_dies_fails_what_was_under_way_and_the_next_takes_its_place() {
    for_seeds(500, |seed| {
        let mut random = Random::new(seed);
        let mut config = config(&mut random, Temper::default());
        let mut clients = Clients::new(seed, Mood::Calm);
        if seed % 2 == 1 {
            // Contexts outlive their devices, or break off where there is no room for their journals.
            config.journals = Some(1 << (9 + random.below(8)));
            config.small.push(SizeClass { size: 64 << 10, count: 2 });
            clients = clients.drawing();
        }
        let mut system = System::new(&config, seed);
        let standing = Some(system.device.regions());
        for _ in 0..random.below(60) {
            clients.step(&mut system);
        }
        clients.expect_storms();
        let deaths = 1 + random.below(3);
        for _ in 0..deaths {
            system.device.die();
            for _ in 0..random.below(40) {
                clients.step(&mut system);
            }
            if random.chance(500) {
                system.advance(Duration::from_secs(1));
            }
        }
        clients.leave(&mut system);
        let mut wrong = check_end(&mut system, &clients, standing);
        let losses = system.report().map_or(0, |report| report.keeper.losses);
        if losses == 0 || losses > deaths as u64 {
            wrong.push(format!("{losses} devices counted as lost, of {deaths}"));
        }
        verdict(seed, &wrong);
    });
}

/// One whose command is the death of devices does not take others' contexts with it, and is given up itself.
#[test]
fn a_context_outlives_the_devices_that_another_kills() {
    let mut config = SystemConfig { journals: Some(1 << 20), ..SystemConfig::default() };
    config.small.push(SizeClass { size: 64 << 10, count: 2 });
    let mut system = System::new(&config, 1);
    let mut open = || {
        let file = system.door.open(Node::Render);
        let fixed =
            ResourceCreate { target: 2, width: 4, height: 4, size: 4096, ..ResourceCreate::default() };
        let token = system.door.call(file, &fixed, &[]);
        system.settle();
        let made = system.door.answer(token).and_then(|answer| answer.fixed::<ResourceCreate>());
        let made = made.expect("a resource is made");
        (file, made.bo_handle, made.res_handle)
    };
    let (victim, attacker) = (open(), open());
    let submit = |system: &mut System, (file, handle, resource): (FileId, u32, u32)| {
        let create = [head(Verb::CREATE_OBJECT, ObjectKind::SURFACE.0, 5), resource, resource, 1, 0, 0];
        let bind = [head(Verb::SET_FRAMEBUFFER_STATE, 0, 3), 1, 0, resource];
        let stream = [&create[..], &bind].concat();
        let what = Submission { stream: stream.as_bytes(), handles: &[handle], ..Submission::default() };
        system.door.submit(file, &what).expect("there is memory for a stream");
    };
    submit(&mut system, victim);
    system.settle();
    let state = |system: &mut System, file: FileId| {
        let report = system.report().expect("all actors answer");
        let found = report.scheme.files.iter().find(|it| it.file == file).expect("the file is open");
        (found.lost, found.revivals)
    };
    for _ in 0..6 {
        // The device takes it, and is at it when it dies.
        submit(&mut system, attacker);
        system.run();
        system.device.die();
        system.advance(Duration::from_millis(500));
        system.advance(Duration::from_millis(500));
        system.settle();
    }
    assert_eq!(state(&mut system, victim.0), (false, 6));
    assert_eq!(state(&mut system, attacker.0), (true, 3));
    assert_eq!(system.device.host().objects(1), 1, "the victim has what it had");
    assert_eq!(system.offences(), [""; 0]);
}
