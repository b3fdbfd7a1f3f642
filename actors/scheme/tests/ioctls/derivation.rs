//! What is derived from a buffer's first capability: never more than it gives, and gone when it is taken back.

use std::collections::BTreeMap;

use proptest::prelude::*;
use virgld_protocol::client::{Execbuffer, GemClose, Map, PrimeHandleToFd, TransferFromHost, TransferToHost};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::ExportKey;
use virgld_protocol::rights::Rights;
use virgld_protocol::virgl::{ObjectKind, Verb, head};
use virgld_testkit::door::Submission;
use zerocopy::IntoBytes;

use crate::setup::{Desk, SHARED};

/// What each right is for, and how its lack shows.
fn try_right(desk: &mut Desk, file: FileId, handle: u32, right: Rights) -> Option<Errno> {
    let answer = match right {
        Rights::MAP => desk.ask(file, &Map { handle, ..Map::default() }, &[]),
        Rights::TO_HOST => desk.ask(file, &TransferToHost { bo_handle: handle, ..Default::default() }, &[]),
        Rights::FROM_HOST => {
            desk.ask(file, &TransferFromHost { bo_handle: handle, ..Default::default() }, &[])
        }
        Rights::EXECUTE => {
            let fixed = Execbuffer { num_bo_handles: 1, ..Execbuffer::default() };
            desk.ask(file, &fixed, &[[handle].as_bytes()])
        }
        _ => desk.ask(file, &PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]),
    };
    answer.errno()
}

#[test]
fn each_right_that_was_not_given_is_refused_and_the_others_are_not() {
    let tried = [Rights::MAP, Rights::TO_HOST, Rights::FROM_HOST, Rights::EXECUTE, Rights::SHARE];
    for lacking in [Rights::TO_HOST, Rights::FROM_HOST, Rights::EXECUTE, Rights::SHARE] {
        let mut desk = Desk::new();
        let (maker, other) = (desk.open(), desk.open());
        let (handle, _) = desk.create(maker, SHARED);
        let given = Rights::all() - lacking;
        assert_eq!(desk.restrict(maker, handle, given), None);
        let export = desk.export(maker, handle).unwrap();
        let imported = desk.import(other, export).unwrap();
        for right in tried {
            let needs_context = right | Rights::EXECUTE;
            let works = match right {
                Rights::TO_HOST | Rights::FROM_HOST => given.contains(needs_context),
                _ => given.contains(right),
            };
            let expected = (!works).then_some(Errno::EACCES);
            assert_eq!(
                try_right(&mut desk, other, imported, right),
                expected,
                "{right:?} without {lacking:?}"
            );
            assert_eq!(try_right(&mut desk, maker, handle, right), None, "{right:?} of the maker");
        }
        desk.finish();
        let ends = [maker, other];
        ends.iter().for_each(|file| desk.system.door.close(*file));
        desk.go();
        desk.system.door.drop_export(export);
        desk.end(&[]);
    }
}

#[test]
fn only_the_maker_restricts_and_revokes_and_never_widens() {
    let mut desk = Desk::new();
    let (maker, other) = (desk.open(), desk.open());
    let (handle, _) = desk.create(maker, SHARED);
    let export = desk.export(maker, handle).unwrap();
    let imported = desk.import(other, export).unwrap();
    assert_eq!(desk.restrict(other, imported, Rights::all()), Some(Errno::EACCES));
    assert_eq!(desk.revoke(other, imported), Some(Errno::EACCES));
    assert_eq!(desk.restrict(other, 77, Rights::all()), Some(Errno::ENOENT));
    assert_eq!(desk.revoke(other, 77), Some(Errno::ENOENT));
    assert_eq!(desk.restrict(maker, handle, Rights::EXECUTE), Some(Errno::EINVAL), "without MAP");
    assert_eq!(desk.restrict(maker, handle, Rights::from_bits_retain(1 << 9 | 1)), Some(Errno::EINVAL));
    // What was imported before keeps what it has; the same handle again gives nothing more.
    assert_eq!(desk.restrict(maker, handle, Rights::MAP), None);
    assert_eq!(try_right(&mut desk, other, imported, Rights::EXECUTE), None);
    desk.finish();
    desk.system.door.close(maker);
    desk.system.door.close(other);
    desk.go();
    desk.system.door.drop_export(export);
    desk.end(&[]);
}

#[test]
fn revoking_takes_handles_descriptors_and_memory_away_from_all_others() {
    let mut desk = Desk::new();
    let [maker, one, two] = [desk.open(), desk.open(), desk.open()];
    let (handle, resource) = desk.create(maker, SHARED);
    let (own, _) = desk.create(one, SHARED);
    let export = desk.export(maker, handle).unwrap();
    let handles = [one, two].map(|file| desk.import(file, export).unwrap());
    let before = desk.memory(maker, handle);
    before.write(0, &[7; 8]).unwrap();
    assert_eq!(desk.revoke(maker, handle), None);
    for (file, handle) in [one, two].into_iter().zip(handles) {
        assert_eq!(try_right(&mut desk, file, handle, Rights::MAP), Some(Errno::ENOENT));
        assert_eq!(desk.import(file, export), Err(Errno::EINVAL), "the old descriptor");
    }
    assert_eq!(try_right(&mut desk, one, own, Rights::EXECUTE), None, "what is theirs stays theirs");
    let after = desk.memory(maker, handle);
    let mut bytes = [0; 8];
    after.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 8], "the contents went along");
    before.write(0, &[9; 8]).unwrap();
    after.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 8], "the others' memory is not the buffer's any more");
    let second = desk.export(maker, handle).unwrap();
    assert_ne!(second, export);
    assert!(desk.import(two, second).is_ok(), "it can be shared anew");
    desk.finish();
    assert!(desk.system.report().unwrap().resource.resources.iter().any(|it| it.resource.0 == resource));
    [maker, one, two].iter().for_each(|file| desk.system.door.close(*file));
    desk.go();
    desk.system.door.drop_export(second);
    desk.end(&[]);
}

/// What the importer does with a buffer, and whether it then has something of it.
fn look_at(resource: u32) -> [(Vec<u32>, bool); 3] {
    let view = vec![head(Verb::CREATE_OBJECT, ObjectKind::SAMPLER_VIEW.0, 6), 9, resource, 0, 0, 0, 0];
    let mut copy = vec![head(Verb::RESOURCE_COPY_REGION, 0, 13)];
    copy.extend([0, 0, 0, 0, 0, resource, 0, 0, 0, 0, 0, 0, 0]);
    let uniform = vec![head(Verb::SET_UNIFORM_BUFFER, 0, 5), 0, 0, 0, 16, resource];
    [(view, true), (uniform, true), (copy, false)]
}

#[test]
fn a_context_that_has_something_of_a_revoked_buffer_is_lost_also_if_its_handle_is_closed() {
    for closed in [false, true] {
        for (index, own) in [false, true].into_iter().enumerate() {
            for which in 0..look_at(0).len() {
                let mut desk = Desk::new();
                let (maker, other) = (desk.open(), desk.open());
                let (handle, resource) = desk.create(maker, SHARED);
                let (_, theirs) = desk.create(other, 0);
                let export = desk.export(maker, handle).unwrap();
                let imported = desk.import(other, export).unwrap();
                // What is made of a buffer of its own is its own affair.
                let named = if own { theirs } else { resource };
                let (words, keeps) = look_at(named).into_iter().nth(which).unwrap();
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                desk.submit(other, &Submission { stream: &bytes, ..Submission::default() });
                if closed {
                    let close = GemClose { handle: imported, pad: 0 };
                    assert_eq!(desk.ask(other, &close, &[]).errno(), None);
                }
                desk.finish();
                let contexts = desk.system.device.host().contexts();
                assert_eq!(desk.revoke(maker, handle), None);
                desk.finish();
                let lost = keeps && !own;
                let report = desk.system.report().unwrap();
                let told = report.scheme.files.iter().find(|it| it.file == other).unwrap();
                assert_eq!((told.lost, told.expelled), (lost, lost), "{which} {index} {closed}");
                let gone = contexts - desk.system.device.host().contexts();
                assert_eq!(gone, usize::from(lost), "on the device");
                desk.system.door.close(maker);
                desk.system.door.close(other);
                desk.go();
                desk.system.door.drop_export(export);
                desk.end(&[]);
            }
        }
    }
}

#[test]
fn what_a_context_had_of_a_buffer_that_is_gone_says_nothing_of_the_next_with_its_number() {
    let mut desk = Desk::new();
    let (maker, other) = (desk.open(), desk.open());
    let mut numbers = Vec::new();
    for which in [0, 2] {
        let (handle, resource) = desk.create(maker, SHARED);
        numbers.push(resource);
        let export = desk.export(maker, handle).unwrap();
        let imported = desk.import(other, export).unwrap();
        let (words, keeps) = look_at(resource).into_iter().nth(which).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        desk.submit(other, &Submission { stream: &bytes, ..Submission::default() });
        if !keeps {
            assert_eq!(desk.revoke(maker, handle), None);
        }
        for (file, handle) in [(other, imported), (maker, handle)] {
            desk.ask(file, &GemClose { handle, pad: 0 }, &[]);
        }
        desk.go();
        desk.system.door.drop_export(export);
        desk.finish();
    }
    assert_eq!(numbers[0], numbers[1]);
    assert!(desk.system.report().unwrap().scheme.files.iter().all(|file| !file.lost));
    desk.end(&[maker, other]);
}

#[derive(Debug, Clone)]
enum Step {
    Restrict(usize, u32),
    Share(usize),
    Import(usize, prop::sample::Index),
    Use(usize, usize, u32),
    Revoke(usize),
    Close(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0..3_usize;
    prop_oneof![
        2 => (file.clone(), 0..64_u32).prop_map(|(file, rights)| Step::Restrict(file, rights)),
        2 => file.clone().prop_map(Step::Share),
        4 => (file.clone(), any::<prop::sample::Index>()).prop_map(|(file, which)| Step::Import(file, which)),
        6 => (file.clone(), file.clone(), 0..5_u32).prop_map(|(file, buffer, right)| Step::Use(file, buffer, right)),
        1 => file.clone().prop_map(Step::Revoke),
        1 => (file.clone(), file).prop_map(|(file, buffer)| Step::Close(file, buffer)),
    ]
}

/// Three files, each of which made one buffer.
#[derive(Default)]
struct Model {
    /// What each file holds of each buffer: handle and rights.
    held: BTreeMap<(usize, usize), (u32, Rights)>,
    offers: BTreeMap<usize, Rights>,
    exports: BTreeMap<ExportKey, usize>,
    moves: BTreeMap<usize, usize>,
}

fn take(desk: &mut Desk, files: &[FileId], model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Restrict(maker, bits) => {
            let Some((handle, _)) = model.held.get(&(maker, maker)) else { return Ok(()) };
            let rights = Rights::from_bits_truncate(bits);
            let errno = desk.restrict(files[maker], *handle, rights);
            let expected = (!rights.contains(Rights::MAP)).then_some(Errno::EINVAL);
            prop_assert_eq!(errno, expected);
            if errno.is_none() {
                model.offers.insert(maker, rights);
            }
        }
        Step::Share(maker) => {
            let Some((handle, _)) = model.held.get(&(maker, maker)) else { return Ok(()) };
            match desk.export(files[maker], *handle) {
                Ok(export) => drop(model.exports.insert(export, maker)),
                // Its memory was taken back once too often: what the others may still see is charged.
                Err(errno) => prop_assert!(errno == Errno::ENOMEM && model.moves[&maker] > 0),
            }
        }
        Step::Import(file, which) if !model.exports.is_empty() => {
            let keys: Vec<_> = model.exports.iter().map(|(key, buffer)| (*key, *buffer)).collect();
            let (export, buffer) = *which.get(&keys);
            let handle = desk.import(files[file], export).unwrap();
            let offer = model.offers.get(&buffer).copied().unwrap_or(Rights::all());
            let entry = model.held.entry((file, buffer)).or_insert((handle, offer));
            prop_assert_eq!(entry.0, handle);
        }
        Step::Use(file, buffer, right) => {
            let right = [Rights::MAP, Rights::TO_HOST, Rights::FROM_HOST, Rights::EXECUTE, Rights::SHARE]
                [right as usize];
            if let Some((handle, rights)) = model.held.get(&(file, buffer))
                && right != Rights::SHARE
            {
                let transfers = right == Rights::TO_HOST || right == Rights::FROM_HOST;
                let needed = if transfers { right | Rights::EXECUTE } else { right };
                let errno = try_right(desk, files[file], *handle, right);
                prop_assert_eq!(errno, (!rights.contains(needed)).then_some(Errno::EACCES));
            }
        }
        Step::Revoke(maker) => {
            let Some((handle, _)) = model.held.get(&(maker, maker)) else { return Ok(()) };
            let errno = desk.revoke(files[maker], *handle);
            prop_assert!(errno.is_none_or(|errno| errno == Errno::ENOMEM));
            let shared = model.exports.values().any(|buffer| *buffer == maker);
            prop_assert!(shared || errno.is_none());
            if shared {
                *model.moves.entry(maker).or_default() += 1;
                model.exports.retain(|_, buffer| *buffer != maker);
                model.held.retain(|(file, buffer), _| *buffer != maker || *file == maker);
            }
        }
        Step::Close(file, buffer) => {
            // The maker keeps its own, so that the buffers of the model stay.
            if file != buffer
                && let Some((handle, _)) = model.held.remove(&(file, buffer))
            {
                prop_assert_eq!(desk.ask(files[file], &GemClose { handle, pad: 0 }, &[]).errno(), None);
            }
        }
        Step::Import(..) => {}
    }
    // Nobody has a handle that the model does not know.
    let report = desk.system.report().unwrap();
    for (index, file) in files.iter().enumerate() {
        let known = model.held.keys().filter(|(holder, _)| *holder == index).count();
        let told = report.scheme.files.iter().find(|it| it.file == *file).unwrap();
        prop_assert_eq!(told.handles, known);
        prop_assert_eq!(told.derived, known - 1);
    }
    Ok(())
}

proptest! {
    #[test]
    fn derived_rights_are_what_the_model_says(steps in proptest::collection::vec(step(), 1..50)) {
        let mut desk = Desk::new();
        let files: Vec<FileId> = (0..3).map(|_| desk.open()).collect();
        let mut model = Model::default();
        for (index, file) in files.iter().enumerate() {
            model.held.insert((index, index), (desk.create(*file, SHARED).0, Rights::all()));
        }
        for step in steps {
            take(&mut desk, &files, &mut model, step)?;
        }
        desk.finish();
        files.iter().for_each(|file| desk.system.door.close(*file));
        desk.go();
        for export in model.exports.keys() {
            desk.system.door.drop_export(*export);
        }
        desk.end(&[]);
    }
}

impl Desk {
    fn restrict(&mut self, file: FileId, handle: u32, rights: Rights) -> Option<Errno> {
        let token = self.system.door.restrict(file, handle, rights.bits());
        self.answer(token).expect("an answer").errno()
    }

    fn revoke(&mut self, file: FileId, handle: u32) -> Option<Errno> {
        let token = self.system.door.revoke(file, handle);
        self.answer(token).expect("an answer").errno()
    }

    /// What `mmap` gives.
    fn memory(&mut self, file: FileId, handle: u32) -> std::sync::Arc<dyn virgld_runtime::memory::Memory> {
        let map = self.ask(file, &Map { handle, ..Map::default() }, &[]).fixed::<Map>().unwrap();
        let token = self.system.door.map(file, map.offset, 4096);
        match self.answer(token).unwrap().attach {
            Some(Attach::Memory { memory, .. }) => memory,
            other => panic!("{other:?}"),
        }
    }
}
