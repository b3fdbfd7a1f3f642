//! Every target stands its seeds, and as many inputs made of them as a few seconds allow; the same each time.
//!
//! An input that fails says how to run it alone.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use virgld_fuzz::{TARGETS, Target, blind};

/// Inputs made of seeds, for a target that runs on the state of one actor.
const ROUNDS: u64 = 3000;
/// The same for those that run the whole system, a hundred times as slow.
const SYSTEM_ROUNDS: u64 = 150;

fn seeds_of(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no seeds", target.name);
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs one input; a failure carries the command that runs it again.
fn stand(target: &Target, bytes: &[u8], again: impl FnOnce() -> String) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_err() {
        panic!("{} failed; again: cargo run --package virgld-fuzz -- {}", target.name, again());
    }
}

#[test]
fn every_target_stands_its_seeds() {
    for target in TARGETS {
        for (path, bytes) in seeds_of(target) {
            stand(target, &bytes, || format!("replay {} {}", target.name, path.display()));
        }
    }
}

#[test]
fn every_target_stands_what_is_made_of_its_seeds() {
    for target in TARGETS {
        let seeds: Vec<Vec<u8>> = seeds_of(target).into_iter().map(|(_, bytes)| bytes).collect();
        let rounds = if ["ioctls", "device"].contains(&target.name) { SYSTEM_ROUNDS } else { ROUNDS };
        for number in 0..rounds {
            let bytes = blind::mutation(&seeds, number);
            stand(target, &bytes, || {
                format!("blind {} fuzz/seeds/{} --first {number}", target.name, target.name)
            });
        }
    }
}

#[test]
fn a_target_that_does_not_stand_is_seen() {
    let broken = Target { name: "broken", about: "", run: |bytes| assert!(bytes.is_empty()) };
    assert!(catch_unwind(|| stand(&broken, &[1], String::new)).is_err());
}
