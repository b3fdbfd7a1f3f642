//! The numbers of fences.

use virgld_protocol::device::Code;

use crate::setup::{Desk, header};

#[test]
fn numbers_ascend_from_one() {
    let mut desk = Desk::new(4);
    for serial in 1..4 {
        desk.submit(7, serial);
    }
    let fences: Vec<u64> = desk.published().iter().map(|publish| header(publish).fence_id).collect();
    assert_eq!(fences, [1, 2, 3]);
}

/// Devices complete no fence above 32 bits, and may take a number below the last completed as done: so the numbers
/// start again only when no fence is under way.
#[test]
fn numbers_start_again_when_no_fence_is_under_way() {
    let mut desk = Desk::numbering_from(8, u32::MAX - 2);
    for serial in 1..5 {
        desk.submit(7, serial);
    }
    desk.unreference(9);
    let mut published = desk.published();
    let fences: Vec<u64> = published.iter().map(|publish| header(publish).fence_id).collect();
    assert_eq!(fences, [u64::from(u32::MAX - 2), u64::from(u32::MAX - 1)]);

    desk.answer(published.remove(1), Code::OK_NO_DATA);
    assert!(desk.published().is_empty());
    desk.answer(published.remove(0), Code::OK_NO_DATA);
    let rest = desk.published();
    let fences: Vec<u64> = rest.iter().map(|publish| header(publish).fence_id).collect();
    assert_eq!(fences, [1, 2, 0], "what waited goes on, in order");
    assert_eq!(desk.told(), ["context 7: 2 ended well", "context 7: 1 ended well"]);
}
