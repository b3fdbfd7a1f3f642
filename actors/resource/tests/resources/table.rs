//! What the resource actor does with each request.

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, UserId};
use virgld_protocol::message::ctrlq::ResourceEvent;
use virgld_protocol::message::transport::RegionRequest;
use virgld_resource::{Effect, Limits, Quota, State};

use crate::setup::{Desk, Grant, PAGE, limits};

const OWNER: FileId = FileId(1);
const OTHER: FileId = FileId(2);
const UP: ResourceEvent = ResourceEvent::Up { features: 1, capsets: 0 };

#[test]
fn resources_of_an_owner_share_its_arena_and_shareable_ones_have_their_own_memory() {
    let mut desk = Desk::new();
    let tokens = [desk.create(OWNER, 1, false), desk.create(OWNER, PAGE + 1, false)];
    assert_eq!(desk.opening.len(), 1, "one arena");
    let shared = desk.create(OWNER, 1, true);
    desk.grant_all();
    let [one, two] = tokens.map(|token| desk.answer(token).unwrap().unwrap());
    let own = desk.answer(shared).unwrap().unwrap();
    assert_eq!(desk.held[&one].backing.region.id, desk.held[&two].backing.region.id);
    assert_eq!((desk.held[&one].backing.length, desk.held[&two].backing.length), (PAGE, 2 * PAGE));
    assert!(desk.held[&own].backing.isolated);
}

/// The transport asks the next device for what the one before had no time for: asked twice, there would be two.
#[test]
fn a_device_that_is_lost_early_leaves_one_place_for_what_devices_cannot_reach() {
    let mut state = State::new(limits());
    let mut effects = Vec::new();
    for event in [UP, ResourceEvent::Down, UP] {
        state.control(event, &mut effects);
    }
    let opened = effects.iter().filter(|it| matches!(it, Effect::Region(RegionRequest::Open { .. })));
    assert_eq!(opened.count(), 1);
}

#[test]
fn what_the_device_cannot_reach_has_a_place_in_what_it_can() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, 1, false);
    desk.grant(0, Grant::NoAddress);
    let resource = desk.answer(token).unwrap().unwrap();
    assert!(desk.held[&resource].backing.device.as_ref().is_some_and(|place| place.region.address.is_some()));
    // Both places for such memory are taken with this one.
    let second = desk.create(OWNER, 1, false);
    let third = desk.create(OWNER, 1, false);
    assert!(desk.answer(second).unwrap().is_ok());
    assert_eq!(desk.answer(third), Some(Err(Errno::ENOMEM)));
    for resource in [resource, desk.answer(second).unwrap().unwrap()] {
        desk.release(resource);
        desk.forget(0);
    }
    desk.retire(OWNER);
    assert!(desk.is_empty());
}

/// Limits that leave room for many copies, but one client only two pages' worth.
fn few_copies() -> Limits {
    let file = Quota { copied_bytes: 4 * PAGE, ..limits().file };
    Limits {
        file,
        user: Quota { copied_bytes: 64 * PAGE, ..limits().user },
        overflow_bytes: 64 * PAGE,
        ..limits()
    }
}

#[test]
fn copies_of_what_the_device_cannot_reach_are_counted_and_bounded_for_each_client() {
    let mut desk = Desk::with(few_copies());
    let made = [false, true, true].map(|shareable| desk.create(OWNER, 1, shareable));
    while !desk.opening.is_empty() {
        desk.grant(0, Grant::NoAddress);
    }
    let [in_arena, own, over] = made.map(|token| desk.answer(token).unwrap());
    assert_eq!(over, Err(Errno::ENOMEM), "two pages are kept three times each, and that is all");
    assert_eq!(desk.copied(OWNER), 4 * PAGE);
    let theirs = desk.create(OTHER, 2 * PAGE, false);
    desk.grant(0, Grant::NoAddress);
    assert!(desk.answer(theirs).unwrap().is_ok(), "another client has its own");
    // Where the device has room for the memory itself, there is nothing to copy.
    let reached = desk.create(OWNER, 1, true);
    desk.grant_all();
    assert!(desk.answer(reached).unwrap().is_ok());
    assert_eq!((desk.copied(OWNER), desk.copied(OTHER)), (4 * PAGE, 4 * PAGE));
    for resource in [in_arena, own, desk.answer(reached).unwrap(), desk.answer(theirs).unwrap()] {
        desk.release(resource.unwrap());
        desk.forget(0);
    }
    assert_eq!((desk.copied(OWNER), desk.copied(OTHER)), (0, 0));
    desk.retire(OWNER);
    desk.retire(OTHER);
    assert!(desk.is_empty());
}

#[test]
fn copies_that_the_device_is_about_to_let_go_of_are_waited_for() {
    for shareable in [false, true] {
        let mut desk = Desk::with(few_copies());
        let first = desk.create(OWNER, 2 * PAGE, shareable);
        desk.grant(0, Grant::NoAddress);
        desk.release(desk.answer(first).unwrap().unwrap());
        let (next, over) = (desk.create(OWNER, 2 * PAGE, shareable), desk.create(OWNER, 1, shareable));
        let refuse_places = |desk: &mut Desk| {
            while !desk.opening.is_empty() {
                desk.grant(0, Grant::NoAddress);
            }
        };
        refuse_places(&mut desk);
        assert!(desk.answer(next).is_none() && desk.answer(over).is_none(), "there will be room");
        desk.forget(0);
        refuse_places(&mut desk);
        let [next, over] = [next, over].map(|token| desk.answer(token).unwrap());
        assert_eq!(
            [next.is_ok(), over.is_ok()].iter().filter(|made| **made).count(),
            1,
            "room for one of them"
        );
    }
}

#[test]
fn memory_that_moves_is_copied_twice_until_its_buffer_goes() {
    let mut desk = Desk::with(few_copies());
    let token = desk.create(OWNER, 1, true);
    desk.grant(0, Grant::NoAddress);
    let resource = desk.answer(token).unwrap().unwrap();
    let again = [desk.renew(resource), desk.renew(resource)].map(|moved| {
        desk.grant(0, Grant::NoAddress);
        desk.answer(moved).unwrap().is_ok()
    });
    assert_eq!((again, desk.copied(OWNER)), ([true, false], 4 * PAGE));
    desk.release(resource);
    desk.forget(0);
    assert_eq!(desk.copied(OWNER), 0);
    desk.retire(OWNER);
    assert!(desk.is_empty());
}

#[test]
fn without_memory_for_an_arena_nothing_is_made() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, 1, false);
    desk.grant(0, Grant::Refusal);
    assert_eq!(desk.answer(token), Some(Err(Errno::ENOMEM)));
    desk.retire(OWNER);
    assert!(desk.is_empty());
}

#[test]
fn a_shareable_resource_falls_back_to_the_arena() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, 1, true);
    desk.grant(0, Grant::Refusal);
    desk.grant(0, Grant::Address);
    let resource = desk.answer(token).unwrap().unwrap();
    assert!(!desk.held[&resource].backing.isolated);
}

#[test]
fn quotas_are_per_owner() {
    let mut desk = Desk::new();
    for _ in 0..limits().file.resources {
        desk.create(OWNER, 1, false);
    }
    let (over, other) = (desk.create(OWNER, 1, false), desk.create(OTHER, 1, false));
    desk.grant_all();
    assert_eq!(desk.answer(over), Some(Err(Errno::ENOMEM)));
    assert!(desk.answer(other).unwrap().is_ok());
    let large = desk.create(OTHER, limits().file.isolated_bytes + 1, true);
    assert_eq!(desk.answer(large), Some(Err(Errno::ENOMEM)));
    let endless = desk.create(OTHER, u64::MAX, false);
    assert_eq!(desk.answer(endless), Some(Err(Errno::ENOMEM)));
}

#[test]
fn a_quota_that_is_used_up_by_what_the_device_has_still_to_let_go_of_is_waited_for() {
    let mut desk = Desk::new();
    let made: Vec<_> = (0..limits().file.resources).map(|_| desk.create(OWNER, 1, false)).collect();
    desk.grant_all();
    assert_eq!(desk.answer(made[4]), Some(Err(Errno::ENOMEM)), "the arena has four pages");
    let last = desk.create(OWNER, 1, true);
    desk.grant_all();
    desk.release(desk.answer(last).unwrap().unwrap());
    let (next, second) = (desk.create(OWNER, 1, true), desk.create(OWNER, 1, true));
    assert!(desk.answer(next).is_none() && desk.answer(second).is_none(), "there will be room");
    desk.forget(0);
    desk.grant_all();
    assert!(desk.answer(next).unwrap().is_ok());
    assert_eq!(desk.answer(second), Some(Err(Errno::ENOMEM)), "there is none, and will be none");
}

#[test]
fn who_drops_buffers_faster_than_the_device_lets_go_of_them_waits() {
    let plenty = Quota { bytes: 1 << 30, resources: 1000, ..limits().file };
    let mut desk = Desk::with(Limits { file: plenty, user: plenty, arena_bytes: 1 << 20, ..limits() });
    let rush = |desk: &mut Desk, owner| {
        for _ in 0..100 {
            let token = desk.create(owner, 1, false);
            desk.grant_all();
            match desk.answer(token) {
                Some(made) => desk.release(made.unwrap()),
                None => return token,
            }
        }
        panic!("nobody waits")
    };
    let waiting = rush(&mut desk, OWNER);
    assert_eq!(desk.leaving.len(), 64);
    let other = desk.create(OTHER, 1, false);
    desk.grant_all();
    assert!(desk.answer(other).unwrap().is_ok(), "others do not wait");
    desk.forget(0);
    assert!(desk.answer(waiting).unwrap().is_ok(), "the device has let go of one");
    // Without a device nobody waits for it; the next is told of all that leaves.
    desk.release(desk.answer(waiting).unwrap().unwrap());
    let next = desk.create(OWNER, 1, false);
    assert_eq!(desk.answer(next), None);
    desk.control(ResourceEvent::Down);
    assert!(desk.answer(next).unwrap().is_ok());
    desk.leaving.clear();
    desk.control(UP);
    let last = desk.create(OWNER, 1, false);
    desk.release(desk.answer(next).unwrap().unwrap());
    desk.release(desk.answer(other).unwrap().unwrap());
    desk.retire(OWNER);
    assert_eq!(desk.answer(last), Some(Err(Errno::ENODEV)), "its file is closed");
    desk.retire(OTHER);
    while !desk.leaving.is_empty() {
        desk.forget(0);
    }
    assert!(desk.is_empty());
}

#[test]
fn a_user_has_a_quota_over_all_files() {
    let mut desk = Desk::new();
    let user = UserId(7);
    let of_one: Vec<_> = (0..4).map(|_| desk.create_for(OWNER, user, 1, false)).collect();
    let of_other: Vec<_> = (0..4).map(|_| desk.create_for(OTHER, user, 1, false)).collect();
    let (over, stranger) =
        (desk.create_for(OTHER, user, 1, false), desk.create_for(FileId(3), UserId(8), 1, false));
    desk.grant_all();
    for token in of_one.iter().chain(&of_other) {
        assert!(desk.answer(*token).unwrap().is_ok());
    }
    assert_eq!(desk.answer(over), Some(Err(Errno::ENOMEM)), "the user has 8 resources");
    assert!(desk.answer(stranger).unwrap().is_ok(), "another user notices nothing");
    desk.release(desk.answer(of_one[0]).unwrap().unwrap());
    desk.forget(0);
    let again = desk.create_for(OWNER, user, 1, false);
    assert!(desk.answer(again).unwrap().is_ok(), "what the device has let go of is not counted");
}

#[test]
fn memory_that_moves_is_new_memory_with_the_old_contents() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, PAGE, true);
    desk.grant_all();
    let resource = desk.answer(token).unwrap().unwrap();
    let first = desk.held[&resource].backing.region.id;
    let moved = desk.renew(resource);
    desk.grant_all();
    assert_eq!(desk.answer(moved), Some(Ok(resource)));
    assert_ne!(desk.held[&resource].backing.region.id, first);
    assert!(desk.regions.contains(&first), "the device may have work under way there");
    let again = desk.renew(resource);
    desk.grant_all();
    assert_eq!(desk.answer(again), Some(Ok(resource)));
    let over = desk.renew(resource);
    assert_eq!(desk.answer(over), Some(Err(Errno::ENOMEM)), "the old memory is still charged");
    desk.release(resource);
    let late = desk.renew(resource);
    assert_eq!(desk.answer(late), Some(Err(Errno::ENOENT)));
    desk.forget(0);
    desk.retire(OWNER);
    assert!(desk.is_empty());
}

#[test]
fn moving_memory_out_of_the_arena_counts() {
    let mut desk = Desk::new();
    let made = [desk.create(OWNER, 2 * PAGE, false), desk.create(OWNER, 2 * PAGE, false)];
    desk.grant_all();
    let [first, second] = made.map(|token| desk.answer(token).unwrap().unwrap());
    let (good, over) = (desk.isolate(first), desk.isolate(second));
    desk.grant_all();
    assert_eq!(desk.answer(good), Some(Ok(first)));
    assert_eq!(desk.answer(over), Some(Err(Errno::ENOMEM)));
}

#[test]
fn memory_moves_once_however_often_that_is_asked() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, 1, false);
    desk.grant_all();
    let resource = desk.answer(token).unwrap().unwrap();
    let tokens = [desk.isolate(resource), desk.isolate(resource)];
    desk.grant(0, Grant::Address);
    let region = desk.held[&resource].backing.region.id;
    desk.grant_all();
    let last = desk.isolate(resource);
    assert!(tokens.iter().chain([&last]).all(|token| desk.answer(*token) == Some(Ok(resource))));
    assert_eq!(desk.held[&resource].backing.region.id, region);
}

/// The number may be another's when the region comes, and that one's memory must stay where it is.
#[test]
fn a_move_ends_with_its_resource() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, 1, false);
    desk.grant_all();
    let resource = desk.answer(token).unwrap().unwrap();
    let moving = desk.isolate(resource);
    desk.release(resource);
    desk.forget(0);
    let token = desk.create(OWNER, 1, false);
    assert_eq!(desk.answer(token), Some(Ok(resource)), "the number comes again");
    desk.grant_all();
    assert!(!desk.held[&resource].backing.isolated);
    assert_eq!(desk.answer(moving), Some(Err(Errno::ENOENT)));
}

#[test]
fn numbers_and_memory_come_again_only_after_the_device_forgot_them() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, limits().arena_bytes, false);
    desk.grant_all();
    let resource = desk.answer(token).unwrap().unwrap();
    desk.release(resource);
    let early = desk.create(OWNER, PAGE, false);
    assert_eq!(desk.answer(early), None, "the whole arena is the device's still");
    desk.forget(0);
    assert_eq!(desk.answer(early), Some(Ok(resource)));
}

#[test]
fn the_next_buffer_has_the_memory_of_the_last_as_the_device_sees_it() {
    let mut desk = Desk::new();
    let create = |desk: &mut Desk, pages: u64| {
        let token = desk.create(OWNER, pages * PAGE, false);
        desk.grant_all();
        desk.answer(token).unwrap().unwrap()
    };
    let drop = |desk: &mut Desk, resource| {
        desk.release(resource);
        desk.forget(0);
    };
    let one = create(&mut desk, 2);
    let place = desk.held[&one].backing.offset;
    drop(&mut desk, one);
    assert_eq!(desk.shown.len(), 1, "the device still sees it");
    let next = create(&mut desk, 2);
    assert_eq!((desk.held[&next].backing.offset, desk.shown.len()), (place, 1));
    drop(&mut desk, next);
    // It is in the way of one that is longer.
    let long = create(&mut desk, 4);
    assert_eq!(desk.shown.len(), 1);
    drop(&mut desk, long);
    assert_eq!(desk.shown.len(), 1);
    // Another device sees none of it.
    desk.control(ResourceEvent::Down);
    desk.control(UP);
    let after = create(&mut desk, 1);
    assert_eq!(desk.shown.len(), 1);
    drop(&mut desk, after);
    desk.retire(OWNER);
    assert!(desk.is_empty(), "the device sees nothing of a file that is gone");
}

#[test]
fn what_is_made_and_released_without_a_device_is_told_to_the_next() {
    let mut desk = Desk::new();
    let token = desk.create(OWNER, 1, false);
    desk.grant_all();
    let old = desk.answer(token).unwrap().unwrap();
    desk.control(ResourceEvent::Down);
    let token = desk.create(OWNER, 1, false);
    let new = desk.answer(token).unwrap().unwrap();
    // The device that is lost may still write there.
    desk.release(old);
    assert!(desk.leaving.is_empty() && !desk.is_empty());
    desk.control(ResourceEvent::Failed { resource: new, errno: Errno::EIO });
    desk.control(ResourceEvent::Up { features: 1, capsets: 0 });
    assert_eq!(desk.leaving, [old]);
    desk.forget(0);
    desk.release(new);
    desk.forget(0);
    desk.retire(OWNER);
    assert!(desk.is_empty());
}
