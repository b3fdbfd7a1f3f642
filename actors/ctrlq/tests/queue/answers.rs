//! What the device may answer, and what becomes of it.

use virgld_protocol::device::{Code, Command, ContextCreate, ControlHeader, ResourceAttachBacking, Submit3d};
use virgld_protocol::ids::{ResourceId, Token};
use virgld_protocol::message::ctrlq::{
    ContextCommand, DebugName, Description, ResourceCommand, ResourceEvent,
};
use virgld_protocol::message::transport::Event;

use crate::setup::{Desk, header, request};

#[test]
fn answers_come_in_any_order_and_each_goes_to_its_own() {
    let mut desk = Desk::new(8);
    for serial in 1..4 {
        desk.submit(7, serial);
    }
    desk.unreference(9);
    let mut published = desk.published();
    for (index, expected) in [
        (2, "context 7: 3 ended well"),
        (0, "context 7: 1 ended well"),
        (1, "resource 9: unreferenced"),
        (0, "context 7: 2 ended well"),
    ] {
        desk.answer(published.remove(index), Code::OK_NO_DATA);
        assert_eq!(desk.told(), [expected]);
    }
    assert_eq!((desk.state.report().in_flight, desk.state.report().fences), (0, 0));
}

#[test]
fn errors_are_told_as_what_they_mean() {
    for (code, errno) in [
        (Code::ERR_UNSPEC, "EIO(5)"),
        (Code::ERR_OUT_OF_MEMORY, "ENOMEM(12)"),
        (Code::ERR_INVALID_RESOURCE, "ENOENT(2)"),
        (Code::ERR_INVALID_CONTEXT, "ENOENT(2)"),
        (Code::ERR_INVALID_PARAMETER, "EINVAL(22)"),
        (Code(0xdead), "EIO(5)"),
        // A success of another kind is none.
        (Code::OK_CAPSET, "EIO(5)"),
    ] {
        let mut desk = Desk::new(1);
        desk.submit(7, 1);
        let publish = desk.published().remove(0);
        desk.answer(publish, code);
        assert_eq!(desk.told(), [format!("context 7: 1 ended {errno}")]);
        assert_eq!(desk.state.report().errors, 1);
    }
}

#[test]
fn an_error_concerns_whom_it_concerns() {
    let mut desk = Desk::new(8);
    desk.context(7, ContextCommand::Create { name: DebugName::new(""), capset: 0 });
    desk.resource(ResourceCommand::Create3d { resource: ResourceId(5), description: Description::default() });
    desk.context(7, ContextCommand::Attach { resource: ResourceId(5) });
    desk.unreference(5);
    desk.context(7, ContextCommand::Destroy);
    for publish in desk.published() {
        desk.answer(publish, Code::ERR_UNSPEC);
    }
    assert_eq!(
        desk.told(),
        [
            "context 7: Refused",
            "resource 5: failed EIO(5)",
            "resource 5: unreferenced",
            "context 7: Destroyed"
        ]
    );
}

/// Without the mark, the answer may have come before the command's effects.
#[test]
fn a_fenced_command_is_not_done_when_its_answer_lacks_the_mark() {
    let mut desk = Desk::new(1);
    desk.submit(7, 1);
    let publish = desk.published().remove(0);
    desk.answer_with(publish, &ControlHeader { code: Code::OK_NO_DATA, ..ControlHeader::default() }, &[]);
    assert_eq!(desk.told(), ["context 7: 1 ended EIO(5)"]);
}

#[test]
fn an_answer_shorter_than_a_header_is_an_error_whatever_its_bytes_say() {
    for written in [0, 4, 23] {
        let mut desk = Desk::new(1);
        desk.submit(7, 1);
        let publish = desk.published().remove(0);
        let flags = virgld_protocol::device::CONTROL_FLAG_FENCE;
        let header = ControlHeader { code: Code::OK_NO_DATA, flags, ..ControlHeader::default() };
        desk.return_with(publish, zerocopy::IntoBytes::as_bytes(&header), written);
        assert_eq!(desk.told(), ["context 7: 1 ended EIO(5)"]);
    }
}

#[test]
fn capability_sets_are_no_longer_than_the_device_wrote() {
    let ok = |code| ControlHeader { code, ..ControlHeader::default() };
    let mut desk = Desk::new(2);
    // Whoever had this memory before left something in it.
    desk.unreference(1);
    let publish = desk.published().remove(0);
    publish.slice.write(0, &[0xee; 512]).unwrap();
    desk.answer(publish, Code::OK_NO_DATA);
    desk.told();

    desk.resource(ResourceCommand::Capset { token: Token(3), id: 1, version: 1, size: 40 });
    let publish = desk.published().remove(0);
    desk.answer_with(publish, &ok(Code::OK_CAPSET), &[1, 2, 3]);
    let seen = desk.told();
    assert_eq!(seen, [format!("{:?}", ResourceEvent::Capset { token: Token(3), result: Ok(vec![1, 2, 3]) })]);

    desk.resource(ResourceCommand::CapsetInfo { token: Token(4), index: 0 });
    let publish = desk.published().remove(0);
    desk.answer_with(publish, &ok(Code::OK_CAPSET_INFO), &[1, 0, 0, 0]);
    assert_eq!(desk.told(), ["CapsetInfo { token: Token(4), result: Err(EIO(5)) }"]);
}

/// The answer to an unfenced command overtakes those to fenced ones, and the context must still hear these.
#[test]
fn a_context_is_gone_after_all_its_work() {
    let mut desk = Desk::new(4);
    desk.submit(7, 1);
    desk.submit(8, 1);
    desk.context(7, ContextCommand::Destroy);
    let mut published = desk.published();
    desk.answer(published.remove(2), Code::OK_NO_DATA);
    assert!(desk.told().is_empty());
    desk.answer(published.remove(0), Code::OK_NO_DATA);
    assert_eq!(desk.told(), ["context 7: 1 ended well", "context 7: Destroyed"]);
}

#[test]
fn answers_to_nothing_are_ignored() {
    let mut desk = Desk::new(2);
    desk.submit(7, 1);
    let publish = desk.published().remove(0);
    let cookie = publish.cookie;
    desk.answer(publish, Code::OK_NO_DATA);
    desk.told();
    desk.tell(Event::Lost { cookie });
    desk.tell(Event::Lost { cookie: 999 });
    assert!(desk.told().is_empty());
}

#[test]
fn the_end_of_the_device_fails_everything_once() {
    let mut desk = Desk::new(2).made(7).made(8);
    desk.submit(7, 1);
    desk.unreference(9);
    // These two wait for memory.
    desk.submit(7, 2);
    desk.context(8, ContextCommand::Destroy);
    let published = desk.published();
    assert_eq!(published.len(), 2);
    desk.tell(Event::Down { reason: String::new() });
    // The transport keeps the memory.
    for publish in &published {
        desk.tell(Event::Lost { cookie: publish.cookie });
    }
    let mut told = desk.told();
    told.sort();
    // Whether resource 9 has left a device is for the next to say.
    assert_eq!(
        told,
        [
            "Down",
            "context 7: 1 ended EIO(5)",
            "context 7: 2 ended EIO(5)",
            "context 7: Lost { blame: Shared }",
            "context 8: Destroyed",
            "context 8: Lost { blame: None }",
            "display Down",
        ]
    );
    desk.submit(7, 3);
    assert_eq!(desk.told(), ["context 7: 3 ended EIO(5)"]);
    assert_eq!(desk.state.report().in_flight, 0);
}

#[test]
fn a_context_begun_without_a_device_waits_for_the_next_and_one_of_the_last_does_not_come_back() {
    let mut desk = Desk::new(3).made(7);
    desk.tell(Event::Down { reason: String::new() });
    desk.told();
    desk.context(8, ContextCommand::Create { name: DebugName::new("new"), capset: 0 });
    desk.submit(8, 1);
    desk.resource(ResourceCommand::DetachBacking { resource: ResourceId(4) });
    assert!(desk.published().is_empty() && desk.told().is_empty());
    desk.come_up();
    desk.submit(7, 1);
    assert_eq!(desk.told(), ["context 7: 1 ended EIO(5)"]);
    // First all resources, then what contexts want; what was said of resources to nobody is void.
    let backing = ResourceCommand::AttachBacking { resource: ResourceId(3), address: 0, length: 1 };
    desk.resource(backing);
    let codes = |desk: &mut Desk| desk.published().iter().map(|it| header(it).code).collect::<Vec<_>>();
    assert_eq!(codes(&mut desk), [ResourceAttachBacking::CODE]);
    desk.furnished();
    assert_eq!(codes(&mut desk), [ContextCreate::CODE, Submit3d::CODE]);
    desk.context(7, ContextCommand::Destroy);
    assert_eq!(desk.told(), ["context 7: Destroyed"]);
}

#[test]
fn a_context_that_is_made_anew_comes_back_with_its_streams_before_its_work() {
    let mut desk = Desk::new(5).made(7);
    desk.tell(Event::Down { reason: String::new() });
    assert!(desk.told().contains(&"context 7: Lost { blame: None }".to_owned()));
    desk.context(7, ContextCommand::Create { name: DebugName::new("anew"), capset: 0 });
    desk.context(7, ContextCommand::Replay { stream: vec![1, 2, 3] });
    desk.submit(7, 4);
    desk.come_up();
    desk.furnished();
    let published = desk.published();
    let codes: Vec<_> = published.iter().map(|it| header(it).code).collect();
    assert_eq!(codes, [ContextCreate::CODE, Submit3d::CODE, Submit3d::CODE]);
    let replayed = request(&published[1]);
    assert_eq!(replayed[24..28], 12_u32.to_le_bytes());
    assert_eq!(replayed[32..], [1_u32, 2, 3].map(u32::to_le_bytes).concat());
    assert!(desk.told().is_empty());
}

#[test]
fn the_word_of_a_device_that_is_lost_again_furnishes_nothing() {
    let mut desk = Desk::new(3);
    desk.tell(Event::Down { reason: String::new() });
    desk.come_up();
    desk.context(8, ContextCommand::Create { name: DebugName::new("new"), capset: 0 });
    desk.tell(Event::Down { reason: String::new() });
    desk.furnished();
    assert!(desk.published().is_empty());
    desk.come_up();
    desk.furnished();
    assert_eq!(desk.published().len(), 1);
}
