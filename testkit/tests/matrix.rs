//! What `docs/faults.md` says of the fault matrix holds.

use virgld_testkit::matrix::{self, Entry, Told};

fn check(entries: Vec<Entry>, good: impl Fn(&Entry) -> bool) {
    let struck = entries.iter().filter(|(_, _, cell)| cell.struck > 0).count();
    assert!(struck * 2 > entries.len(), "faults struck in {struck} cells only");
    let bad = entries.into_iter().filter(|entry| !good(entry));
    let bad: String = bad.map(|(row, column, cell)| format!("{row}, {column}: {cell:#?}\n")).collect();
    assert!(bad.is_empty(), "{bad}");
}

/// Messages between actors neither get lost nor overtake one another; where a fault has them do so, the device may be
/// told of what it does not know.
fn breaks_the_mailbox(column: &str) -> bool {
    column.starts_with("drop") || column == "reorder"
}

/// Where what got lost is what was to be waited for: between the door and the scheme, and on the way to the client.
const MAY_BE_SILENT: [(&str, &str); 3] = [("door", "drop"), ("scheme", "drop"), ("scheme", "drop effects")];

/// Where what got lost is that something is not needed any more, which nobody waits for.
const MAY_LEAVE: [(&str, &str); 6] = [
    ("scheme", "drop"),
    ("scheme", "drop effects"),
    ("resource", "drop"),
    ("resource", "drop effects"),
    ("control queue", "drop"),
    // The image of a pointer that another has taken the place of is let go when that one has arrived.
    ("display", "drop effects"),
];

#[test]
fn a_fault_at_an_actor_is_never_told_to_another_client_and_ends_and_leaves_nothing() {
    check(matrix::of_actors(), |(row, column, cell)| {
        // With the keeper's faults a device is lost, which all feel who share it.
        let others = cell.other == Told::Nothing || *row == matrix::KEEPER;
        let ends = cell.concerned != Told::Silence || MAY_BE_SILENT.contains(&(*row, *column));
        let clean = cell.left.is_empty() || MAY_LEAVE.contains(&(*row, *column));
        let good = cell.wrong.is_empty() || breaks_the_mailbox(column);
        others && ends && clean && good
    });
}

#[test]
fn a_fault_at_the_device_leaves_nobody_without_an_answer_and_leaves_nothing() {
    check(matrix::of_device(), |(_, _, cell)| {
        let silent = cell.other.max(cell.concerned) == Told::Silence;
        !silent && cell.left.is_empty() && cell.wrong.is_empty()
    });
}
