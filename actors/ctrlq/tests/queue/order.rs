//! What waits for memory keeps its order.

use proptest::prelude::*;
use virgld_protocol::device::Code;
use virgld_protocol::message::transport::{Event, Publish};

use crate::setup::{Desk, header, request};

#[test]
fn what_found_no_memory_goes_as_soon_as_there_is_some_and_in_order() {
    let mut desk = Desk::new(2);
    for resource in 1..6 {
        desk.unreference(resource);
    }
    let mut seen = Vec::new();
    loop {
        let published = desk.published();
        if published.is_empty() {
            break;
        }
        for publish in published {
            seen.push(request(&publish)[24]);
            desk.answer(publish, Code::OK_NO_DATA);
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

proptest! {
    /// Whatever the device does and in whatever order, every command is published in the order given and ends
    /// exactly once.
    #[test]
    fn every_command_ends_exactly_once(
        memory in 1_usize..6,
        steps in proptest::collection::vec((0_u8..6, any::<prop::sample::Index>()), 1..80),
    ) {
        let mut desk = Desk::new(memory).made(7);
        let (mut given, mut ended, mut order) = (0, Vec::new(), Vec::new());
        let mut held = Vec::new();
        for (what, which) in steps {
            match what {
                0..=2 => {
                    given += 1;
                    desk.submit(7, given);
                }
                3 if !held.is_empty() => {
                    let publish = held.swap_remove(which.index(held.len()));
                    desk.answer(publish, Code::OK_NO_DATA);
                }
                4 if !held.is_empty() => {
                    let publish: Publish = held.swap_remove(which.index(held.len()));
                    desk.tell(Event::Lost { cookie: publish.cookie });
                }
                5 => desk.wait(std::time::Duration::from_secs(2)),
                _ => {}
            }
            for publish in desk.published() {
                order.push(header(&publish).fence_id);
                held.push(publish);
            }
            ended.append(&mut desk.told());
        }
        prop_assert!(order.is_sorted());
        // The transport keeps the memory.
        for publish in &held {
            desk.tell(Event::Lost { cookie: publish.cookie });
        }
        desk.tell(Event::Down { reason: String::new() });
        // What was on its way when the device went comes back from the transport.
        for publish in desk.published() {
            desk.tell(Event::Lost { cookie: publish.cookie });
        }
        ended.append(&mut desk.told());
        let mut serials: Vec<u64> = ended
            .iter()
            .filter_map(|told| told.strip_prefix("context 7: ")?.split(' ').next()?.parse().ok())
            .collect();
        serials.sort_unstable();
        prop_assert_eq!(serials, (1..=given).collect::<Vec<_>>());
        prop_assert_eq!(desk.state.report().in_flight, 0);
        prop_assert_eq!(desk.state.report().fences, 0);
    }
}
