//! Each ioctl with good and bad input: a table.

use proptest::prelude::*;
use virgld_protocol::client::kms::CreateDumb;
use virgld_protocol::client::{
    Call, Execbuffer, ExecbufferFlags, GemClose, GetCap, GetCaps, Getparam, Ioctl, Map, Parameter,
    PrimeFdToHandle, PrimeHandleToFd, ResourceInfo, SyncobjCreate, SyncobjDestroy, SyncobjHandleToFd,
    SyncobjQuery, SyncobjReset, SyncobjSignal, SyncobjTimelineSignal, SyncobjTimelineWait, SyncobjTransfer,
    SyncobjWait, TransferFromHost, TransferToHost, Wait, layout_of,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, Node};
use virgld_testkit::system::{System, SystemConfig};
use zerocopy::IntoBytes;

use crate::setup::Desk;

/// A handle that is in no table.
const NONE: u32 = 77;

fn raw(desk: &mut Desk, file: FileId, number: u8, bytes: Vec<u8>) -> Option<Errno> {
    let token = desk.system.door.raw(file, Call { number, bytes: bytes.into() }, None);
    desk.answer(token).unwrap_or_else(|| panic!("{number:#x} has no answer")).errno()
}

fn call<T: Ioctl>(fixed: &T, arrays: &[&[u8]]) -> (u8, Vec<u8>) {
    (T::TABLE.number, [&[fixed.as_bytes()], arrays].concat().concat())
}

#[test]
fn a_call_must_be_as_long_as_its_counts_say() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    for layout in (0..=u8::MAX).filter_map(layout_of) {
        // Refused whatever they say: names can be guessed.
        let expected = if matches!(layout.number, 0x0a | 0x0b) { Errno::EOPNOTSUPP } else { Errno::EINVAL };
        for length in [0, layout.wire.saturating_sub(1), layout.wire + 1] {
            if length == layout.wire {
                continue;
            }
            let errno = raw(&mut desk, file, layout.number, vec![0; length]);
            assert_eq!(errno, Some(expected), "{} with {length} bytes", layout.name);
        }
        for array in layout.arrays {
            let mut bytes = vec![0; layout.wire];
            bytes[array.wire_count..array.wire_count + array.count_size].fill(0xff);
            let errno = raw(&mut desk, file, layout.number, bytes);
            assert!(errno.is_some(), "{} with an endless array", layout.name);
        }
    }
    desk.end(&[file]);
}

#[test]
fn numbers_that_no_ioctl_has_are_refused() {
    let mut desk = Desk::new();
    let (card, render) = (desk.system.door.open(Node::Card), desk.system.door.open(Node::Render));
    for number in (0..=u8::MAX).filter(|number| layout_of(*number).is_none()) {
        for file in [card, render] {
            assert_eq!(raw(&mut desk, file, number, Vec::new()), Some(Errno::EINVAL), "{number:#x}");
        }
    }
    // What is about modes and masters, a render node does not have at all.
    for number in [0x01, 0x02, 0x07, 0x0a, 0x0b, 0x0d, 0x11, 0x1e, 0xa7, 0xbc] {
        assert_eq!(raw(&mut desk, render, number, Vec::new()), Some(Errno::EACCES), "{number:#x}");
    }
    desk.end(&[card, render]);
}

#[test]
fn handles_that_are_not_in_the_table_are_refused() {
    let mut desk = Desk::new();
    let (file, other) = (desk.open(), desk.open());
    let (theirs, _) = desk.create(other, 0);
    let one = NONE.to_le_bytes();
    let point = 1_u64.to_le_bytes();
    for handle in [0, theirs, NONE, u32::MAX] {
        let of_execbuffer = Execbuffer { num_bo_handles: 1, ..Execbuffer::default() };
        let enoent = [
            call(&Map { handle, ..Map::default() }, &[]),
            call(&ResourceInfo { bo_handle: handle, ..ResourceInfo::default() }, &[]),
            call(&TransferToHost { bo_handle: handle, ..TransferToHost::default() }, &[]),
            call(&TransferFromHost { bo_handle: handle, ..TransferFromHost::default() }, &[]),
            call(&Wait { handle, flags: 0 }, &[]),
            call(&PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]),
            call(&of_execbuffer, &[handle.as_bytes()]),
            call(&SyncobjWait { count_handles: 1, ..SyncobjWait::default() }, &[&one]),
            call(&SyncobjTimelineWait { count_handles: 1, ..Default::default() }, &[&one, &point]),
            call(&SyncobjReset { count_handles: 1, pad: 0 }, &[&one]),
            call(&SyncobjSignal { count_handles: 1, pad: 0 }, &[&one]),
            call(&SyncobjTimelineSignal { count_handles: 1, flags: 0 }, &[&one, &point]),
            call(&SyncobjQuery { count_handles: 1, flags: 0 }, &[&one, &point]),
            call(&SyncobjTransfer { src_handle: NONE, dst_handle: NONE, ..Default::default() }, &[]),
            call(&SyncobjHandleToFd { handle: NONE, flags: 1, ..Default::default() }, &[]),
        ];
        for (number, bytes) in enoent {
            assert_eq!(raw(&mut desk, file, number, bytes), Some(Errno::ENOENT), "{number:#x} of {handle}");
        }
        let einval = [
            call(&GemClose { handle, pad: 0 }, &[]),
            call(&SyncobjDestroy { handle: NONE, pad: 0 }, &[]),
            call(&SyncobjHandleToFd { handle: NONE, ..SyncobjHandleToFd::default() }, &[]),
            call(&PrimeFdToHandle::default(), &[]),
        ];
        for (number, bytes) in einval {
            assert_eq!(raw(&mut desk, file, number, bytes), Some(Errno::EINVAL), "{number:#x} of {handle}");
        }
    }
    desk.end(&[file, other]);
}

#[test]
fn unknown_flags_and_filled_paddings_are_refused() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, _) = desk.create(file, 0);
    let made = desk.ask(file, &SyncobjCreate { handle: 0, flags: 1 }, &[]).fixed::<SyncobjCreate>().unwrap();
    let (object, point) = (made.handle.to_le_bytes(), 0_u64.to_le_bytes());
    let ring = ExecbufferFlags::RING_IDX.bits();
    for (number, bytes) in [
        call(&Execbuffer { flags: 1 << 5, ..Execbuffer::default() }, &[]),
        call(&Execbuffer { flags: ring, ring_idx: 0, ..Execbuffer::default() }, &[]),
        call(&Execbuffer { flags: ExecbufferFlags::FENCE_FD_IN.bits(), ..Execbuffer::default() }, &[]),
        call(&Wait { handle, flags: 2 }, &[]),
        call(&PrimeHandleToFd { handle, flags: 1, fd: -1 }, &[]),
        call(&TransferToHost { bo_handle: handle, stride: 1, ..Default::default() }, &[]),
        call(&TransferFromHost { bo_handle: handle, offset: 4096, ..Default::default() }, &[]),
        call(&SyncobjCreate { handle: 0, flags: 2 }, &[]),
        call(&SyncobjDestroy { handle: made.handle, pad: 1 }, &[]),
        call(&SyncobjWait { count_handles: 1, flags: 4, ..Default::default() }, &[&object]),
        call(&SyncobjTimelineWait { count_handles: 1, flags: 8, ..Default::default() }, &[&object, &point]),
        call(&SyncobjWait::default(), &[]),
        call(&SyncobjReset::default(), &[]),
        call(&SyncobjReset { count_handles: 1, pad: 1 }, &[&object]),
        call(&SyncobjSignal { count_handles: 1, pad: 1 }, &[&object]),
        call(&SyncobjTimelineSignal { count_handles: 1, flags: 1 }, &[&object, &point]),
        call(&SyncobjQuery { count_handles: 1, flags: 2 }, &[&object, &point]),
        call(&SyncobjHandleToFd { handle: made.handle, flags: 4, ..Default::default() }, &[]),
        call(&GetCap { capability: 0x999, value: 0 }, &[]),
        call(&Getparam { param: 0x999, value: 0 }, &[]),
        call(&GetCaps { cap_set_id: 9, size: 0, ..GetCaps::default() }, &[]),
    ] {
        assert_eq!(raw(&mut desk, file, number, bytes), Some(Errno::EINVAL), "{number:#x}");
    }
    desk.end(&[file]);
}

#[test]
fn a_descriptor_of_another_kind_is_refused() {
    let mut desk = Desk::new();
    let file = desk.open();
    let fence = desk.fenced(file);
    for attached in [Attached::Fence(fence), Attached::Unknown] {
        let answer = desk.ask_with(file, &PrimeFdToHandle::default(), attached);
        assert_eq!(answer.errno(), Some(Errno::EINVAL));
    }
    desk.end(&[file]);
}

#[test]
fn capability_sets_leave_the_defaults_of_a_longer_structure() {
    let mut desk = Desk::new();
    let file = desk.open();
    for (room, expected) in [(8, 8), (40, 40), (100, 40)] {
        let asked = GetCaps { cap_set_id: 2, cap_set_ver: 0, size: room, pad: 0 };
        let memory = vec![0xdd; room as usize];
        let answer = desk.ask(file, &asked, &[&memory]);
        assert_eq!(answer.result.unwrap().arrays, [vec![2; expected]]);
    }
    desk.end(&[file]);
}

proptest! {
    /// Whatever bytes come, every call is answered, and nobody dies of it.
    #[test]
    fn any_bytes_are_answered(
        calls in proptest::collection::vec(
            (any::<u8>(), proptest::collection::vec(prop_oneof![3 => Just(0_u8), 1 => 0..4_u8, 1 => any::<u8>()], 0..80)),
            1..20,
        ),
    ) {
        let mut desk = Desk::new();
        let file = desk.system.door.open(Node::Card);
        desk.create(file, 0);
        let mut tokens = Vec::new();
        for (number, mut bytes) in calls {
            if let Some(layout) = layout_of(number) {
                bytes.resize(bytes.len().max(layout.wire), 0);
                let sizes = layout.array_sizes(&bytes).map(|sizes| sizes.into_iter().fold(0, usize::saturating_add));
                bytes.resize(layout.wire + sizes.filter(|sum| *sum < 4096).unwrap_or(0), 0);
            }
            tokens.push(desk.system.door.raw(file, Call { number, bytes: bytes.into() }, None));
        }
        desk.system.outlast();
        prop_assert_eq!(desk.system.door.unanswered(), 0);
        desk.system.door.close(file);
        desk.system.outlast();
        // The bytes may have been those of a good export: its descriptor goes last.
        for token in tokens {
            match desk.system.door.answer(token).and_then(|answer| answer.attach) {
                Some(Attach::Buffer { export, .. }) => desk.system.door.drop_export(export),
                Some(Attach::Syncobj(syncobj)) => desk.system.door.drop_syncobj(syncobj),
                _ => {}
            }
        }
        desk.system.outlast();
        prop_assert_eq!(desk.system.door.offences(), Vec::<String>::new());
        prop_assert!(desk.system.report().unwrap().is_empty());
    }
}

#[test]
fn without_3d_there_are_dumb_buffers_and_no_gl() {
    let mut config = SystemConfig::default();
    (config.link.features, config.link.capsets) = (0, 0);
    let mut desk = Desk { system: System::new(&config, 0) };
    let card = desk.system.door.open(Node::Card);
    desk.go();
    let param = Getparam { param: Parameter::FEATURES_3D.0, value: 7 };
    assert_eq!(desk.ask(card, &param, &[]).fixed::<Getparam>().map(|it| it.value), Some(0));
    assert_eq!(desk.try_create(card, 0), Err(Errno::ENOSYS));
    let caps = GetCaps { cap_set_id: 1, size: 8, ..GetCaps::default() };
    assert_eq!(desk.ask(card, &caps, &[&[0; 8]]).errno(), Some(Errno::ENOSYS));
    let dumb = CreateDumb { width: 16, height: 16, bpp: 32, ..CreateDumb::default() };
    let token = desk.system.door.call(card, &dumb, &[]);
    desk.finish();
    let made = desk.system.door.answer(token).unwrap().fixed::<CreateDumb>().unwrap();
    let transfer = TransferToHost { bo_handle: made.handle, ..TransferToHost::default() };
    assert_eq!(desk.ask(card, &transfer, &[]).errno(), Some(Errno::ENOSYS));
    desk.end(&[card]);
}
