//! What `docs/faults.md` says of the fault matrix holds.

use virgld_testkit::matrix::{self, Entry, Told};

fn check(entries: Vec<Entry>, good: impl Fn(&Entry) -> bool) {
    let struck = entries.iter().filter(|(_, _, cell)| cell.struck > 0).count();
    assert!(struck * 2 > entries.len(), "faults struck in {struck} cells only");
    let bad = entries.into_iter().filter(|entry| !good(entry));
    let bad: String = bad.map(|(row, column, cell)| format!("{row}, {column}: {cell:#?}\n")).collect();
    assert!(bad.is_empty(), "{bad}");
}

/// Messages between actors neither get lost nor overtake one another, so nobody looks for those that did.
fn breaks_the_mailbox(column: &str) -> bool {
    column.starts_with("drop") || column == "reorder"
}

#[test]
fn a_fault_at_an_actor_is_never_told_to_another_client_and_leaves_nothing() {
    check(matrix::of_actors(), |(row, column, cell)| {
        let ends = cell.concerned != Told::Silence && cell.wrong.is_empty();
        // With the keeper's faults a device is lost, which all feel who share it.
        let others = cell.other == Told::Nothing || *row == matrix::KEEPER;
        others && (ends || breaks_the_mailbox(column))
    });
}

#[test]
fn a_fault_at_the_device_leaves_nobody_without_an_answer_and_leaves_nothing() {
    check(matrix::of_device(), |(_, _, cell)| {
        cell.other.max(cell.concerned) != Told::Silence && cell.wrong.is_empty()
    });
}
