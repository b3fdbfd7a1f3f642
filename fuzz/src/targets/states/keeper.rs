//! Any messages to the device keeper.

use std::time::Duration;

use virgld_keeper::{Effect, State};
use virgld_protocol::message::transport::DeviceEvent;
use virgld_runtime::{Intensity, Time};

use crate::Input;

/// It starts a device only where one is missing, at most as often as it may, and says once more only that it gives up.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let intensity = Intensity { restarts: input.below(8), period: Duration::from_secs(30) };
    let (mut state, mut effects, mut now) = (State::new(intensity), Vec::new(), Time(1));
    while !input.is_used_up() {
        let mut missing = 0;
        match input.below(5) {
            0 => state.transport(now, DeviceEvent::Up, &mut effects),
            1 => {
                missing = 1;
                state.transport(now, DeviceEvent::Lost { reason: "fuzz".into() }, &mut effects);
            }
            2 => {
                missing = 1;
                state.transport(now, DeviceEvent::Away { reason: "fuzz".into() }, &mut effects);
            }
            3 => state.failed(now, "fuzz".into(), &mut effects),
            _ => {
                missing = 1;
                now = now.after(Duration::from_millis(input.long() % 100_000));
                state.wake(now, &mut effects);
            }
        }
        let starts = effects.iter().filter(|it| **it == Effect::Start).count();
        assert!(starts <= missing, "started {starts} devices where {missing} was missing");
        assert!(effects.len() <= 1, "{effects:?}");
        effects.clear();
    }
}
