//! The device notices each rule that a driver breaks.

use std::sync::Arc;

use super::*;
use virgld_runtime::memory::{HeapMemory, Memory};

const SIZE: u16 = 4;
const DATA: u64 = 0x1000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A queue of four, written by hand: the table at 0, the available ring at 64, the used ring at 80, and data.
struct Hand {
    memory: Arc<HeapMemory>,
    queue: DeviceQueue,
    space: AddressSpace,
}

impl Hand {
    fn new(features: u64) -> Self {
        let memory = HeapMemory::new(512);
        let area = QueueArea { memory: memory.clone(), size: SIZE, descriptors: 0, available: 64, used: 80 };
        let mut space = AddressSpace::default();
        space.map(DATA, memory.clone());
        Self { memory, queue: DeviceQueue::new(area, features), space }
    }

    fn descriptor(&self, at: usize, address: u64, length: u32, flags: u16, next: u16) {
        self.memory.write(at, &address.to_le_bytes()).unwrap();
        self.memory.write(at + 8, &length.to_le_bytes()).unwrap();
        self.memory.write(at + 12, &flags.to_le_bytes()).unwrap();
        self.memory.write(at + 14, &next.to_le_bytes()).unwrap();
    }

    fn offer(&self, position: u16, head: u16) {
        self.memory.store_u16(68 + 2 * usize::from(position % SIZE), head).unwrap();
        self.memory.store_u16(66, position + 1).unwrap();
    }

    fn pop(&mut self) -> Result<Option<Request>, Offence> {
        self.queue.pop(&self.space)
    }
}

#[test]
fn a_chain_is_walked_and_answered() {
    let mut hand = Hand::new(0);
    hand.descriptor(16, DATA + 256, 3, NEXT, 3);
    hand.descriptor(48, DATA + 300, 2, NEXT | WRITE, 0);
    hand.descriptor(0, DATA + 310, 2, WRITE, 0);
    hand.memory.write(256, b"ask").unwrap();
    hand.offer(0, 1);
    let request = hand.pop().unwrap().unwrap();
    assert_eq!((request.head(), request.descriptor_count(), request.room()), (1, 3, 4));
    assert_eq!(request.read(&hand.space).unwrap(), b"ask");
    assert_eq!(request.write(&hand.space, b"yes").unwrap(), 3);
    hand.queue.push(request, 3).unwrap();
    let mut used = [0; 8];
    hand.memory.read(84, &mut used).unwrap();
    assert_eq!((used, hand.memory.load_u16(82).unwrap()), ([1, 0, 0, 0, 3, 0, 0, 0], 1));
    let mut answer = [0; 12];
    hand.memory.read(300, &mut answer).unwrap();
    assert_eq!((&answer[..2], answer[10]), (&b"ye"[..], b's'));
}

#[test]
fn broken_chains_are_named() {
    let offence = |flags: u16, next: u16, length: u32| {
        let mut hand = Hand::new(0);
        hand.descriptor(0, DATA, length, flags, next);
        hand.descriptor(16, DATA, 4, 0, 0);
        hand.offer(0, 0);
        hand.pop().err()
    };
    assert_eq!(offence(NEXT, 1, 4), None);
    assert_eq!(offence(NEXT, 0, 4), Some(Offence::Endless));
    assert_eq!(offence(NEXT, 4, 4), Some(Offence::NoSuchDescriptor { index: 4, size: 4 }));
    assert_eq!(offence(NEXT | WRITE, 1, 4), Some(Offence::OutOfOrder));
    assert_eq!(offence(0, 0, 0), Some(Offence::EmptySegment));
    assert_eq!(offence(INDIRECT, 0, 16), Some(Offence::Indirect));
}

#[test]
fn tables_are_checked() {
    let offence = |flags: u16, length: u32, inner: u16, next: u16| {
        let mut hand = Hand::new(INDIRECT_DESC);
        hand.descriptor(0, DATA + 256, length, INDIRECT | flags, 0);
        hand.descriptor(256, DATA, 4, inner, next);
        hand.descriptor(272, DATA, 4, WRITE, 0);
        hand.offer(0, 0);
        hand.pop().err()
    };
    assert_eq!(offence(0, 32, NEXT, 1), None);
    assert_eq!(offence(NEXT, 32, NEXT, 1), Some(Offence::Indirect));
    assert_eq!(offence(0, 24, NEXT, 1), Some(Offence::Indirect));
    assert_eq!(offence(0, 32, INDIRECT, 0), Some(Offence::Indirect));
    assert_eq!(offence(0, 32, NEXT, 0), Some(Offence::Endless));
    assert_eq!(offence(0, 80, NEXT, 1), Some(Offence::Endless));
    assert_eq!(offence(0, 32, NEXT, 2), Some(Offence::NoSuchDescriptor { index: 2, size: 2 }));
}

#[test]
fn what_the_device_holds_may_not_be_offered_again() {
    let mut hand = Hand::new(0);
    hand.descriptor(0, DATA, 4, 0, 0);
    hand.offer(0, 0);
    let request = hand.pop().unwrap().unwrap();
    hand.offer(1, 0);
    assert_eq!(hand.pop().err(), Some(Offence::Reused { index: 0 }));
    hand.queue.push(request, 0).unwrap();
    assert!(hand.pop().unwrap().is_some());
}

#[test]
fn an_available_index_cannot_outrun_the_ring() {
    let mut hand = Hand::new(0);
    hand.offer(4, 0);
    assert_eq!(hand.pop().err(), Some(Offence::IndexJump { from: 0, to: 5 }));
}

#[test]
fn event_indices_forbid_flags() {
    let mut hand = Hand::new(EVENT_IDX);
    hand.memory.store_u16(64, 1).unwrap();
    assert_eq!(hand.queue.wants_interrupt(), Err(Offence::Flags { flags: 1 }));
}

#[test]
fn addresses_outside_the_space_are_named() {
    let mut hand = Hand::new(0);
    assert_eq!(hand.space.read(DATA + 510, &mut [0; 4]), Err(Unmapped { address: DATA + 510, length: 4 }));
    assert_eq!(hand.space.write(DATA - 1, &[0]), Err(Unmapped { address: DATA - 1, length: 1 }));
    hand.space.unmap(DATA);
    assert_eq!(hand.space.write(DATA, &[0]), Err(Unmapped { address: DATA, length: 1 }));
}
