//! What a device process that was taken over could do: a daemon that is told to start this program for its device starts it
//! as one, confined like one.

use std::process::ExitCode;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::raw::refusal;

/// Whether the arguments are those with which a daemon starts its device process.
pub(crate) fn is_one() -> bool {
    std::env::args_os().any(|argument| argument == "--fd=0")
}

/// Tries what must be refused, and says what was not, on standard error, which the daemon puts into its log.
pub(crate) fn look_around() -> ExitCode {
    let unix = |kind| socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    // Where nobody listens: without a refusal it would be ENOENT.
    let bus = || connect(&unix(SocketType::STREAM)?, &SocketAddrUnix::new("/nonexistent/bus")?);
    let internet = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let mut found = Vec::new();
    let mut expect = |what: &str, got: Option<i32>, refused: Errno| {
        if got != Some(refused.raw_os_error()) {
            found.push(format!("{what} gave {got:?}"));
        }
    };
    expect("a connection", errno(bus()), Errno::PERM);
    expect("an internet socket", errno(internet), Errno::PERM);
    expect("datagrams", errno(unix(SocketType::DGRAM)), Errno::PERM);
    let child = u64::from(libc::SIGCHLD.unsigned_abs());
    let new_user = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    for (what, call, arguments, refused) in [
        ("clone", libc::SYS_clone, [new_user | child, 0], Errno::PERM),
        ("clone3", libc::SYS_clone3, [0, 0], Errno::NOSYS),
        ("unshare", libc::SYS_unshare, [new_user, 0], Errno::PERM),
        ("setns", libc::SYS_setns, [u64::MAX, 0], Errno::PERM),
        ("mount", libc::SYS_mount, [0, 0], Errno::PERM),
        ("ptrace", libc::SYS_ptrace, [u64::MAX, 0], Errno::PERM),
        ("process_vm_readv", libc::SYS_process_vm_readv, [0, 0], Errno::PERM),
        ("bpf", libc::SYS_bpf, [u64::MAX, 0], Errno::PERM),
        ("perf_event_open", libc::SYS_perf_event_open, [0, 0], Errno::PERM),
        ("keyctl", libc::SYS_keyctl, [u64::MAX, 0], Errno::PERM),
        ("io_uring_setup", libc::SYS_io_uring_setup, [0, 0], Errno::PERM),
        ("TIOCSTI", libc::SYS_ioctl, [u64::MAX, libc::TIOCSTI], Errno::PERM),
        ("shmget", libc::SYS_shmget, [u64::MAX, 0], Errno::PERM),
    ] {
        expect(what, refusal(call, arguments), refused);
    }
    match found.is_empty() {
        true => eprintln!("prisoner: all refused"),
        false => eprintln!("prisoner: {}", found.join(", ")),
    }
    ExitCode::SUCCESS
}

fn errno<T>(outcome: Result<T, Errno>) -> Option<i32> {
    outcome.err().map(Errno::raw_os_error)
}
