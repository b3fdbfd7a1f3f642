//! What a context does with each message: a table.

use proptest::prelude::*;
use virgld_context::{Effect, State};
use virgld_protocol::client::Box3d;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Serial};
use virgld_protocol::message::context::{Request, Submit};
use virgld_protocol::message::ctrlq::{
    Blame, ContextCommand, ContextEvent, DebugName, STREAM_OFFSET, Transfer,
};
use virgld_protocol::message::scheme::{ContextNotice, Reached};
use virgld_protocol::virgl::{ObjectKind, Verb, head};
use virgld_runtime::Time;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::memory::HeapMemory;

const START: Time = Time(0);
const LOST: ContextEvent = ContextEvent::Lost { blame: Blame::Sole };

fn submit(serial: u64, held: bool) -> Request {
    let serial = Serial(serial);
    Request::Submit(Submit { stream: None, length: 0, ring: None, serial, held, fenced: true })
}

fn unfenced(serial: u64) -> Request {
    let serial = Serial(serial);
    Request::Submit(Submit { stream: None, length: 0, ring: None, serial, held: false, fenced: false })
}

fn live() -> State {
    let mut state = State::default();
    let mut effects = Vec::new();
    state.request(START, Request::Open { name: DebugName::new("test"), capset: 0 }, &mut effects);
    assert!(matches!(effects[..], [Effect::Control(ContextCommand::Create { .. })]));
    state
}

fn names(effects: &[Effect]) -> Vec<String> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Control(ContextCommand::Submit { serial, fenced: true, .. }) => {
                format!("submit {}", serial.0)
            }
            Effect::Control(ContextCommand::Submit { serial, .. }) => format!("submit {} unfenced", serial.0),
            Effect::Control(ContextCommand::Fence { serial }) => format!("fence behind {}", serial.0),
            Effect::Control(ContextCommand::Attach { resource }) => format!("attach {}", resource.0),
            Effect::Control(ContextCommand::Detach { resource }) => format!("detach {}", resource.0),
            Effect::Control(ContextCommand::Destroy) => "destroy".into(),
            Effect::Scheme(ContextNotice::Completed { serial, result, reached }) => {
                format!("completed {} {} through {}", serial.0, result.is_ok(), reached.complete.0)
            }
            Effect::Scheme(ContextNotice::Reached(Reached { executed, complete })) => {
                format!("executed {} complete {}", executed.0, complete.0)
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
        state.request(START, request, &mut effects);
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

const LENT: ResourceId = ResourceId(4);

/// A context that may name a buffer of another's.
fn borrower() -> State {
    let mut state = live();
    let attach = Request::Attach { resource: LENT, backing: None, borrowed: true };
    assert_eq!(run(&mut state, vec![attach]), ["attach 4"]);
    state
}

/// A submit of these words.
fn stream(serial: u64, held: bool, words: &[u32]) -> Request {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let size = STREAM_OFFSET + bytes.len();
    let mut pool =
        DmaPool::new(HeapMemory::new(size), 0, 0, &[SizeClass { size, count: 1 }]).expect("it fits");
    let slice = pool.take(size).expect("it is free");
    slice.write(STREAM_OFFSET, &bytes).expect("it fits");
    let length = u32::try_from(bytes.len()).expect("it is short");
    Request::Submit(Submit {
        stream: Some(slice),
        length,
        ring: None,
        serial: Serial(serial),
        held,
        fenced: true,
    })
}

/// Words that make a view of a resource.
fn view(resource: u32) -> [u32; 7] {
    [head(Verb::CREATE_OBJECT, ObjectKind::SAMPLER_VIEW.0, 6), 9, resource, 0, 0, 0, 0]
}

fn copy(resource: u32) -> [u32; 14] {
    let mut words = [0; 14];
    (words[0], words[6]) = (head(Verb::RESOURCE_COPY_REGION, 0, 13), resource);
    words
}

const REVOKE: Request = Request::Revoke { resource: LENT };

#[test]
fn a_buffer_that_is_revoked_is_detached_and_a_context_that_has_nothing_of_it_goes_on() {
    let mut state = borrower();
    run(&mut state, vec![stream(1, false, &copy(4)), stream(2, false, &view(5))]);
    assert_eq!(run(&mut state, vec![REVOKE, submit(3, false)]), ["detach 4", "detached 4", "submit 3"]);
    // It is another's number by now.
    assert_eq!(run(&mut state, vec![REVOKE]), ["detached 4"]);
}

#[test]
fn a_context_that_has_something_of_what_is_revoked_leaves_the_device_and_its_file_is_told() {
    let detach = || Request::Detach { resource: LENT };
    let destroy = [head(Verb::DESTROY_OBJECT, ObjectKind::SAMPLER_VIEW.0, 1), 9];
    for before in [vec![], vec![detach()], vec![stream(2, false, &destroy), detach()]] {
        let mut state = borrower();
        run(&mut state, vec![stream(1, false, &view(4))]);
        run(&mut state, before);
        assert_eq!(run(&mut state, vec![REVOKE]), ["destroy", "Scheme(Expelled)", "lost", "detached 4"]);
        assert_eq!(run(&mut state, vec![submit(9, false)]), ["completed 9 false through 0"]);
        assert!(
            hear(&mut state, START, completed(1))[0].starts_with("completed 1 true"),
            "what the device had"
        );
        assert_eq!(hear(&mut state, START, LOST), [""; 0]);
    }
}

#[test]
fn a_context_that_has_left_the_device_leaves_it_once() {
    for left_before_it_closes in [true, false] {
        let mut state = borrower();
        run(&mut state, vec![stream(1, false, &view(4)), REVOKE]);
        let mut seen = Vec::new();
        if left_before_it_closes {
            seen.extend(hear(&mut state, START, ContextEvent::Destroyed));
            assert_eq!(seen, [""; 0]);
        }
        seen.extend(run(&mut state, vec![Request::Close]));
        if !left_before_it_closes {
            seen.extend(hear(&mut state, START, ContextEvent::Destroyed));
        }
        seen.sort();
        assert_eq!(seen, ["ended", "finish"]);
    }
}

#[test]
fn what_is_revoked_is_gone_at_once_whatever_waits() {
    // Its streams so far, and whether those that wait name what is revoked.
    for (waiting, named) in [(copy(4), true), (copy(5), false)] {
        let mut state = borrower();
        let detach = Request::Detach { resource: LENT };
        assert!(run(&mut state, vec![stream(1, true, &[]), stream(2, false, &waiting), detach]).is_empty());
        let seen = run(&mut state, vec![REVOKE]);
        if named {
            assert_eq!(seen, ["destroy", "Scheme(Expelled)", "lost", "detached 4"]);
        } else {
            assert_eq!(seen, ["detach 4", "detached 4"]);
            let release = Request::Release { serial: Serial(1), result: Ok(()) };
            assert_eq!(run(&mut state, vec![release]), ["submit 1", "submit 2"], "it was detached already");
        }
    }
}

#[test]
fn what_is_attached_only_later_is_not_attached_once_it_was_revoked() {
    let mut state = live();
    let attach = Request::Attach { resource: LENT, backing: None, borrowed: true };
    assert_eq!(run(&mut state, vec![submit(1, true), attach, REVOKE]), ["detached 4"]);
    let release = Request::Release { serial: Serial(1), result: Ok(()) };
    assert_eq!(run(&mut state, vec![release]), ["submit 1"]);
}

#[test]
fn a_number_that_is_another_buffers_says_nothing_of_the_one_before() {
    let mut state = borrower();
    let (detach, forget) = (Request::Detach { resource: LENT }, Request::Forget { resource: LENT });
    run(&mut state, vec![stream(1, false, &view(4)), detach, forget]);
    let attach = Request::Attach { resource: LENT, backing: None, borrowed: true };
    assert_eq!(run(&mut state, vec![attach, REVOKE]), ["attach 4", "detach 4", "detached 4"]);
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
    state.control(START, LOST, &mut effects);
    state.control(START, LOST, &mut effects);
    assert_eq!(names(&effects), ["lost"]);
    assert_eq!(run(&mut state, vec![submit(1, false)]), ["completed 1 false through 1"]);
}

#[test]
fn closing_drops_what_is_held_and_leaves_the_device() {
    let mut state = live();
    let seen = run(&mut state, vec![submit(1, true), Request::Close]);
    assert_eq!(seen, ["completed 1 false through 1", "destroy", "ended"]);
    let mut effects = Vec::new();
    state.control(START, ContextEvent::Destroyed, &mut effects);
    assert_eq!(names(&effects), ["finish"]);
}

#[test]
fn a_context_that_never_opened_leaves_nothing() {
    assert_eq!(run(&mut State::default(), vec![Request::Close]), ["finish", "ended"]);
}

fn hear(state: &mut State, now: Time, event: ContextEvent) -> Vec<String> {
    let mut effects = Vec::new();
    state.control(now, event, &mut effects);
    names(&effects)
}

fn executed(serial: u64) -> ContextEvent {
    ContextEvent::Executed { serial: Serial(serial), result: Ok(()) }
}

fn settled(serial: u64) -> ContextEvent {
    ContextEvent::Settled { serial: Serial(serial), result: Ok(()) }
}

fn completed(serial: u64) -> ContextEvent {
    ContextEvent::Completed { serial: Serial(serial), result: Ok(()) }
}

/// What the context does when its deadline has come.
fn wake(state: &mut State) -> Vec<String> {
    let mut effects = Vec::new();
    if let Some(deadline) = state.deadline() {
        state.wake(deadline, &mut effects);
    }
    names(&effects)
}

#[test]
fn work_that_nobody_waits_for_gets_a_fence_later() {
    let mut state = live();
    assert_eq!(run(&mut state, vec![unfenced(1), unfenced(2)]), ["submit 1 unfenced", "submit 2 unfenced"]);
    assert_eq!(hear(&mut state, START, executed(1)), ["executed 1 complete 0"]);
    assert_eq!(hear(&mut state, START, executed(2)), ["executed 2 complete 0"]);
    assert_eq!(wake(&mut state), ["fence behind 2"]);
    assert_eq!(wake(&mut state), [""; 0], "one is enough");
    assert_eq!(hear(&mut state, START, settled(2)), ["executed 2 complete 2"]);
}

/// The next submit carries it on, so that a program which goes on gets it with every ninth, and none between.
#[test]
fn the_fence_that_nobody_waits_for_is_put_off_while_work_comes() {
    let mut state = live();
    let mut effects = Vec::new();
    state.request(START, unfenced(1), &mut effects);
    let first = state.deadline().unwrap();
    state.request(Time(first.0 - 1), unfenced(2), &mut effects);
    effects.clear();
    state.wake(first, &mut effects);
    assert!(effects.is_empty());
    assert_eq!(state.deadline(), Some(Time(2 * first.0 - 1)));
    assert_eq!(wake(&mut state), ["fence behind 2"]);
}

#[test]
fn whoever_waits_gets_a_fence_at_once() {
    let mut state = live();
    run(&mut state, vec![unfenced(1)]);
    let wait = || Request::Await { serial: Serial(1) };
    assert_eq!(run(&mut state, vec![wait(), wait()]), ["fence behind 1"]);
    hear(&mut state, START, executed(1));
    hear(&mut state, START, settled(1));
    assert_eq!(run(&mut state, vec![wait()]), [""; 0], "it is complete");
    assert_eq!(state.deadline(), None);
}

#[test]
fn whoever_waits_for_held_work_gets_a_fence_with_it() {
    let mut state = live();
    let wait = Request::Await { serial: Serial(2) };
    assert_eq!(run(&mut state, vec![submit(1, true), unfenced(2), wait]), [""; 0]);
    let seen = run(&mut state, vec![Request::Release { serial: Serial(1), result: Ok(()) }]);
    assert_eq!(seen, ["submit 1", "submit 2"]);
}

#[test]
fn a_fence_comes_now_and_then_though_nobody_waits() {
    let mut state = live();
    let seen = run(&mut state, (1..=34).map(unfenced).collect());
    let fenced: Vec<_> = seen.iter().filter(|it| !it.ends_with("unfenced")).collect();
    assert_eq!(fenced, ["submit 9", "submit 18", "submit 27"]);
}

#[test]
fn a_fence_that_was_quicker_than_the_work_before_it_says_nothing_of_that() {
    let mut state = live();
    run(&mut state, vec![unfenced(1), submit(2, false)]);
    assert_eq!(hear(&mut state, START, completed(2)), ["completed 2 true through 0"]);
    assert_eq!(hear(&mut state, START, executed(1)), ["executed 2 complete 0"]);
    assert_eq!(wake(&mut state), ["fence behind 1"]);
    assert_eq!(hear(&mut state, START, settled(1)), ["executed 2 complete 2"]);
}

#[test]
fn a_fence_that_failed_says_nothing_of_the_work_before_it() {
    let mut state = live();
    run(&mut state, vec![unfenced(1), submit(2, false)]);
    hear(&mut state, START, executed(1));
    let failed = ContextEvent::Completed { serial: Serial(2), result: Err(Errno::EINVAL) };
    assert_eq!(hear(&mut state, START, failed), ["completed 2 false through 0"]);
    assert_eq!(wake(&mut state), ["fence behind 2"]);
}

#[test]
fn a_transfer_is_no_fence() {
    let mut state = live();
    run(&mut state, vec![unfenced(1)]);
    hear(&mut state, START, executed(1));
    let transfer = Transfer {
        to_host: true,
        resource: ResourceId(4),
        region: Box3d::default(),
        level: 0,
        offset: 0,
        stride: 0,
        layer_stride: 0,
        serial: Serial(2),
    };
    run(&mut state, vec![Request::Transfer(transfer)]);
    assert_eq!(hear(&mut state, START, completed(2)), ["completed 2 true through 0"]);
}

#[test]
fn what_was_executed_when_the_context_was_lost_is_waited_for_no_more() {
    let mut state = live();
    run(&mut state, vec![unfenced(1), unfenced(2)]);
    hear(&mut state, START, executed(1));
    assert_eq!(hear(&mut state, START, LOST), ["lost", "executed 1 complete 1"]);
    assert_eq!(hear(&mut state, START, executed(2)), ["completed 2 true through 2"]);
    assert_eq!(wake(&mut state), [""; 0]);
}

#[test]
fn work_that_the_device_refused_is_reported_though_nobody_waits() {
    let mut state = live();
    run(&mut state, vec![unfenced(1)]);
    let refused = ContextEvent::Executed { serial: Serial(1), result: Err(Errno::EINVAL) };
    assert_eq!(hear(&mut state, START, refused), ["completed 1 false through 1"]);
}

proptest! {
    /// However fences, answers and waits come, all work completes in the end, each mark only advances, and
    /// nothing counts as complete that was not at least executed.
    #[test]
    fn unfenced_work_completes_in_the_end(
        fenced in proptest::collection::vec(any::<bool>(), 1..40),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 400),
    ) {
        let mut state = live();
        let mut answers = Vec::new();
        let (mut marks, mut answered) = (Reached::default(), std::collections::BTreeSet::new());
        let requests = (1..).zip(&fenced).map(|(serial, fenced)| {
            if *fenced { submit(serial, false) } else { unfenced(serial) }
        });
        let mut effects = Vec::new();
        requests.for_each(|request| state.request(START, request, &mut effects));
        for pick in order {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Control(ContextCommand::Submit { serial, fenced: true, .. }) => {
                        answers.push(completed(serial.0));
                    }
                    Effect::Control(ContextCommand::Submit { serial, .. }) => answers.push(executed(serial.0)),
                    Effect::Control(ContextCommand::Fence { serial }) => answers.push(settled(serial.0)),
                    Effect::Scheme(ContextNotice::Completed { reached, .. } | ContextNotice::Reached(reached)) => {
                        prop_assert!(reached.executed >= marks.executed && reached.complete >= marks.complete);
                        prop_assert!(reached.complete <= reached.executed);
                        prop_assert!((1..=reached.executed.0).all(|serial| answered.contains(&serial)));
                        marks = reached;
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            if answers.is_empty() {
                let Some(deadline) = state.deadline() else { break };
                state.wake(deadline, &mut effects);
                continue;
            }
            let answer = answers.swap_remove(pick.index(answers.len()));
            if let ContextEvent::Completed { serial, .. } | ContextEvent::Executed { serial, .. } = &answer {
                answered.insert(serial.0);
            }
            state.control(START, answer, &mut effects);
        }
        prop_assert_eq!(marks.complete, Serial(fenced.len() as u64));
    }

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
            let completed = ContextEvent::Completed { serial: Serial(serial), result: Ok(()) };
            state.control(START, completed, &mut effects);
            prop_assert_eq!(effects.len(), usize::from(done.insert(serial)));
            for effect in effects {
                if let Effect::Scheme(ContextNotice::Completed { reached, .. }) = effect {
                    prop_assert!(reached.complete.0 >= mark);
                    mark = reached.complete.0;
                    prop_assert!((1..=mark).all(|serial| done.contains(&serial)));
                }
            }
        }
    }
}
