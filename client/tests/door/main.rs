//! The client library, preloaded into a program, against the door, behind which a trivial scheme answers.
//!
//! Each test starts a door on a thread of its own and runs this very binary again as the client, with the library
//! before it: the test called `program` is then one of the scenarios of [`program`].
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "all of it is a test")]

mod calls;
mod daemon;
mod heap;
mod measure;
mod modes;
mod pointers;
mod program;
mod scheme;
mod silence;
mod udev;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon::Daemon;

const SCENARIO: &str = "VIRGLD_TEST_SCENARIO";

/// Not a test of its own: the client's side of the others.
#[test]
fn program() {
    if let Ok(scenario) = std::env::var(SCENARIO) {
        program::run(&scenario);
    }
}

fn start(directory: &Path, scenario: &str) -> Child {
    command(directory, scenario).stdout(Stdio::null()).spawn().unwrap()
}

fn command(directory: &Path, scenario: &str) -> Command {
    let here = std::env::current_exe().unwrap();
    let library = here.with_file_name("libvirgld_drm.so");
    assert!(library.exists(), "{} was not built", library.display());
    let mut command = Command::new(here);
    command
        .args(["--exact", "program", "--nocapture"])
        .env(SCENARIO, scenario)
        .env("LD_PRELOAD", library)
        .env("VIRGLD_DIR", directory);
    command
}

fn play(scenario: &str) -> Daemon {
    let daemon = Daemon::start();
    let status = start(daemon.directory(), scenario).wait().unwrap();
    assert!(status.success(), "{scenario}: {status}; the door saw {:?}", daemon.seen());
    daemon.wait_for("every file is closed", |seen| seen.open == 0);
    daemon
}

#[test]
fn the_nodes_look_like_a_gpu() {
    play("nodes");
}

#[test]
fn calls_carry_structures_arrays_and_errors() {
    play("calls");
}

#[test]
fn streams_arrive_whole_and_fences_signal() {
    let daemon = play("submit");
    assert_eq!(daemon.seen().broken_streams, 0);
}

#[test]
fn buffers_are_mapped_and_shared_by_descriptor() {
    let daemon = play("share");
    daemon.wait_for("the export is unused", |seen| seen.unused_exports == 1 && seen.unused_syncobjs == 1);
}

#[test]
fn buffers_that_are_made_again_and_again_are_made_in_advance() {
    let seen = play("stock").seen();
    let asked = 50 + 1 + 6 + 4 + 1;
    assert_eq!(seen.maps, [1, 100]);
    let in_stock = seen.made - asked;
    assert!((4..=8).contains(&in_stock), "{seen:?}");
    assert_eq!(seen.closed, 50 + in_stock, "what nobody asked for was closed: {seen:?}");
}

#[test]
fn a_fence_of_a_call_that_waits_for_its_turn_is_waited_for() {
    play("ahead");
}

#[test]
fn displays_that_change_are_heard_of_by_libudev() {
    play("hotplug");
}

#[test]
fn a_client_that_opens_its_buffer_again_and_again_does_not_end_the_daemon() {
    for _ in 0..5 {
        play("reopen").wait_for("the export is unused", |seen| seen.unused_exports == 1);
    }
}

#[test]
fn mode_setting_carries_lists_that_share_counts_and_calls_without_argument() {
    play("modes");
}

#[test]
fn events_are_read_as_from_a_drm_file() {
    play("events");
}

#[test]
fn an_atomic_commit_carries_its_fences() {
    play("atomic");
}

#[test]
fn a_daemon_that_dies_is_an_error_to_who_reads_events() {
    let daemon = Daemon::start();
    let mut child = start(daemon.directory(), "reader");
    daemon.wait_for("it reads", |seen| seen.submits == 1);
    drop(daemon);
    assert!(child.wait().unwrap().success());
}

#[test]
fn pointers_that_lead_nowhere_are_an_error_and_no_more() {
    play("pointers");
}

#[test]
fn busy_buffers_are_known_without_asking() {
    play("busy");
}

#[test]
fn what_is_done_over_and_over_takes_no_memory() {
    play("heap");
}

#[test]
fn threads_share_a_file() {
    play("threads");
}

#[test]
fn a_child_of_fork_has_a_channel_of_its_own() {
    let daemon = play("fork");
    assert_eq!(daemon.seen().opened, 1);
}

#[test]
fn a_file_that_used_up_its_share_waits_and_others_go_on() {
    let daemon = play("flood");
    assert!(daemon.seen().most_held <= 64, "{:?}", daemon.seen());
}

#[test]
fn a_client_that_breaks_the_rules_loses_its_file_only() {
    let daemon = play("break");
    assert_eq!(daemon.seen().opened, 2);
}

#[test]
fn a_client_that_is_killed_leaves_nothing() {
    let daemon = Daemon::start();
    for _ in 0..5 {
        let mut child = start(daemon.directory(), "hammer");
        let before = daemon.seen().submits;
        daemon.wait_for("it is at work", |seen| seen.submits > before + 100);
        child.kill().unwrap();
        child.wait().unwrap();
        daemon.wait_for("its file is closed", |seen| seen.open == 0);
    }
    assert!(start(daemon.directory(), "calls").wait().unwrap().success());
}

#[test]
fn clients_of_a_daemon_that_dies_are_told_so() {
    let daemon = Daemon::start();
    let mut child = start(daemon.directory(), "orphan");
    daemon.wait_for("it is at work", |seen| seen.submits > 100);
    drop(daemon);
    let start = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_daemon_without_descriptors_neither_dies_nor_spins() {
    // The client of this one is the daemon as well: the limit is that of its process.
    let directory = std::env::temp_dir().join(format!("virgld-few-{}", std::process::id()));
    let status = start(&directory, "descriptors").wait().unwrap();
    assert!(status.success());
}

/// Not a test: prints how long calls take. Run with `--release --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let daemon = Daemon::start();
    let status = start(daemon.directory(), "measure").wait().unwrap();
    assert!(status.success());
}
