//! A daemon that is slow, and one that hangs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::calls::*;
use crate::daemon::Daemon;
use crate::scheme::{ANSWER, HANG, HOLD, LATER};

const PATIENCE: &str = "VIRGLD_PATIENCE";

#[test]
fn a_daemon_that_answers_late_is_waited_for_longer_than_one_that_is_silent() {
    let daemon = Daemon::start();
    let status = crate::command(daemon.directory(), "late").env(PATIENCE, "2").status().unwrap();
    assert!(status.success());
}

#[test]
fn a_daemon_that_hangs_is_given_up_and_tried_anew() {
    let daemon = Daemon::start();
    let mut client = crate::command(daemon.directory(), "hung");
    let piped = client.env(PATIENCE, "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let _said = hear(&mut child, LOST);
    daemon.thaw();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    let lines: Vec<_> = told.lines().filter(|line| line.starts_with("virgld: ")).collect();
    // Three files, and two that could not be opened; many waited for the first.
    assert_eq!(lines.len(), 5, "{told}");
    let whose = format!("by process {}", child.id());
    assert!(lines.iter().all(|line| line.contains("renderD128") && line.contains(&whose)), "{told}");
    daemon.wait_for("every file is closed", |seen| seen.open == 0);
}

#[test]
fn fences_in_advance_are_there_before_the_last_is_gone() {
    let daemon = Daemon::start();
    let mut client = crate::command(daemon.directory(), "stocked");
    let mut child = client.env(PATIENCE, "5").stdout(Stdio::piped()).spawn().unwrap();
    let _said = hear(&mut child, STOCKED);
    daemon.thaw();
    assert!(child.wait().unwrap().success());
}

/// Waits until a program says this, or nothing more. What it says is to be kept for as long as it goes on to say something.
fn hear(child: &mut Child, what: &str) -> BufReader<ChildStdout> {
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while said.read_line(&mut line).unwrap() > 0 && !line.contains(what) {}
    said
}

/// What the program says when it has had more fences than it was given at a time, of a daemon that hangs.
const STOCKED: &str = "all are stocked";

/// What the program says when it has found all lost.
const LOST: &str = "all is lost";

/// Everything that can be waited for comes after more than twice as long as silence would be suffered.
pub(crate) fn late() {
    let (fd, other) = (render(), render());
    let handle = create(fd);
    let fence = submit(fd, 2, &stream(HOLD, 4), &[handle], -1).unwrap();
    thread::scope(|scope| {
        let answer = scope.spawn(|| get_cap(fd, LATER));
        let signal = scope.spawn(|| readable(fence, -1));
        let room = scope.spawn(|| {
            let held = create(other);
            (0..300).all(|_| submit(other, 0, &stream(HOLD, 16_000), &[held], -1).is_ok())
        });
        thread::sleep(Duration::from_secs(5));
        assert!(!answer.is_finished() && !signal.is_finished() && !room.is_finished());
        let releases = render();
        assert_eq!(get_cap(releases, ANSWER), Ok(1));
        while !room.is_finished() {
            drm(releases, 0x0d, &mut [0_u64, 0]).unwrap();
        }
        assert_eq!(answer.join().unwrap(), Ok(1));
        assert!(signal.join().unwrap() && room.join().unwrap());
    });
    assert_eq!(fence_status(fence), Ok(1));
}

pub(crate) fn hung() {
    let (fd, other, new) = (render(), render(), render());
    let handle = create(fd);
    assert_eq!(get_cap(other, 1), Ok(2));
    let fence = submit(fd, 2, &stream(HOLD, 4), &[handle], -1).unwrap();
    thread::scope(|scope| {
        // In a ring of its own: behind so many submits that wait for the held one it would never be heard.
        scope.spawn(|| assert_eq!(get_cap(other, HANG), Err(libc::EIO), "an answer"));
        scope.spawn(|| assert_eq!(hangs_up(fence, -1), 1, "a fence"));
        scope.spawn(|| assert_eq!(hangs_up(fence, 60_000), 1, "a fence, for a while"));
        scope.spawn(|| {
            let lost = loop {
                // With a descriptor, of which there is a bounded number too.
                if let Err(errno) = submit(fd, 1, &stream(0, 4), &[handle], fence) {
                    break errno;
                }
            };
            assert_eq!(lost, libc::EIO, "room");
        });
    });
    assert_eq!(get_cap(other, 1), Err(libc::EIO), "another file");
    assert_eq!(get_cap(new, 1), Err(libc::EIO), "a file that was never used");
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::open(c"/dev/dri/renderD128".as_ptr(), libc::O_RDWR) }, -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENODEV));
    let queue = fill_the_queue();
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::open(c"/dev/dri/renderD128".as_ptr(), libc::O_RDWR) }, -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENODEV), "no place to wait in");
    queue.into_iter().for_each(close);
    let lost_at = Instant::now();
    for _ in 0..100 {
        for file in [fd, other, new] {
            assert_eq!(get_cap(file, 1), Err(libc::EIO));
        }
        assert_eq!(wait(fd, handle, true), Err(libc::EIO));
        assert_eq!(submit(fd, 2, &stream(0, 4), &[handle], -1), Err(libc::EIO));
        assert_eq!(hangs_up(fence, -1), 1);
    }
    assert!(lost_at.elapsed() < Duration::from_secs(60), "each waited again");
    let mut own = [0; 2];
    // SAFETY: room for two.
    assert_eq!(unsafe { libc::pipe(own.as_mut_ptr()) }, 0);
    assert_eq!(hangs_up(own[0], 1100), 0, "a pipe of the program's own is left alone");
    println!("{LOST}");
    let again = loop {
        // SAFETY: a C string.
        let again = unsafe { libc::open(c"/dev/dri/renderD128".as_ptr(), libc::O_RDWR) };
        if again >= 0 {
            break again;
        }
    };
    assert_eq!(get_cap(again, 1), Ok(2));
    let made = create(again);
    assert!(readable(submit(again, 2, &stream(0, 4), &[made], -1).unwrap(), 5000));
    assert_eq!(get_cap(fd, 1), Err(libc::EIO), "what was lost stays lost");
    // What is held back holds up the end of its file.
    drm(again, 0x0d, &mut [0_u64, 0]).unwrap();
}

/// Connections to the daemon, as many as can wait to be let in.
fn fill_the_queue() -> Vec<i32> {
    let directory = std::env::var("VIRGLD_DIR").unwrap();
    let path = format!("{directory}/renderD128");
    // SAFETY: zeroed integers.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap();
    address.sun_path.iter_mut().zip(path.bytes()).for_each(|(to, from)| *to = from.cast_signed());
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    let mut all = Vec::new();
    loop {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK;
        // SAFETY: no memory, and an address of the size that is told.
        let (fd, connected) = unsafe {
            let fd = libc::socket(libc::AF_UNIX, kind, 0);
            (fd, libc::connect(fd, (&raw const address).cast(), size))
        };
        all.push(fd);
        if connected != 0 {
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN));
            return all;
        }
    }
}

/// What `poll` says of the other end, which is gone if it is 1.
fn hangs_up(fd: i32, milliseconds: i32) -> i32 {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    let found = unsafe { libc::poll(&raw mut entry, 1, milliseconds) };
    assert_eq!(entry.revents, if found == 1 { libc::POLLHUP } else { 0 });
    found
}

pub(crate) fn stocked() {
    let (fd, other) = (render(), render());
    let handle = create(fd);
    let fenced = || submit(fd, 2, &stream(0, 4), &[handle], -1).unwrap();
    // Of the sixteen that the first call brings, four are left.
    let mut fences: Vec<_> = (0..12).map(|_| fenced()).collect();
    assert_eq!(get_cap(fd, 1), Ok(2), "whatever was asked for before is answered");
    thread::scope(|scope| {
        scope.spawn(|| get_cap(other, HANG));
        thread::sleep(Duration::from_millis(300));
        fences.extend((0..20).map(|_| fenced()));
        println!("{STOCKED}");
    });
    for fence in fences {
        assert!(readable(fence, 5000));
        close(fence);
    }
}
