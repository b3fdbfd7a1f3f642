//! Devices that hang where nobody waits for a command: nothing waits for them for ever.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end there")]

use std::time::Duration;

use virgld_protocol::client::ResourceCreate;
use virgld_protocol::message::scheme::Node;
use virgld_runtime::Death;
use virgld_testkit::door::Answer;
use virgld_testkit::system::{System, SystemConfig};

const A_SECOND: Duration = Duration::from_secs(1);

/// A system with a client that has a buffer, and so a region that each device must have.
fn system_with_a_region() -> System {
    let mut system = System::new(&SystemConfig::default(), 1);
    assert_eq!(create(&mut system, 1).and_then(|it| it.errno()), None);
    system
}

/// Has a client of its own make a buffer. Gives the answer that it has within so many seconds.
fn create(system: &mut System, seconds: u32) -> Option<Answer> {
    let file = system.door.open(Node::Render);
    let (width, height) = (4, 4);
    let asked = ResourceCreate { target: 2, width, height, size: 64, ..ResourceCreate::default() };
    let token = system.door.call(file, &asked, &[]);
    for _ in 0..seconds {
        system.settle();
        system.advance(A_SECOND);
    }
    system.door.answer(token)
}

fn is_up(system: &mut System) -> bool {
    system.report().unwrap().transport.up
}

fn pass(system: &mut System, seconds: u32) {
    for _ in 0..seconds {
        system.settle();
        system.advance(A_SECOND);
    }
}

#[test]
fn a_device_that_hangs_when_it_is_given_the_memory_of_the_one_before_is_replaced() {
    let mut system = system_with_a_region();
    system.stall_heirs_at_regions(2);
    system.device.die();
    pass(&mut system, 9);
    assert!(!is_up(&mut system), "the first has still a second");
    pass(&mut system, 14);
    assert!(is_up(&mut system), "two have had ten seconds each");
    let report = system.report().unwrap();
    assert_eq!(report.keeper.losses, 3);
    let reason = report.keeper.last_reason.unwrap();
    assert!(reason.contains("has not answered for region"), "{reason}");
    assert!(create(&mut system, 1).unwrap().errno().is_none());
    assert!(system.offences().is_empty(), "{:?}", system.offences());
}

#[test]
fn a_device_that_hangs_when_a_client_needs_memory_is_replaced_and_the_client_gets_it_from_the_next() {
    let mut system = system_with_a_region();
    system.device.stall_at_regions();
    let answer = create(&mut system, 13);
    assert!(answer.unwrap().errno().is_none());
    let losses = system.report().unwrap().keeper.losses;
    assert_eq!(losses, 1);
}

#[test]
fn a_start_that_gets_lost_ends_the_daemon_after_a_minute_and_not_before() {
    let mut system = system_with_a_region();
    system.lose_starter();
    system.device.die();
    pass(&mut system, 59);
    assert!(system.casualties().is_empty(), "{:?}", system.casualties());
    pass(&mut system, 10);
    let casualties = system.casualties();
    assert!(
        matches!(casualties, [first, ..] if first.death == Death::Escalated && first.fault.what.contains("no device could be had")),
        "{casualties:?}"
    );
}
