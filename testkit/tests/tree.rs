//! The supervision tree of the whole: what is started anew with what, and when that means another device.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end there")]

use std::time::Duration;

use virgld_faults::Plan;
use virgld_protocol::client::ResourceCreate;
use virgld_protocol::message::cursorq;
use virgld_protocol::message::scheme::Node;
use virgld_runtime::Death;
use virgld_runtime::fault::{Point, Rule, When, Wrong};
use virgld_testkit::system::{System, SystemConfig};

/// What actors are made to break off in the middle of, each so often.
fn plan(actor: &str, word: &str, times: u64) -> Plan {
    let (word, when) = (Some(word.into()), When::Every(1));
    let rule = Rule { actor: actor.into(), word, point: Point::Within, wrong: Wrong::Panic, when, times };
    Plan { seed: 1, faults: vec![rule], device: Vec::new() }
}

/// Has a client make a buffer and move a pointer, so that everybody has something to do.
fn work(system: &mut System) {
    let file = system.door.open(Node::Render);
    let asked = ResourceCreate { target: 2, width: 4, height: 4, size: 64, ..ResourceCreate::default() };
    system.door.call(file, &asked, &[]);
    system.pointer.send(cursorq::Request::Move { scanout: 0, position: (1, 1) }).unwrap();
    for _ in 0..4 {
        system.settle();
        system.advance(Duration::from_secs(1));
    }
    system.door.close(file);
    system.settle();
}

/// The actors that were started anew, each as often as it was; and how many devices were lost.
fn restarted(system: &mut System) -> (Vec<(&'static str, u64)>, u64) {
    let reports = system.supervisors();
    let children = reports.iter().flat_map(|it| it.children.clone()).filter(|(_, restarts)| *restarts > 0);
    (children.collect(), system.report().unwrap().keeper.losses)
}

#[test]
fn what_builds_on_a_step_that_broke_off_begins_anew_and_the_device_if_its_queues_are_in_doubt() {
    for (actor, word, with, losses) in [
        (
            "control queue",
            "Resource",
            &["control queue", "transport", "cursor queue", "device keeper"][..],
            1,
        ),
        ("transport", "Publish", &["transport", "cursor queue", "device keeper"], 1),
        ("cursor queue", "Display.Move", &["cursor queue", "device keeper"], 0),
        ("resource", "Scheme.Create", &["resource"], 0),
        ("scheme", "Door.Call", &["scheme"], 0),
    ] {
        let mut system = System::new(&SystemConfig::default(), 1);
        system.inject(&plan(actor, word, 1));
        work(&mut system);
        let expected: Vec<(&str, u64)> = with.iter().map(|name| (*name, 1)).collect();
        assert_eq!(restarted(&mut system), (expected, losses), "{actor}");
        assert!(system.report().unwrap().transport.up, "{actor}");
        assert_eq!(system.offences(), [""; 0], "{actor}");
    }
}

#[test]
fn a_supervisor_that_gives_up_is_begun_anew_by_the_one_above_it_and_the_highest_ends_all() {
    let mut system = System::new(&SystemConfig::default(), 1);
    // Of itself none of these costs the device; the sixth does.
    system.inject(&plan("cursor queue", "Display.Move", 6));
    for number in 1..=6 {
        system.pointer.send(cursorq::Request::Move { scanout: 0, position: (number, 1) }).unwrap();
        system.settle();
        system.advance(Duration::from_secs(1));
        let restarts: Vec<_> = system.supervisors().iter().map(|it| (it.name, it.restarts)).collect();
        let expected = if number < 6 { (0, u64::from(number)) } else { (1, 5) };
        assert_eq!(restarts, [("daemon", expected.0), ("device", expected.1), ("contexts", 0)]);
        assert_eq!(system.report().unwrap().keeper.losses, u64::from(number == 6), "after {number}");
    }
    assert!(system.casualties().iter().all(|it| it.death == Death::Restarted));

    let mut system = System::new(&SystemConfig::default(), 1);
    system.inject(&plan("cursor queue", "Display.Move", 99));
    for number in 1..99 {
        if system.pointer.send(cursorq::Request::Move { scanout: 0, position: (number, 1) }).is_err() {
            break;
        }
        system.run();
    }
    // Five restarts under `device`, and so again after each of the five times that it is begun anew.
    assert_eq!(system.casualties().len(), 5 + 6 * 5 + 1);
    let last = system.casualties().last().unwrap();
    assert_eq!((last.name, last.death), ("cursor queue", Death::Escalated));
    let what = &last.fault.what;
    assert!(what.contains("under device, more than 5 restarts within 30s under daemon"), "{what}");
    assert!(system.report().is_none(), "nobody is left");
}
