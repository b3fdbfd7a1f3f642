//! Fences of atomic commits: what is waited for before something is shown, and what signals when it is.

use virgld_protocol::client::SetClientCap;
use virgld_protocol::client::kms::{IN_FENCE_FD, OUT_FENCE_PTR};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId};
use virgld_protocol::message::scheme::{Attached, Node};

use super::{ALLOW_MODESET, CRTC, Desk, NONBLOCK, PLANE, REFRESH, TEST_ONLY, commit, property};

const WAITS: (u32, u32, u64) = (PLANE, IN_FENCE_FD, 0);
const SIGNALS: (u32, u32, u64) = (CRTC, OUT_FENCE_PTR, 1);

#[test]
fn a_commit_waits_for_its_fence_and_the_other_signals_when_it_is_shown() {
    let mut desk = Desk::new();
    let (file, second) = desk.lit(1, 2);
    let flip = (PLANE, property::FB_ID, u64::from(second));
    let drawn = desk.system.door.foreign_fence();
    let (shown, result) = desk.fenced(file, 0, &[flip, WAITS, SIGNALS], Some(Attached::ForeignFence(drawn)));
    assert_eq!(result, Ok(()));
    desk.system.advance(REFRESH * 5);
    assert_eq!((desk.shown(), desk.system.door.signalled(shown)), (Some(1), None), "it is not drawn yet");
    assert_eq!(desk.atomic(file, NONBLOCK, &[flip]), Err(Errno::EBUSY));
    desk.system.door.signal(drawn, Err(Errno::EIO));
    desk.system.settle();
    assert_eq!(desk.shown(), Some(1), "shown before its refresh");
    assert_eq!(desk.system.door.signalled(shown), None, "signalled before it is shown");
    desk.system.advance(REFRESH);
    desk.system.settle();
    assert_eq!((desk.shown(), desk.system.door.signalled(shown)), (Some(2), Some(Ok(()))));
    desk.end(&[file]);
}

#[test]
fn a_fence_of_a_commit_can_be_waited_for_by_the_next() {
    let mut desk = Desk::new();
    let (file, second) = desk.lit(1, 2);
    let flip = (PLANE, property::FB_ID, u64::from(second));
    let (first, result) = desk.fenced(file, 0, &[flip, SIGNALS], None);
    assert_eq!(result, Ok(()));
    desk.system.advance(REFRESH);
    desk.system.settle();
    let (after, result) = desk.fenced(file, 0, &[flip, WAITS, SIGNALS], Some(Attached::Fence(first)));
    assert_eq!(result, Ok(()), "a fence that has signalled");
    desk.system.advance(REFRESH);
    desk.system.settle();
    assert_eq!(desk.system.door.signalled(after), Some(Ok(())));
    desk.end(&[file]);
}

#[test]
fn a_commit_that_is_refused_signals_why_and_one_that_is_only_tried_too() {
    let mut desk = Desk::new();
    let (file, second) = desk.lit(1, 2);
    let flip = (PLANE, property::FB_ID, u64::from(second));
    for (flags, sets, within, why) in [
        (0, vec![flip, WAITS, SIGNALS], Some(Attached::Unknown), "what came is no fence"),
        (0, vec![flip, WAITS, SIGNALS], None, "nothing came"),
        (0, vec![flip, (PLANE, IN_FENCE_FD, 7), SIGNALS], None, "no value of the client library's"),
        (0, vec![flip, (CRTC, OUT_FENCE_PTR, 4096)], None, "an address"),
        (TEST_ONLY, vec![flip, SIGNALS], None, "a trial"),
        (0, vec![(PLANE, property::SRC_W, 1), SIGNALS], None, "ERANGE"),
        (ALLOW_MODESET, vec![(CRTC + 5, OUT_FENCE_PTR, 1)], None, "no such CRTC"),
    ] {
        let (fence, result) = desk.fenced(file, flags, &sets, within);
        assert!(result.is_err(), "{why}");
        assert_eq!(desk.system.door.signalled(fence), Some(result), "{why}");
    }
    assert_eq!(desk.atomic(file, TEST_ONLY, &[flip, (PLANE, IN_FENCE_FD, u64::MAX)]), Ok(()));
    desk.system.outlast();
    assert_eq!(desk.shown(), Some(1));
    desk.end(&[file]);
}

#[test]
fn a_fence_that_never_signals_holds_a_screen_up_for_a_while_and_nobody_for_ever() {
    let mut desk = Desk::new();
    let (file, second) = desk.lit(1, 2);
    let flip = (PLANE, property::FB_ID, u64::from(second));
    let never = desk.system.door.foreign_fence();
    let (shown, result) = desk.fenced(file, 0, &[flip, WAITS, SIGNALS], Some(Attached::ForeignFence(never)));
    assert_eq!(result, Ok(()));
    // Waits for the one before, and is gone with its file.
    let (fixed, [objects, each, properties, values]) = commit(0, &[flip, SIGNALS]);
    let arrays: [&[u8]; 4] = [&objects, &each, &properties, &values];
    let (_, later) = desk.system.door.call_signalling(file, &fixed, &arrays, None);
    desk.system.advance(REFRESH);
    assert_eq!((desk.system.door.signalled(shown), desk.system.door.signalled(later)), (None, None));
    desk.system.door.close(file);
    desk.system.settle();
    assert_eq!(desk.shown(), None);
    assert_eq!(desk.system.door.signalled(later), Some(Err(Errno::ECANCELED)));
    let (file, second) = desk.lit(3, 4);
    let flip = (PLANE, property::FB_ID, u64::from(second));
    let (shown, result) = desk.fenced(file, 0, &[flip, WAITS, SIGNALS], Some(Attached::ForeignFence(never)));
    assert_eq!(result, Ok(()));
    desk.system.outlast();
    assert_eq!((desk.shown(), desk.system.door.signalled(shown)), (Some(4), Some(Ok(()))));
    desk.system.door.signal(never, Ok(()));
    desk.end(&[file]);
}

impl Desk {
    /// A commit that does not wait, with fences: the one that signals when it is shown, or why there is none.
    fn fenced(
        &mut self,
        file: FileId,
        flags: u32,
        sets: &[(u32, u32, u64)],
        within: Option<Attached>,
    ) -> (FenceKey, Result<(), Errno>) {
        let (fixed, arrays) = commit(NONBLOCK | flags, sets);
        let [objects, each, properties, values] = &arrays;
        let arrays: [&[u8]; 4] = [objects, each, properties, values];
        let (token, fence) = self.system.door.call_signalling(file, &fixed, &arrays, within);
        self.system.settle();
        (fence, self.system.door.answer(token).unwrap().result.map(drop))
    }

    /// A master that understands atomic and shows `colour`, and a framebuffer of another colour.
    fn lit(&mut self, colour: u32, other: u32) -> (FileId, u32) {
        let file = self.system.door.open(Node::Card);
        let (first, second) = (self.dumb(file, colour), self.dumb(file, other));
        let (first, second) =
            (self.framebuffer(file, first).unwrap(), self.framebuffer(file, second).unwrap());
        self.set_crtc(file, first).unwrap();
        self.ask(file, &SetClientCap { capability: 3, value: 1 }, &[]).unwrap();
        (file, second)
    }
}
