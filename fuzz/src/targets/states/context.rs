//! Any messages to a context.

use std::collections::BTreeMap;
use std::time::Duration;

use virgld_context::{Effect, State};
use virgld_protocol::ids::{RingIndex, Serial};
use virgld_protocol::message::context::{Request, Submit};
use virgld_protocol::message::ctrlq::{Blame, ContextCommand, ContextEvent, DebugName};
use virgld_protocol::message::scheme::{ContextNotice, Reached};
use virgld_runtime::Time;

use super::{outcome, resource, transfer};
use crate::Input;

#[derive(Default)]
struct Watch {
    /// Work that was begun, and how often it was said to be complete.
    work: BTreeMap<Serial, u32>,
    reached: Reached,
    destroyed: bool,
    finished: bool,
}

/// Whatever the control queue says: work is complete once, what was reached is not taken back, and after its farewell the
/// context asks nothing more of the device.
pub(in crate::targets) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let wild = input.flag();
    let (mut state, mut effects, mut now) = (State::default(), Vec::new(), Time(1));
    let mut watch = Watch::default();
    let (mut serial, mut open, mut closed) = (0, false, false);
    while !input.is_used_up() {
        match input.below(12) {
            0 if wild || !open && !closed => {
                open = true;
                let capset = input.number();
                state.request(now, Request::Open { name: DebugName::new("fuzz"), capset }, &mut effects);
            }
            1 if wild || open && input.chance(32) => {
                (open, closed) = (false, true);
                state.request(now, Request::Close, &mut effects);
            }
            2..=5 if wild || open => {
                serial += 1;
                let given = if wild { input.long() } else { serial };
                let it = request(&mut input, Serial(given));
                if let Request::Submit(Submit { serial, .. }) | Request::Skip { serial } = &it {
                    watch.work.insert(*serial, 0);
                } else if let Request::Transfer(transfer) = &it {
                    watch.work.insert(transfer.serial, 0);
                }
                state.request(now, it, &mut effects);
            }
            6 if wild || open => {
                let (serial, result) = (chosen(&mut input, serial), outcome(&mut input));
                state.request(now, Request::Release { serial, result }, &mut effects);
            }
            7 if wild || open => {
                let serial = chosen(&mut input, serial);
                state.request(now, Request::Await { serial }, &mut effects);
            }
            8..=10 => {
                let event = event(&mut input, serial);
                state.control(now, event, &mut effects);
            }
            _ => {
                now = now.after(Duration::from_millis(u64::from(input.byte())));
                state.wake(now, &mut effects);
            }
        }
        effects.drain(..).for_each(|effect| watch.check(wild, effect));
    }
}

impl Watch {
    fn check(&mut self, wild: bool, effect: Effect) {
        match effect {
            _ if wild => {}
            Effect::Control(ContextCommand::Destroy) => {
                assert!(!self.destroyed, "said goodbye twice");
                self.destroyed = true;
            }
            Effect::Control(command) => assert!(!self.destroyed, "{command:?} after the end"),
            Effect::Scheme(ContextNotice::Completed { serial, reached, .. }) => {
                let times = self.work.get_mut(&serial);
                let times = times.unwrap_or_else(|| panic!("{serial:?} was never begun"));
                *times += 1;
                assert_eq!(*times, 1, "{serial:?} is complete twice");
                self.reach(reached);
            }
            Effect::Scheme(ContextNotice::Reached(reached)) => self.reach(reached),
            Effect::Scheme(_) => {}
            Effect::Finish => self.finished = true,
        }
    }

    fn reach(&mut self, reached: Reached) {
        let before = std::mem::replace(&mut self.reached, reached);
        assert!(before.executed <= reached.executed && before.complete <= reached.complete);
        assert!(reached.complete <= reached.executed, "{reached:?}");
    }
}

fn chosen(input: &mut Input<'_>, last: u64) -> Serial {
    Serial(u64::from(input.byte()) % (last + 2))
}

fn request(input: &mut Input<'_>, serial: Serial) -> Request {
    match input.below(10) {
        0 => Request::Attach { resource: resource(input), backing: None, borrowed: input.flag() },
        1 => Request::Detach { resource: resource(input) },
        2 => Request::Skip { serial },
        3 => Request::Transfer(transfer(input, serial)),
        4 => Request::Revoke { resource: resource(input) },
        5 => Request::Forget { resource: resource(input) },
        _ => Request::Submit(Submit {
            stream: None,
            length: input.number(),
            ring: input.chance(32).then(|| RingIndex(input.byte())),
            serial,
            held: input.chance(64),
            fenced: input.flag(),
        }),
    }
}

fn event(input: &mut Input<'_>, last: u64) -> ContextEvent {
    let serial = chosen(input, last);
    match input.below(10) {
        0..=2 => ContextEvent::Completed { serial, result: outcome(input) },
        3..=4 => ContextEvent::Executed { serial, result: outcome(input) },
        5 => ContextEvent::Settled { serial, result: outcome(input) },
        6 => {
            let blame = [Blame::None, Blame::Shared, Blame::Sole];
            ContextEvent::Lost { blame: blame[usize::from(input.byte()) % blame.len()] }
        }
        7 => ContextEvent::Refused,
        8 => ContextEvent::Replayed { result: outcome(input) },
        _ => ContextEvent::Destroyed,
    }
}
