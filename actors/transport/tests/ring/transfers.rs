//! Honest devices: what goes in comes out.

use virgld_testkit::queue::DeviceQueue;
use virgld_transport::ring::{Chain, Refused, RingFeatures, Segment, Table, Used};

use crate::setup::{ALL, Bench, NONE, SLICE_SIZE, Shape, combinations, publish};

#[test]
fn a_command_is_read_answered_and_returned() {
    for features in combinations() {
        let mut bench = Bench::new(8, features);
        let slice = bench.memory.pool.take(SLICE_SIZE).unwrap();
        let shape = Shape { readable: vec![5, 11], writable: vec![3, 2, 40], table: true };
        publish(&mut bench.ring, &slice, &shape, 77).unwrap();
        assert_eq!(bench.device.available(), Ok(0), "visible before the flush");
        assert_eq!(bench.ring.flush(), Ok(true));
        let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
        assert_eq!(request.read(&bench.memory.space).unwrap(), shape.request(77));
        assert_eq!((request.readable().len(), request.writable().len(), request.room()), (2, 3, 45));
        let written = request.write(&bench.memory.space, b"answer").unwrap();
        bench.device.push(request, written).unwrap();
        assert_eq!(bench.ring.pop(), Ok(Some(Used { cookie: 77, written: 6, claimed: 6 })));
        assert_eq!(bench.ring.pop(), Ok(None));
        let mut answer = [0; 6];
        slice.read(128 + 16, &mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
}

#[test]
fn a_table_makes_one_descriptor_of_many_segments() {
    let shape = Shape { readable: vec![1, 2, 3], writable: vec![4], table: true };
    let used = |features: RingFeatures, shape: &Shape| {
        let mut bench = Bench::new(8, features);
        let slice = bench.memory.pool.take(SLICE_SIZE).unwrap();
        publish(&mut bench.ring, &slice, shape, 0).unwrap();
        bench.ring.flush().unwrap();
        let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
        assert_eq!(request.descriptor_count(), usize::from(8 - bench.ring.free()));
        request.descriptor_count()
    };
    assert_eq!(used(RingFeatures::INDIRECT_DESC, &shape), 1);
    assert_eq!(used(NONE, &shape), 4);
    assert_eq!(used(ALL, &Shape { table: false, ..shape }), 4);
    assert_eq!(used(ALL, &Shape { readable: vec![9], writable: vec![], table: true }), 1);
}

#[test]
fn a_full_ring_refuses_and_recovers() {
    let mut bench = Bench::new(4, NONE);
    let slices = [bench.publish(1).unwrap(), bench.publish(2).unwrap()];
    assert_eq!(bench.publish(3).err(), Some(Refused::Full { needed: 2, free: 0 }));
    bench.ring.flush().unwrap();
    let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
    bench.device.push(request, 0).unwrap();
    assert_eq!(bench.ring.pop().unwrap().unwrap().cookie, 1);
    assert!(bench.publish(3).is_ok());
    drop(slices);
}

#[test]
fn impossible_chains_are_refused_and_change_nothing() {
    let mut bench = Bench::new(4, ALL);
    let slice = bench.memory.pool.take(SLICE_SIZE).unwrap();
    let segment = Segment::of(&slice, 0, 8).unwrap();
    let empty = Segment { length: 0, ..segment };
    let huge = Segment { length: u32::MAX, ..segment };
    let at = |offset| Some(Table { slice: &slice, offset });
    let cases = [
        (Chain { readable: &[], writable: &[], table: None }, Refused::NoSegments),
        (
            Chain { readable: &[segment; 3], writable: &[segment; 2], table: at(0) },
            Refused::TooManySegments { segments: 5, limit: 4 },
        ),
        (
            Chain { readable: &[segment], writable: &[empty], table: at(0) },
            Refused::EmptySegment { index: 1 },
        ),
        (Chain { readable: &[segment], writable: &[huge], table: at(0) }, Refused::TooLong),
        (Chain { readable: &[], writable: &[huge, segment], table: None }, Refused::TooLong),
    ];
    for (chain, refused) in cases {
        assert_eq!(bench.ring.publish(&chain, 0), Err(refused));
    }
    for offset in [SLICE_SIZE - 31, SLICE_SIZE, usize::MAX] {
        let chain = Chain { readable: &[segment; 2], writable: &[], table: at(offset) };
        assert!(matches!(bench.ring.publish(&chain, 0), Err(Refused::Table(_))));
    }
    assert_eq!((bench.ring.free(), bench.ring.in_flight(), bench.ring.fault()), (4, 0, None));
    assert_eq!(bench.ring.flush(), Ok(false));
    let largest = Segment { length: u32::MAX - 8, ..segment };
    let chain = Chain { readable: &[segment], writable: &[largest], table: at(SLICE_SIZE - 32) };
    assert!(bench.ring.publish(&chain, 0).is_ok());
}

#[test]
fn a_segment_stays_inside_its_slice() {
    let mut bench = Bench::new(4, ALL);
    let slice = bench.memory.pool.take(SLICE_SIZE).unwrap();
    let segment = Segment::of(&slice, SLICE_SIZE - 4, 4).unwrap();
    assert_eq!(segment, Segment { address: slice.address() + SLICE_SIZE as u64 - 4, length: 4 });
    assert!(Segment::of(&slice, SLICE_SIZE - 4, 5).is_err());
    assert!(Segment::of(&slice, usize::MAX, 2).is_err());
}

#[test]
fn cookies_come_back_in_the_devices_order() {
    let mut bench = Bench::new(8, ALL);
    let slices: Vec<_> = (0..4).map(|cookie| bench.publish(cookie).unwrap()).collect();
    bench.ring.flush().unwrap();
    let mut held: Vec<_> =
        slices.iter().map(|_| bench.device.pop(&bench.memory.space).unwrap().unwrap()).collect();
    for index in [2, 0, 1, 0] {
        bench.device.push(held.remove(index), 0).unwrap();
    }
    let order: Vec<u32> = std::iter::from_fn(|| bench.ring.pop().unwrap()).map(|used| used.cookie).collect();
    assert_eq!(order, [2, 0, 3, 1]);
}

#[test]
fn an_exaggerated_length_is_clamped_and_shown() {
    let mut bench = Bench::new(4, ALL);
    let _slice = bench.publish(9).unwrap();
    bench.ring.flush().unwrap();
    let request = bench.device.pop(&bench.memory.space).unwrap().unwrap();
    bench.device.push(request, 17).unwrap();
    let used = bench.ring.pop().unwrap().unwrap();
    assert_eq!((used.written, used.claimed, used.exaggerated()), (16, 17, true));
}

#[test]
fn many_chains_cost_one_kick() {
    let mut bench = Bench::new(8, ALL);
    let mut slices: Vec<_> = (0..3).map(|cookie| bench.publish(cookie).unwrap()).collect();
    assert_eq!(bench.ring.flush(), Ok(true));
    assert_eq!(bench.ring.flush(), Ok(false), "nothing new");
    slices.push(bench.publish(3).unwrap());
    assert_eq!(bench.ring.flush(), Ok(false), "the device is awake");
    while bench.device.pop(&bench.memory.space).unwrap().is_some() {}
    bench.device.ask_for_kick().unwrap();
    slices.push(bench.publish(4).unwrap());
    assert_eq!(bench.ring.flush(), Ok(true));
}

#[test]
fn without_event_indices_the_flags_speak() {
    let mut bench = Bench::new(8, NONE);
    let mut slices = vec![bench.publish(0).unwrap()];
    assert_eq!(bench.ring.flush(), Ok(true));
    bench.device.refuse_kicks().unwrap();
    slices.push(bench.publish(1).unwrap());
    assert_eq!(bench.ring.flush(), Ok(false));
    bench.device.ask_for_kick().unwrap();
    slices.push(bench.publish(2).unwrap());
    assert_eq!(bench.ring.flush(), Ok(true));
    answer_one(&mut bench.device, &bench.memory.space);
    assert_eq!(bench.device.wants_interrupt(), Ok(true));
    bench.ring.disarm().unwrap();
    answer_one(&mut bench.device, &bench.memory.space);
    assert_eq!(bench.device.wants_interrupt(), Ok(false));
}

#[test]
fn arming_asks_for_one_interrupt_and_sees_what_came_before() {
    for features in combinations() {
        let mut bench = Bench::new(8, features);
        let _slices: Vec<_> = (0..3).map(|cookie| bench.publish(cookie).unwrap()).collect();
        bench.ring.flush().unwrap();
        bench.ring.disarm().unwrap();
        answer_one(&mut bench.device, &bench.memory.space);
        assert_eq!(bench.device.wants_interrupt(), Ok(false));
        assert_eq!(bench.ring.arm(), Ok(false), "an element is there");
        assert!(bench.ring.pop().unwrap().is_some());
        assert_eq!(bench.ring.arm(), Ok(true));
        answer_one(&mut bench.device, &bench.memory.space);
        assert_eq!(bench.device.wants_interrupt(), Ok(true));
        answer_one(&mut bench.device, &bench.memory.space);
        let merged = features.contains(RingFeatures::EVENT_IDX);
        assert_eq!(bench.device.wants_interrupt(), Ok(!merged));
    }
}

fn answer_one(device: &mut DeviceQueue, space: &virgld_testkit::queue::AddressSpace) {
    let request = device.pop(space).unwrap().unwrap();
    device.push(request, 0).unwrap();
}
