//! Any messages to the cursor queue.

use virgld_cursorq::{Effect, State};
use virgld_protocol::message::cursorq::Request;
use virgld_protocol::message::transport::{CURSOR_QUEUE, Event, Publish};
use virgld_runtime::dma::SizeClass;

use super::{pool, resource};
use crate::Input;

const MOST_IN_FLIGHT: usize = 2;

/// It never has more at the device than two commands, and all of them on its own queue.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let wild = input.flag();
    let mut state = State::new(pool(&[SizeClass { size: 128, count: 4 }]));
    let (mut effects, mut held): (_, Vec<Publish>) = (Vec::new(), Vec::new());
    let (mut up, mut before) = (false, 0);
    while !input.is_used_up() {
        match input.below(6) {
            0 => {
                let (position, hotspot) =
                    ((input.number(), input.number()), (input.number(), input.number()));
                let (scanout, image) = (input.number(), resource(&mut input));
                state.request(Request::Update { scanout, position, image, hotspot }, &mut effects);
            }
            1 => {
                let (scanout, position) = (input.number(), (input.number(), input.number()));
                state.request(Request::Move { scanout, position }, &mut effects);
            }
            2 if wild || !up => {
                (up, before) = (true, held.len());
                state.transport(
                    &Event::Up { features: input.long(), configuration: Vec::new() },
                    &mut effects,
                );
            }
            3 if wild || up => {
                up = false;
                state.transport(&Event::Down { reason: String::new() }, &mut effects);
                // Each command that the device had is told of as lost, before another device is up.
                for lost in held.drain(..) {
                    state.transport(&Event::Lost { cookie: lost.cookie }, &mut effects);
                }
            }
            4 if !held.is_empty() => {
                let Publish { cookie, slice, .. } = held.remove(input.below(held.len()));
                let written = input.number();
                state.transport(&Event::Returned { cookie, slice, written }, &mut effects);
            }
            5 if wild => state.transport(&Event::Lost { cookie: input.number() }, &mut effects),
            _ => state.transport(&Event::ConfigurationChanged, &mut effects),
        }
        for Effect::Publish(publish) in effects.drain(..) {
            assert_eq!(publish.queue, CURSOR_QUEUE);
            held.push(publish);
        }
        assert!(wild || held.len() <= before + MOST_IN_FLIGHT, "{} commands at the device", held.len());
        before = 0;
    }
}
