//! A device that writes whatever it likes into its queues and answers.

use std::time::Duration;

use virgld_runtime::link::{LinkEvent, RegionId};
use virgld_testkit::clients::{Clients, Mood};
use virgld_testkit::device::FakeDevice;
use virgld_testkit::system::{System, SystemConfig};

use crate::Input;
use crate::targets::ioctls::judge;

/// Clients go about their work while the device lies; when that device is gone and an honest one is there, everything is
/// answered and nothing is left. No actor dies of it.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = u64::from(input.short());
    let mut system = System::new(&SystemConfig::default(), seed);
    let mut clients = Clients::new(seed, Mood::Stormy);
    for _ in 0..input.below(16) {
        clients.step(&mut system);
    }
    for _ in 0..MOST_STEPS {
        if input.is_used_up() {
            break;
        }
        match input.below(8) {
            0..=1 => clients.step(&mut system),
            2 => drop(system.device.take(input.below(8))),
            3 => drop(system.run()),
            4 if input.chance(64) => system.advance(Duration::from_millis(100 * u64::from(input.byte()))),
            _ => lie(&mut system.device, &mut input),
        }
    }
    system.device.die();
    system.outlast();
    clients.leave(&mut system);
    judge(&mut system, false);
}

const MOST_STEPS: usize = 300;

/// One lie of a device.
pub(super) fn lie(device: &mut FakeDevice, input: &mut Input<'_>) {
    let index = u16::from(input.chance(40));
    let Some(queue) = device.queue(index) else { return };
    // Outside of its memory a device writes nothing: then there is no lie.
    let _ = match input.below(9) {
        0 => queue.forge_used(input.number(), input.number()),
        1 => queue.forge_element(input.short(), input.number(), input.number()),
        2 => queue.forge_index(queue.used_index().wrapping_add(u16::from(input.byte()))),
        3 => queue.forge_index(input.short()),
        4 => queue.forge_flags(input.short()),
        5 => queue.forge_available_event(input.short()),
        6 => queue.scribble(usize::from(input.short()), input.bytes(8)),
        7 => {
            let (which, written, length) = (input.below(8), input.number(), input.below(48));
            device.answer_with(which, input.bytes(length), written);
            Ok(())
        }
        _ => {
            device.tell(event(input));
            Ok(())
        }
    };
    device.tell(LinkEvent::Interrupt { queue: index });
}

fn event(input: &mut Input<'_>) -> LinkEvent {
    match input.below(4) {
        0 => LinkEvent::Interrupt { queue: input.short() },
        1 => LinkEvent::ConfigurationChanged,
        2 => LinkEvent::RegionRefused { id: RegionId(u64::from(input.byte())), reason: "fuzz".into() },
        _ if input.chance(32) => LinkEvent::Down { reason: "fuzz".into() },
        _ => LinkEvent::ConfigurationChanged,
    }
}
