//! Quotas of a user over all files. All files of the test's door are one user's.

use virgld_protocol::client::{SyncobjCreate, SyncobjHandleToFd, SyncobjTimelineSignal};
use virgld_protocol::errno::Errno;
use virgld_protocol::message::door::Attach;
use virgld_scheme::UserLimits;
use virgld_testkit::system::{System, SystemConfig};
use zerocopy::IntoBytes;

use crate::setup::Desk;

fn desk(change: impl FnOnce(&mut UserLimits)) -> Desk {
    let mut config = SystemConfig::default();
    change(&mut config.scheme.user);
    Desk { system: System::new(&config, 0) }
}

#[test]
fn contexts_of_a_user_are_counted_over_all_files_while_they_live() {
    let mut desk = desk(|user| user.contexts = 2);
    let files = [desk.open(), desk.open(), desk.open()];
    assert!(desk.try_create(files[0], 0).is_ok() && desk.try_create(files[1], 0).is_ok());
    assert_eq!(desk.try_create(files[2], 0), Err(Errno::ENOSPC));
    assert!(desk.try_create(files[0], 0).is_ok(), "those that are there work on");
    desk.system.door.close(files[0]);
    desk.finish();
    assert!(desk.try_create(files[2], 0).is_ok(), "one has gone");
    desk.end(&files[1..]);
}

#[test]
fn objects_shared_by_a_user_are_counted_until_no_descriptor_is_left() {
    let mut desk = desk(|user| user.exported_syncobjs = 1);
    let files = [desk.open(), desk.open()];
    let share = |desk: &mut Desk, file| {
        let made = desk.ask(file, &SyncobjCreate::default(), &[]).fixed::<SyncobjCreate>().unwrap();
        let answer =
            desk.ask(file, &SyncobjHandleToFd { handle: made.handle, fd: -1, ..Default::default() }, &[]);
        match (answer.errno(), answer.attach) {
            (None, Some(Attach::Syncobj(key))) => Ok(key),
            (errno, _) => Err(errno.unwrap()),
        }
    };
    let key = share(&mut desk, files[0]).unwrap();
    assert_eq!(share(&mut desk, files[1]), Err(Errno::EMFILE));
    desk.system.door.drop_syncobj(key);
    desk.go();
    let key = share(&mut desk, files[1]).unwrap();
    files.iter().for_each(|file| desk.system.door.close(*file));
    desk.system.door.drop_syncobj(key);
    desk.end(&[]);
}

#[test]
fn a_timeline_that_is_never_reached_does_not_grow_without_end() {
    let mut desk = desk(|_| ());
    let file = desk.open();
    let made = desk.ask(file, &SyncobjCreate::default(), &[]).fixed::<SyncobjCreate>().unwrap();
    // One pending fence holds up all points behind it.
    let fence = desk.system.door.foreign_fence();
    let imported =
        virgld_protocol::client::SyncobjFdToHandle { handle: made.handle, flags: 1, ..Default::default() };
    let answer =
        desk.ask_with(file, &imported, virgld_protocol::message::scheme::Attached::ForeignFence(fence));
    assert_eq!(answer.errno(), None);
    let mut refused = None;
    for point in 1..10_000_u64 {
        let signal = SyncobjTimelineSignal { count_handles: 1, ..Default::default() };
        let errno = desk.ask(file, &signal, &[[made.handle].as_bytes(), [point].as_bytes()]).errno();
        if errno.is_some() {
            refused = errno;
            break;
        }
    }
    assert_eq!(refused, Some(Errno::ENOMEM));
    desk.system.door.signal(fence, Ok(()));
    desk.end(&[file]);
}
