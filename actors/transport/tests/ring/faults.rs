//! Each offence of a device, by name.

use std::collections::BTreeSet;

use virgld_transport::ring::{Refused, RingFault};

use crate::setup::{ALL, Bench, combinations};

/// A ring of eight with cookies 100 to 102 flushed, and what the device does to it.
fn offend(offence: impl Fn(&mut Bench)) -> RingFault {
    let faults = combinations().map(|features| {
        let mut bench = Bench::new(8, features);
        let slices: Vec<_> = (100..103).map(|cookie| bench.publish(cookie).unwrap()).collect();
        bench.ring.flush().unwrap();
        offence(&mut bench);
        let fault = bench.ring.pop().unwrap_err();
        stays_poisoned_until_reset(&mut bench, fault);
        drop(slices);
        fault
    });
    // Eight descriptors, two for each of three chains without tables: 0 and 7 mean the same in all four.
    assert_eq!(faults, [faults[0]; 4]);
    faults[0]
}

fn stays_poisoned_until_reset(bench: &mut Bench, fault: RingFault) {
    let held: BTreeSet<u32> = bench.ring.outstanding().collect();
    assert_eq!(held.len(), usize::from(bench.ring.in_flight()));
    assert_eq!(bench.ring.fault(), Some(fault));
    assert_eq!(bench.ring.pop(), Err(fault));
    assert_eq!(bench.ring.arm(), Err(fault));
    assert_eq!(bench.ring.disarm(), Err(fault));
    assert_eq!(bench.ring.flush(), Err(fault));
    assert_eq!(bench.publish(0).err(), Some(Refused::Fault(fault)));
    assert_eq!(bench.ring.outstanding().collect::<BTreeSet<u32>>(), held);
    bench.restart();
    assert_eq!((bench.ring.in_flight(), bench.ring.free(), bench.ring.fault()), (0, 8, None));
    let _slice = bench.publish(1).unwrap();
    assert_eq!(bench.ring.flush(), Ok(true));
    let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
    bench.device.push(request, 0).unwrap();
    assert_eq!(bench.ring.pop().unwrap().map(|used| used.cookie), Some(1));
}

#[test]
fn an_id_out_of_range() {
    for id in [8, 0xffff, 0x1_0000, u32::MAX] {
        assert_eq!(
            offend(|bench| bench.device.forge_used(id, 0).unwrap()),
            RingFault::UnknownId { id, size: 8 }
        );
    }
}

#[test]
fn an_id_that_is_free() {
    assert_eq!(offend(|bench| bench.device.forge_used(7, 0).unwrap()), RingFault::NotInFlight { id: 7 });
}

#[test]
fn an_id_inside_a_chain() {
    let mut bench = Bench::new(8, virgld_transport::ring::RingFeatures::EVENT_IDX);
    let _slice = bench.publish(5).unwrap();
    bench.ring.flush().unwrap();
    bench.device.forge_used(1, 0).unwrap();
    assert_eq!(bench.ring.pop(), Err(RingFault::NotInFlight { id: 1 }));
    assert_eq!(bench.ring.outstanding().collect::<Vec<_>>(), [5]);
}

#[test]
fn an_id_twice() {
    let fault = offend(|bench| {
        let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
        let head = u32::from(request.head());
        bench.device.push(request, 0).unwrap();
        assert_eq!(bench.ring.pop().unwrap().map(|used| used.cookie), Some(100));
        bench.device.forge_used(head, 0).unwrap();
    });
    assert_eq!(fault, RingFault::NotInFlight { id: 0 });
}

#[test]
fn an_id_twice_after_the_next_command_was_published() {
    let mut bench = Bench::new(8, ALL);
    let _first = bench.publish(1).unwrap();
    bench.ring.flush().unwrap();
    let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
    let head = u32::from(request.head());
    bench.device.push(request, 0).unwrap();
    bench.ring.pop().unwrap().unwrap();
    let _second = bench.publish(2).unwrap();
    bench.ring.flush().unwrap();
    bench.device.forge_used(head, 0).unwrap();
    assert_eq!(
        bench.ring.pop(),
        Err(RingFault::NotInFlight { id: 0 }),
        "the second command is not completed"
    );
}

#[test]
fn a_chain_before_it_was_shown() {
    let mut bench = Bench::new(8, ALL);
    let _slices = [bench.publish(1).unwrap(), bench.publish(2).unwrap()];
    bench.ring.flush().unwrap();
    let _hidden = bench.publish(3).unwrap();
    bench.device.forge_used(2, 0).unwrap();
    assert_eq!(bench.ring.pop(), Err(RingFault::NotYetAvailable { id: 2 }));
}

#[test]
fn an_index_beyond_what_the_device_holds() {
    let jump = |to| RingFault::IndexJump { from: 0, to, held: 3 };
    assert_eq!(offend(|bench| bench.device.forge_index(4).unwrap()), jump(4));
    assert_eq!(offend(|bench| bench.device.forge_index(u16::MAX).unwrap()), jump(u16::MAX));
    let mut bench = Bench::new(8, ALL);
    bench.device.forge_index(1).unwrap();
    assert_eq!(bench.ring.arm(), Err(RingFault::IndexJump { from: 0, to: 1, held: 0 }));
}

#[test]
fn an_index_over_chains_that_were_not_shown() {
    let mut bench = Bench::new(8, ALL);
    let _shown = bench.publish(1).unwrap();
    bench.ring.flush().unwrap();
    let _hidden = bench.publish(2).unwrap();
    bench.device.forge_index(2).unwrap();
    assert_eq!(bench.ring.pop(), Err(RingFault::IndexJump { from: 0, to: 2, held: 1 }));
}

#[test]
fn an_index_that_goes_back() {
    let mut bench = Bench::new(8, ALL);
    let _slices = [bench.publish(1).unwrap(), bench.publish(2).unwrap()];
    bench.ring.flush().unwrap();
    let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
    bench.device.push(request, 0).unwrap();
    bench.ring.pop().unwrap().unwrap();
    bench.device.forge_index(0).unwrap();
    assert_eq!(bench.ring.pop(), Err(RingFault::IndexJump { from: 1, to: 0, held: 1 }));
}

#[test]
fn a_fault_says_who_did_what_and_where_it_is_written() {
    let text = RingFault::UnknownId { id: 700, size: 256 }.to_string();
    assert_eq!(text, "the device used descriptor 700, but the queue has 256 (virtio 1.2, 2.7.8)");
}
