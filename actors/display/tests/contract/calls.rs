//! Calls that are refused, and calls that wait, as Linux has them.

use virgld_protocol::errno::Errno;
use virgld_protocol::message::display::{Answer, Call};

use super::desk::{Desk, FIRST};

#[test]
fn an_event_of_a_commit_without_a_screen_is_refused() {
    let mut desk = Desk::new();
    desk.understand();
    let commit = |flags| Call::Atomic { flags, sets: vec![], user_data: 0, fence_in: None, fence_out: None };
    assert_eq!(desk.call(FIRST, commit(1)).1.unwrap().unwrap_err(), Errno::EINVAL);
    assert!(matches!(desk.call(FIRST, commit(0)).1, Some(Ok(Answer::Done))));
}
