//! What `docs/faults.md` says of the fault matrix holds.

use virgld_testkit::matrix::{self, EXCEPTIONS, Entry, Told};

fn struck(entries: &[Entry]) {
    let struck = entries.iter().filter(|(_, _, cell)| cell.struck > 0).count();
    assert!(struck * 2 > entries.len(), "faults struck in {struck} cells only");
}

#[test]
fn whatever_is_not_good_of_a_fault_at_an_actor_has_its_reason_and_each_reason_is_needed() {
    let entries = matrix::of_actors();
    struck(&entries);
    let mut used = vec![false; EXCEPTIONS.len()];
    let mut bad = String::new();
    for (row, column, cell) in &entries {
        for finding in &cell.findings {
            let covers = EXCEPTIONS.iter().position(|it| it.covers(row, column, finding));
            match covers {
                Some(index) => used[index] = true,
                None => bad += &format!("{row}, {column}: {finding:?}\n"),
            }
        }
        if !cell.wrong.is_empty() {
            bad += &format!("{row}, {column}: {:?}\n", cell.wrong);
        }
    }
    for (exception, _) in EXCEPTIONS.iter().zip(used).filter(|(_, used)| !used) {
        bad += &format!("nothing needs {exception:?}\n");
    }
    assert!(bad.is_empty(), "{bad}");
}

#[test]
fn a_fault_at_the_device_leaves_nobody_without_an_answer_and_leaves_nothing() {
    let entries = matrix::of_device();
    struck(&entries);
    let bad = entries.into_iter().filter(|(_, _, cell)| {
        let silent = cell.other.max(cell.concerned) == Told::Silence;
        silent || !cell.left.is_empty() || !cell.wrong.is_empty() || !cell.refused.is_empty()
    });
    let bad: String = bad.map(|(row, column, cell)| format!("{row}, {column}: {cell:#?}\n")).collect();
    assert!(bad.is_empty(), "{bad}");
}
