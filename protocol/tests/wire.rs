//! Calls come apart as they were put together, and anything longer or shorter is refused.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use proptest::collection::vec;
use proptest::prelude::*;
use virgld_protocol::client::kms::{self, Atomic, Change};
use virgld_protocol::client::{
    Call, ContextInit, Execbuffer, GetCaps, Getparam, Ioctl, Map, PrimeFdToHandle, ResourceCreate,
    ResourceCreateBlob, SyncobjQuery, SyncobjTimelineWait, SyncobjWait, TransferToHost, Version, Wait,
    layout_of,
};
use virgld_protocol::device::{
    Command, ControlHeader, ResourceAttachBacking, ResourceCreate3d, Submit3d, TransferFromHost3d,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Puts a call together by its table, as a client does: fixed part, then each array of `count` elements.
fn put_together<T: Ioctl>(noise: &[u8], counts: &[u8]) -> (Call, Vec<Vec<u8>>) {
    let table = T::TABLE;
    let mut bytes: Vec<u8> = noise.iter().copied().cycle().take(table.wire).collect();
    for (array, count) in table.arrays.iter().zip(counts) {
        let field = &mut bytes[array.wire_count..array.wire_count + array.count_size];
        field.fill(0);
        field[0] = *count;
    }
    // Arrays may share a count: the last one written is what all go by.
    let sizes = table.array_sizes(&bytes).unwrap();
    let mut arrays = Vec::new();
    for (index, size) in sizes.into_iter().enumerate().take(table.arrays.len()) {
        let array: Vec<u8> = noise.iter().rev().copied().cycle().take(size).collect();
        if table.bulk != Some(index) {
            bytes.extend(&array);
            arrays.push(array);
        } else {
            arrays.push(Vec::new());
        }
    }
    (Call { number: table.number, bytes: bytes.into() }, arrays)
}

fn round_trip<T: Ioctl>(noise: &[u8], counts: &[u8]) -> Result<(), TestCaseError> {
    let (call, arrays) = put_together::<T>(noise, counts);
    let wire = call.parse::<T>().map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
    prop_assert_eq!(wire.fixed.as_bytes(), &call.bytes[..T::TABLE.wire], "{}", T::TABLE.name);
    for (seen, sent) in wire.arrays.iter().zip(&arrays) {
        prop_assert_eq!(*seen, &sent[..], "{}", T::TABLE.name);
    }
    for length in 0..call.bytes.len() {
        let short = Call { number: call.number, bytes: call.bytes[..length].to_vec().into() };
        prop_assert!(short.parse::<T>().is_err(), "{} cut to {length}", T::TABLE.name);
    }
    let long = Call { number: call.number, bytes: [&call.bytes[..], &[0]].concat().into() };
    prop_assert!(long.parse::<T>().is_err(), "{} with a byte more", T::TABLE.name);
    Ok(())
}

fn device_round_trip<T>(noise: &[u8]) -> Result<(), TestCaseError>
where
    T: FromBytes + IntoBytes + Immutable,
{
    let bytes: Vec<u8> = noise.iter().copied().cycle().take(size_of::<T>()).collect();
    let value = T::read_from_bytes(&bytes).map_err(|_| TestCaseError::fail("size"))?;
    prop_assert_eq!(value.as_bytes(), &bytes[..]);
    Ok(())
}

proptest! {
    #[test]
    fn every_kind_of_call_comes_apart_as_it_was_put_together(
        noise in vec(any::<u8>(), 1..200),
        counts in vec(0_u8..9, 4),
    ) {
        round_trip::<Version>(&noise, &counts)?;
        round_trip::<Getparam>(&noise, &counts)?;
        round_trip::<Map>(&noise, &counts)?;
        round_trip::<Wait>(&noise, &counts)?;
        round_trip::<PrimeFdToHandle>(&noise, &counts)?;
        round_trip::<ResourceCreate>(&noise, &counts)?;
        round_trip::<TransferToHost>(&noise, &counts)?;
        round_trip::<GetCaps>(&noise, &counts)?;
        round_trip::<Execbuffer>(&noise, &counts)?;
        round_trip::<ResourceCreateBlob>(&noise, &counts)?;
        round_trip::<ContextInit>(&noise, &counts)?;
        round_trip::<SyncobjWait>(&noise, &counts)?;
        round_trip::<SyncobjTimelineWait>(&noise, &counts)?;
        round_trip::<SyncobjQuery>(&noise, &counts)?;
    }

    #[test]
    fn calls_of_mode_setting_come_apart_as_they_were_put_together(
        noise in vec(any::<u8>(), 1..200),
        counts in vec(0_u8..9, 4),
    ) {
        round_trip::<kms::SetMaster>(&noise, &counts)?;
        round_trip::<kms::WaitVblank>(&noise, &counts)?;
        round_trip::<kms::GetResources>(&noise, &counts)?;
        round_trip::<kms::GetCrtc>(&noise, &counts)?;
        round_trip::<kms::SetCrtc>(&noise, &counts)?;
        round_trip::<kms::GetGamma>(&noise, &counts)?;
        round_trip::<kms::SetGamma>(&noise, &counts)?;
        round_trip::<kms::GetConnector>(&noise, &counts)?;
        round_trip::<kms::GetProperty>(&noise, &counts)?;
        round_trip::<kms::GetPropBlob>(&noise, &counts)?;
        round_trip::<kms::PageFlip>(&noise, &counts)?;
        round_trip::<kms::DirtyFb>(&noise, &counts)?;
        round_trip::<kms::GetPlaneResources>(&noise, &counts)?;
        round_trip::<kms::GetPlane>(&noise, &counts)?;
        round_trip::<kms::AddFb2>(&noise, &counts)?;
        round_trip::<kms::ObjGetProperties>(&noise, &counts)?;
        round_trip::<kms::Atomic>(&noise, &counts)?;
        round_trip::<kms::CreatePropBlob>(&noise, &counts)?;
        round_trip::<kms::CreateLease>(&noise, &counts)?;
        round_trip::<kms::ListLessees>(&noise, &counts)?;
    }

    /// Changes come out in the order and with the objects that they went in with.
    #[test]
    fn changes_belong_to_the_objects_that_they_were_counted_for(
        objects in vec((any::<u32>(), vec((any::<u32>(), any::<u64>()), 0..5)), 0..6),
        lie in -2_i32..3,
    ) {
        let each = objects.iter().flat_map(|(object, changes)| {
            changes.iter().map(|(property, value)| Change { object: *object, property: *property, value: *value })
        });
        let expected: Vec<Change> = each.collect();
        let count = |count: usize| u32::try_from(count).unwrap();
        let told = count(expected.len()).saturating_add_signed(lie);
        let fixed = Atomic { count_objs: count(objects.len()), count_changes: told, ..Atomic::default() };
        let numbers = |numbers: Vec<u32>| numbers.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        let mut properties = numbers(expected.iter().map(|change| change.property).collect());
        properties.resize(told as usize * 4, 0);
        let mut values: Vec<u8> = expected.iter().flat_map(|change| change.value.to_le_bytes()).collect();
        values.resize(told as usize * 8, 0);
        let parts = [
            fixed.as_bytes().to_vec(),
            numbers(objects.iter().map(|(object, _)| *object).collect()),
            numbers(objects.iter().map(|(_, changes)| count(changes.len())).collect()),
            properties,
            values,
        ];
        let call = Call { number: Atomic::TABLE.number, bytes: parts.concat().into() };
        let wire = call.parse::<Atomic>().unwrap();
        match told == count(expected.len()) {
            true => prop_assert_eq!(wire.changes(), Ok(expected)),
            false => prop_assert!(wire.changes().is_err()),
        }
        prop_assert_eq!(wire.objects().count(), objects.len());
    }

    /// Whatever bytes a client sends, taking them apart ends in a call or a refusal.
    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..300)) {
        let call = Call { number: 0, bytes: bytes.into() };
        let _ = call.parse::<Version>();
        let _ = call.parse::<Execbuffer>();
        let _ = call.parse::<SyncobjTimelineWait>();
        let _ = call.parse::<ContextInit>();
        let _ = call.parse::<Atomic>().map(|wire| wire.changes().map(|changes| changes.len()));
    }

    #[test]
    fn device_structures_are_exactly_their_bytes(noise in vec(any::<u8>(), 1..80)) {
        device_round_trip::<ControlHeader>(&noise)?;
        device_round_trip::<ResourceCreate3d>(&noise)?;
        device_round_trip::<ResourceAttachBacking>(&noise)?;
        device_round_trip::<TransferFromHost3d>(&noise)?;
        device_round_trip::<Submit3d>(&noise)?;
    }
}

/// The sizes of virtio 1.2, section 5.7.6, less the header where that is separate.
#[test]
fn device_structures_have_the_sizes_of_the_specification() {
    assert_eq!(size_of::<ControlHeader>(), 24);
    assert_eq!(size_of::<ResourceCreate3d>(), 72 - 24);
    assert_eq!(size_of::<TransferFromHost3d>(), 72 - 24);
    assert_eq!(size_of::<Submit3d>(), 32 - 24);
    // With its one entry.
    assert_eq!(size_of::<ResourceAttachBacking>(), 32 - 24 + 16);
    assert_eq!(<Submit3d as Command>::CODE.0, 0x207);
}

/// On Redox the C library puts calls together, by the declarations in its `redox-ioctl/src/drm.rs`: what is no pointer to
/// a counted array, as a C structure of its own, then the arrays in the order of their pointers.
#[test]
fn calls_have_the_form_that_relibc_gives_them() {
    // Bytes before the arrays; where the count of each array is, and bytes per element.
    type Form = (u8, usize, &'static [(usize, usize)]);
    const FORMS: &[Form] = &[
        (0x00, 40, &[(16, 1), (24, 1), (32, 1)]),
        (0x0c, 16, &[]),
        (0x0d, 16, &[]),
        (0xa0, 32, &[(0, 4), (4, 4), (8, 4), (12, 4)]),
        (0xa1, 96, &[(0, 4)]),
        (0xa2, 96, &[(0, 4)]),
        (0xa6, 20, &[]),
        (0xa7, 48, &[(8, 4), (0, 68), (4, 4), (4, 8)]),
        (0xad, 28, &[]),
        (0xae, 28, &[]),
        (0xaf, 4, &[]),
        (0xb2, 32, &[]),
        (0xb3, 16, &[]),
        (0xb4, 4, &[]),
        (0xb5, 4, &[(0, 4)]),
        (0xb6, 24, &[(20, 4)]),
        (0xb8, 104, &[]),
        (0xb9, 12, &[(0, 4), (0, 8)]),
        (0xce, 104, &[]),
    ];
    for (number, wire, arrays) in FORMS {
        let table = layout_of(*number).unwrap();
        let seen: Vec<_> = table.arrays.iter().map(|array| (array.wire_count, array.element)).collect();
        assert_eq!((table.wire, &seen[..]), (*wire, *arrays), "{}", table.name);
    }
}
