//! The tables of capabilities against a model of them: a handle means something in its own file alone, a descriptor
//! gives access, closing takes it away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use virgld_protocol::client::{
    Execbuffer, GemClose, Ioctl, Map, PrimeFdToHandle, PrimeHandleToFd, ResourceCreate, ResourceInfo,
    TransferToHost, Wait,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, ExportKey};
use virgld_testkit::device::Temper;
use zerocopy::IntoBytes;

use crate::setup::{Desk, SHARED};

#[derive(Debug, Clone)]
enum Step {
    Create(usize, bool),
    Use(usize, u32, u8),
    Close(usize, u32),
    Export(usize, u32),
    Import(usize, prop::sample::Index),
    Forge(usize, u64),
    Peek(usize, usize, u32),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (file, handle) = (0..3_usize, 0..6_u32);
    prop_oneof![
        3 => (file.clone(), any::<bool>()).prop_map(|(file, shared)| Step::Create(file, shared)),
        6 => (file.clone(), handle.clone(), any::<u8>()).prop_map(|(file, handle, how)| Step::Use(file, handle, how)),
        2 => (file.clone(), handle.clone()).prop_map(|(file, handle)| Step::Close(file, handle)),
        2 => (file.clone(), handle).prop_map(|(file, handle)| Step::Export(file, handle)),
        2 => (file.clone(), any::<prop::sample::Index>()).prop_map(|(file, which)| Step::Import(file, which)),
        1 => (file.clone(), 0..200_u64).prop_map(|(file, key)| Step::Forge(file, key)),
        4 => (file.clone(), file.clone(), 0..6_u32).prop_map(|(file, of, handle)| Step::Peek(file, of, handle)),
        1 => file.prop_map(Step::Leave),
    ]
}

/// What each handle of each file should stand for, and what each descriptor should give access to.
struct Model {
    files: Vec<(FileId, BTreeMap<u32, u32>)>,
    descriptors: Vec<(ExportKey, u32)>,
}

impl Model {
    fn live(&self) -> BTreeSet<u32> {
        let named = self.files.iter().flat_map(|(_, table)| table.values().copied());
        named.chain(self.descriptors.iter().map(|(_, resource)| *resource)).collect()
    }
}

/// One of the calls that a handle is for.
fn use_handle(desk: &mut Desk, file: FileId, handle: u32, how: u8) -> Option<Errno> {
    fn ask<T: Ioctl>(desk: &mut Desk, file: FileId, fixed: &T, arrays: &[&[u8]]) -> Option<Errno> {
        desk.ask(file, fixed, arrays).errno()
    }
    match how % 4 {
        0 => ask(desk, file, &Map { handle, ..Map::default() }, &[]),
        1 => {
            let fixed = Execbuffer { num_bo_handles: 2, ..Execbuffer::default() };
            ask(desk, file, &fixed, &[[handle, handle].as_bytes()])
        }
        2 => ask(desk, file, &TransferToHost { bo_handle: handle, ..Default::default() }, &[]),
        _ => {
            desk.finish();
            ask(desk, file, &Wait { handle, flags: 0 }, &[])
        }
    }
}

fn take(desk: &mut Desk, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Create(file, shared) => {
            let live = model.live();
            let (id, table) = &mut model.files[file];
            match desk.try_create(*id, if shared { SHARED } else { 0 }) {
                Ok((handle, resource)) => {
                    prop_assert!(!live.contains(&resource), "{} is another's", resource);
                    prop_assert_eq!(table.insert(handle, resource), None);
                }
                Err(errno) => prop_assert_eq!(errno, Errno::ENOMEM),
            }
        }
        Step::Use(file, handle, how) => {
            let (id, table) = &model.files[file];
            let errno = use_handle(desk, *id, handle, how);
            prop_assert_eq!(errno.is_none(), table.contains_key(&handle));
            prop_assert!(errno.is_none_or(|errno| errno == Errno::ENOENT));
            let info = desk.ask(*id, &ResourceInfo { bo_handle: handle, ..Default::default() }, &[]);
            let resource = info.fixed::<ResourceInfo>().map(|info| info.res_handle);
            prop_assert_eq!(resource, table.get(&handle).copied());
        }
        Step::Close(file, handle) => {
            let (id, table) = &mut model.files[file];
            let errno = desk.ask(*id, &GemClose { handle, pad: 0 }, &[]).errno();
            let expected = if table.remove(&handle).is_some() { None } else { Some(Errno::EINVAL) };
            prop_assert_eq!(errno, expected);
        }
        Step::Export(file, handle) => {
            let (id, table) = &model.files[file];
            match (desk.export(*id, handle), table.get(&handle)) {
                (Ok(export), Some(resource)) => {
                    let same = |(other, of): &(ExportKey, u32)| (*other == export) == (of == resource);
                    prop_assert!(model.descriptors.iter().all(same), "one key for one buffer");
                    model.descriptors.push((export, *resource));
                }
                // A buffer whose memory is mapped as a part of an arena cannot be moved out of it.
                (Err(errno), Some(_)) => prop_assert_eq!(errno, Errno::ENOMEM),
                (result, None) => prop_assert_eq!(result, Err(Errno::ENOENT)),
            }
        }
        Step::Import(file, which) => {
            if let Some((export, resource)) =
                (!model.descriptors.is_empty()).then(|| *which.get(&model.descriptors))
            {
                let (id, table) = &mut model.files[file];
                let handle =
                    desk.import(*id, export).map_err(|errno| TestCaseError::fail(format!("{errno:?}")))?;
                let before = table.iter().find(|(_, of)| **of == resource).map(|(handle, _)| *handle);
                prop_assert!(before.is_none_or(|before| before == handle), "a second handle for one buffer");
                prop_assert!(table.insert(handle, resource).is_none_or(|of| of == resource));
            }
        }
        Step::Forge(file, key) => {
            let key = ExportKey(key);
            if model.descriptors.iter().all(|(export, _)| *export != key) {
                let answer =
                    desk.ask_with(model.files[file].0, &PrimeFdToHandle::default(), Attached::Buffer(key));
                prop_assert_eq!(answer.errno(), Some(Errno::EINVAL));
            }
        }
        Step::Peek(file, of, handle) => {
            let Some(resource) = model.files[of].1.get(&handle) else { return Ok(()) };
            let map = desk.ask(model.files[of].0, &Map { handle, ..Map::default() }, &[]);
            let offset = map.fixed::<Map>().map(|map| map.offset);
            let offset = offset.ok_or_else(|| TestCaseError::fail("no offset"))?;
            let (id, table) = &model.files[file];
            let token = desk.system.door.map(*id, offset, 4096);
            let holds = file == of || table.values().any(|held| held == resource);
            prop_assert_eq!(desk.errno(token), (!holds).then_some(Errno::EINVAL), "who holds it maps it");
            // Whoever holds what in it, nobody maps more of it than there is.
            let token = desk.system.door.map(*id, offset, u64::MAX / 2);
            prop_assert_eq!(desk.errno(token), Some(Errno::EINVAL));
        }
        Step::Leave(file) => {
            desk.system.door.close(model.files[file].0);
            model.files[file] = (desk.open(), BTreeMap::new());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn tables_are_what_the_model_says(
        steps in proptest::collection::vec(step(), 1..60),
        places in prop_oneof![1 => 1..4_usize, 1 => Just(32)],
    ) {
        // With few places for regions, there are more files than the device has room for: the rest is copied, and all
        // else is alike.
        let mut desk = Desk::with_places(places);
        let files = (0..3).map(|_| (desk.open(), BTreeMap::new())).collect();
        let mut model = Model { files, descriptors: Vec::new() };
        for step in steps {
            take(&mut desk, &mut model, step)?;
        }
        desk.finish();
        let known: BTreeSet<u32> =
            desk.system.report().unwrap().resource.resources.iter().map(|it| it.resource.0).collect();
        prop_assert_eq!(known, model.live(), "what nobody can name is gone, what somebody can is there");
        for (file, _) in &model.files {
            desk.system.door.close(*file);
        }
        desk.go();
        for (export, _) in &model.descriptors {
            desk.system.door.drop_export(*export);
        }
        desk.end(&[]);
    }
}

/// The number of a handle closed while its buffer moves may be another buffer's when the move is over.
#[test]
fn an_export_shares_the_buffer_that_was_named_and_no_other() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, _) = desk.create(file, 0);
    let export = desk.system.door.call(file, &PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]);
    desk.system.run();
    let close = desk.system.door.call(file, &GemClose { handle, pad: 0 }, &[]);
    let create = desk.system.door.call(file, &ResourceCreate { size: 1, ..Default::default() }, &[]);
    desk.system.run();
    assert!(desk.system.door.answer(close).unwrap().result.is_ok());
    let made = desk.system.door.answer(create).unwrap().fixed::<ResourceCreate>().unwrap();
    assert_eq!(made.bo_handle, handle);
    assert_eq!(desk.errno(export), Some(Errno::ENOENT));
    desk.end(&[file]);
}

/// What was mapped while a buffer moves would be the memory that it leaves.
#[test]
fn a_buffer_that_moves_is_mapped_where_it_comes_to_rest() {
    for close in [false, true] {
        let mut desk = Desk::new();
        let file = desk.open();
        let (handle, _) = desk.create(file, 0);
        let asked = PrimeHandleToFd { handle, flags: 0, fd: -1 };
        let exports = [desk.system.door.call(file, &asked, &[]), desk.system.door.call(file, &asked, &[])];
        desk.system.run();
        let map = desk.system.door.call(file, &Map { handle, ..Map::default() }, &[]);
        desk.system.run();
        assert!(desk.system.door.answer(map).is_none(), "it moves");
        if close {
            let close = desk.system.door.call(file, &GemClose { handle, pad: 0 }, &[]);
            assert_eq!(desk.errno(close), None);
            assert_eq!(desk.errno(map), Some(Errno::ENOENT));
            desk.end(&[file]);
            continue;
        }
        let offset = desk.answer(map).unwrap().fixed::<Map>().unwrap().offset;
        let [export, _] = exports.map(|export| match desk.answer(export).unwrap().attach {
            Some(Attach::Buffer { export, memory }) => (export, memory),
            other => panic!("{other:?}"),
        });
        let mmap = desk.system.door.map(file, offset, 4096);
        let Some(Attach::Memory { memory, .. }) = desk.answer(mmap).unwrap().attach else {
            panic!("no memory")
        };
        assert!(Arc::ptr_eq(&memory, &export.1), "the memory that others get");
        desk.system.door.close(file);
        desk.go();
        desk.system.door.drop_export(export.0);
        desk.end(&[]);
    }
}

#[test]
fn a_buffer_that_cannot_move_is_mapped_where_it_is() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, _) = desk.create(file, 0);
    let export = desk.system.door.call(file, &PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]);
    desk.system.run();
    let map = desk.system.door.call(file, &Map { handle, ..Map::default() }, &[]);
    desk.system.device.set_temper(Temper { refuse_region: 1000, ..Temper::default() });
    assert!(desk.answer(map).unwrap().fixed::<Map>().is_some());
    assert_eq!(desk.errno(export), Some(Errno::ENOMEM));
    desk.end(&[file]);
}

#[test]
fn a_file_closed_while_its_buffer_moves_leaves_nothing() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, _) = desk.create(file, 0);
    desk.system.door.call(file, &PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]);
    desk.system.door.call(file, &Map { handle, ..Map::default() }, &[]);
    desk.system.run();
    desk.end(&[file]);
}

#[test]
fn two_exports_at_once_share_one_memory() {
    let mut desk = Desk::new();
    let file = desk.open();
    let (handle, _) = desk.create(file, 0);
    let asked = PrimeHandleToFd { handle, flags: 0, fd: -1 };
    let tokens = [desk.system.door.call(file, &asked, &[]), desk.system.door.call(file, &asked, &[])];
    desk.go();
    let shared = tokens.map(|token| match desk.system.door.answer(token).unwrap().attach {
        Some(Attach::Buffer { export, memory }) => (export, memory),
        other => panic!("{other:?}"),
    });
    let [(one, first), (two, second)] = shared;
    assert_eq!(one, two);
    assert!(Arc::ptr_eq(&first, &second));
    desk.system.door.close(file);
    desk.go();
    desk.system.door.drop_export(one);
    desk.end(&[]);
}
