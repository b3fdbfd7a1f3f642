//! What the cursor queue tells the device, and what it leaves out.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use virgld_cursorq::{Effect, State};
use virgld_protocol::ids::ResourceId;
use virgld_protocol::message::cursorq::Request;
use virgld_protocol::message::transport::{CURSOR_QUEUE, Event, Publish};
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::memory::HeapMemory;

fn state() -> State {
    let pool = DmaPool::new(HeapMemory::new(4096), 0, 0, &[SizeClass { size: 256, count: 4 }]).unwrap();
    let mut state = State::new(pool);
    let up = Event::Up { features: 0, configuration: Vec::new() };
    state.transport(&up, &mut Vec::new());
    state
}

fn moved(x: u32) -> Request {
    Request::Move { scanout: 0, position: (x, 0) }
}

fn update(image: u32) -> Request {
    Request::Update { scanout: 0, position: (9, 9), image: ResourceId(image), hotspot: (1, 2) }
}

/// The command's code, and the x position that it names.
fn read(publish: &Publish) -> (u32, u32) {
    assert_eq!(publish.queue, CURSOR_QUEUE);
    let word = |at: u32| {
        let mut bytes = [0; 4];
        publish.slice.read((publish.request.0 + at) as usize, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    };
    (word(0), word(28))
}

/// Lets the device answer all it has, until nothing more comes.
fn drain(state: &mut State, mut effects: Vec<Effect>) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    while !effects.is_empty() {
        let mut more = Vec::new();
        for Effect::Publish(publish) in effects {
            seen.push(read(&publish));
            let returned = Event::Returned { cookie: publish.cookie, slice: publish.slice, written: 0 };
            state.transport(&returned, &mut more);
        }
        effects = more;
    }
    seen
}

#[test]
fn many_moves_collapse_to_the_newest() {
    let mut state = state();
    let mut effects = Vec::new();
    for x in 0..1000 {
        state.request(moved(x), &mut effects);
    }
    assert_eq!(drain(&mut state, effects), [(0x301, 0), (0x301, 1), (0x301, 999)]);
}

#[test]
fn an_update_replaces_the_moves_before_it_and_precedes_those_after() {
    let mut state = state();
    let mut effects = Vec::new();
    for request in [moved(1), moved(2), moved(3), update(7), moved(4)] {
        state.request(request, &mut effects);
    }
    assert_eq!(drain(&mut state, effects), [(0x301, 1), (0x301, 2), (0x300, 9), (0x301, 4)]);
}

#[test]
fn a_device_that_comes_back_is_told_the_newest() {
    let mut state = state();
    let mut effects = Vec::new();
    state.transport(&Event::Down { reason: String::new() }, &mut effects);
    state.request(update(7), &mut effects);
    assert!(effects.is_empty());
    state.transport(&Event::Up { features: 0, configuration: Vec::new() }, &mut effects);
    assert_eq!(drain(&mut state, effects), [(0x300, 9)]);
}

#[test]
fn a_move_names_the_image_again() {
    let mut state = state();
    let mut effects = Vec::new();
    state.request(update(7), &mut effects);
    state.request(moved(3), &mut effects);
    let named = |effect: &Effect| {
        let Effect::Publish(publish) = effect;
        let mut bytes = [0; 12];
        publish.slice.read((publish.request.0 + 40) as usize, &mut bytes).unwrap();
        bytes
    };
    let wanted = [7_u32, 1, 2].map(u32::to_le_bytes).concat();
    assert_eq!(effects.iter().map(named).collect::<Vec<_>>(), [&wanted[..], &wanted[..]]);
}
