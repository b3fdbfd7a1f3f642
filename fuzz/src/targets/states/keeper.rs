//! Any messages to the device keeper.

use std::collections::BTreeSet;
use std::time::Duration;

use virgld_keeper::{Effect, State};
use virgld_protocol::message::keeper::Attempt;
use virgld_protocol::message::transport::{DeviceEvent, DeviceNews, Generation};
use virgld_runtime::{Intensity, Time};

use crate::Input;

/// It starts a device only where one is missing, at most as often as it may and once for each, and says once more only that
/// it gives up.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let intensity = Intensity { restarts: input.below(8), period: Duration::from_secs(30) };
    let (mut state, mut effects, mut now) = (State::new(intensity), Vec::new(), Time(1));
    let mut replaced = BTreeSet::new();
    while !input.is_used_up() {
        let mut missing = 0;
        let generation = Generation(input.below(6) as u64);
        let was_up = input.below(2) == 0;
        let news = match input.below(5) {
            0 => Some(DeviceNews::Up),
            1 => Some(DeviceNews::Lost { reason: "fuzz".into(), was_up }),
            2 => Some(DeviceNews::Away { reason: "fuzz".into(), was_up }),
            3 => {
                state.failed(now, Attempt(input.below(6) as u64), "fuzz".into(), &mut effects);
                None
            }
            _ => {
                missing = 1;
                now = now.after(Duration::from_millis(input.long() % 100_000));
                state.wake(now, &mut effects);
                None
            }
        };
        if let Some(news) = news {
            missing = usize::from(news != DeviceNews::Up && !replaced.contains(&generation));
            state.transport(now, DeviceEvent { generation, news }, &mut effects);
            if !effects.is_empty() {
                replaced.insert(generation);
            }
        }
        let starts = effects.iter().filter(|it| matches!(it, Effect::Start { .. })).count();
        assert!(starts <= missing, "started {starts} devices where {missing} was missing");
        assert!(effects.len() <= 1, "{effects:?}");
        effects.clear();
    }
}
