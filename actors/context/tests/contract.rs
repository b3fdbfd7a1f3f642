//! What a context does with each message: a table.

use proptest::prelude::*;
use virgld_context::{Effect, State};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Serial};
use virgld_protocol::message::context::{Request, Submit};
use virgld_protocol::message::ctrlq::{ContextCommand, ContextEvent, DebugName};
use virgld_protocol::message::scheme::ContextNotice;

fn submit(serial: u64, held: bool) -> Request {
    Request::Submit(Submit { stream: None, length: 0, ring: None, serial: Serial(serial), held })
}

fn live() -> State {
    let mut state = State::default();
    let mut effects = Vec::new();
    state.request(Request::Open { name: DebugName::new("test"), capset: 0 }, &mut effects);
    assert!(matches!(effects[..], [Effect::Control(ContextCommand::Create { .. })]));
    state
}

fn names(effects: &[Effect]) -> Vec<String> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Control(ContextCommand::Submit { serial, .. }) => format!("submit {}", serial.0),
            Effect::Control(ContextCommand::Attach { resource }) => format!("attach {}", resource.0),
            Effect::Control(ContextCommand::Detach { resource }) => format!("detach {}", resource.0),
            Effect::Control(ContextCommand::Destroy) => "destroy".into(),
            Effect::Scheme(ContextNotice::Completed { serial, result, through }) => {
                format!("completed {} {} through {}", serial.0, result.is_ok(), through.0)
            }
            Effect::Scheme(ContextNotice::Detached { resource }) => format!("detached {}", resource.0),
            Effect::Scheme(ContextNotice::Ended) => "ended".into(),
            Effect::Scheme(ContextNotice::Lost) => "lost".into(),
            Effect::Finish => "finish".into(),
            other => format!("{other:?}"),
        })
        .collect()
}

fn run(state: &mut State, requests: Vec<Request>) -> Vec<String> {
    let mut effects = Vec::new();
    for request in requests {
        state.request(request, &mut effects);
    }
    names(&effects)
}

#[test]
fn work_behind_a_held_submit_waits_in_order() {
    let mut state = live();
    let resource = ResourceId(4);
    let seen = run(&mut state, vec![submit(1, true), Request::Detach { resource }, submit(2, false)]);
    assert!(seen.is_empty());
    let seen = run(&mut state, vec![Request::Release { serial: Serial(1), result: Ok(()) }]);
    assert_eq!(seen, ["submit 1", "detach 4", "detached 4", "submit 2"]);
}

#[test]
fn a_submit_whose_fence_failed_fails_alone() {
    let mut state = live();
    run(&mut state, vec![submit(1, true), submit(2, false)]);
    let seen = run(&mut state, vec![Request::Release { serial: Serial(1), result: Err(Errno::ETIMEDOUT) }]);
    assert_eq!(seen, ["completed 1 false through 1", "submit 2"]);
}

#[test]
fn a_lost_context_fails_its_work_and_says_so_once() {
    let mut state = live();
    let mut effects = Vec::new();
    state.control(ContextEvent::Lost, &mut effects);
    state.control(ContextEvent::Lost, &mut effects);
    assert_eq!(names(&effects), ["lost"]);
    assert_eq!(run(&mut state, vec![submit(1, false)]), ["completed 1 false through 1"]);
}

#[test]
fn closing_drops_what_is_held_and_leaves_the_device() {
    let mut state = live();
    let seen = run(&mut state, vec![submit(1, true), Request::Close]);
    assert_eq!(seen, ["completed 1 false through 1", "destroy", "ended"]);
    let mut effects = Vec::new();
    state.control(ContextEvent::Destroyed, &mut effects);
    assert_eq!(names(&effects), ["finish"]);
}

#[test]
fn a_context_that_never_opened_leaves_nothing() {
    assert_eq!(run(&mut State::default(), vec![Request::Close]), ["finish", "ended"]);
}

proptest! {
    /// However the device orders and repeats its answers, each piece of work completes exactly once, and the
    /// mark never goes back nor past what is incomplete.
    #[test]
    fn each_serial_completes_once(order in proptest::collection::vec(1_u64..20, 0..80)) {
        let mut state = live();
        run(&mut state, (1..20).map(|serial| submit(serial, false)).collect());
        let mut done = std::collections::BTreeSet::new();
        let mut mark = 0;
        for serial in order {
            let mut effects = Vec::new();
            state.control(ContextEvent::Completed { serial: Serial(serial), result: Ok(()) }, &mut effects);
            prop_assert_eq!(effects.len(), usize::from(done.insert(serial)));
            for effect in effects {
                if let Effect::Scheme(ContextNotice::Completed { through, .. }) = effect {
                    prop_assert!(through.0 >= mark);
                    mark = through.0;
                    prop_assert!((1..=mark).all(|serial| done.contains(&serial)));
                }
            }
        }
    }
}
