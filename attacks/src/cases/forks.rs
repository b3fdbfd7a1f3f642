//! One DRM file in several processes: children of `fork`, programs that inherit it, whoever it is passed to. As on Linux a
//! handle is the file's, whoever has that; and a process has no file but those that it was given.

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::pipe;
use virgld_protocol::channel::{Hello, MAGIC, VERSION};
use zerocopy::IntoBytes;

use super::{Case, must};
use crate::kept::{files_of, nothing_is_kept_for};
use crate::raw::{Child, drm, inherited, open_node, peek, poke};
use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome, is_closed_soon, send};

pub(super) const CASES: &[(&str, Case)] = &[
    ("fork-while-calling", while_calling),
    ("fork-of-many-short-lives", short_lives),
    ("fork-sharing-memory", sharing_memory),
    ("fork-and-the-parent-dies", parent_dies),
    ("exec-with-the-file", exec),
    ("passed-to-oneself", passed_to_oneself),
];

/// A file of this process, by the client library, with a buffer.
struct Own {
    file: OwnedFd,
    handle: u32,
    offset: u64,
}

impl Own {
    fn open(closed_at_exec: bool) -> Outcome<Self> {
        preloaded()?;
        let file = open_node(closed_at_exec)?;
        let handle = create(file.as_fd())?;
        let offset = map(file.as_fd(), handle)?;
        Ok(Self { file, handle, offset })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether file, handle and memory are of use.
    fn works(&self, value: u8) -> bool {
        works(self.fd(), self.handle, value)
    }
}

/// Without the client library there is no such file, or it is another driver's.
fn preloaded() -> Outcome<()> {
    match std::env::var_os("LD_PRELOAD") {
        Some(_) => Ok(()),
        None => Err(Failed::NotTried("the client library is not preloaded")),
    }
}

fn works(file: BorrowedFd<'_>, handle: u32, value: u8) -> bool {
    let remembers = |offset| poke(file, offset, value).and_then(|()| peek(file, offset)) == Ok(value);
    map(file, handle).is_ok_and(remembers) && drm(file, 0x48, &mut [handle, 0]).is_ok()
}

/// RESOURCE_CREATE of a small texture.
fn create(file: BorrowedFd<'_>) -> Outcome<u32> {
    let mut call = [2_u32, 1, 1 << 3, 32, 32, 1, 1, 0, 0, 0, 0, 0, 4096, 128];
    drm(file, 0x44, &mut call)?;
    Ok(call[10])
}

/// MAP.
fn map(file: BorrowedFd<'_>, handle: u32) -> Outcome<u64> {
    let mut call = [0_u64, u64::from(handle)];
    drm(file, 0x41, &mut call)?;
    Ok(call[0])
}

/// GEM_CLOSE.
fn close(file: BorrowedFd<'_>, handle: u32) -> Outcome<()> {
    drm(file, 0x09, &mut [handle, 0])
}

/// Children are made while another thread is in a call, and call themselves at the same time.
fn while_calling(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const CHILDREN: u32 = 30;
    let own = Own::open(true)?;
    let over = AtomicBool::new(false);
    let (told, tell) = pipe()?;
    let made = scope(|scope| {
        let calls = scope.spawn(|| {
            let mut right = true;
            while !over.load(Ordering::Relaxed) {
                right &= create(own.fd()).and_then(|handle| close(own.fd(), handle)).is_ok();
            }
            right
        });
        let mut children = Vec::new();
        for _ in 0..CHILDREN {
            let task = || {
                let made = create(own.fd());
                let told = made.as_ref().is_ok_and(|it| rustix::io::write(&tell, it.as_bytes()) == Ok(4));
                told && own.works(7)
            };
            children.push(Child::fork(task)?);
            // A file may have sixteen processes at a time.
            if children.len() == 6 {
                for child in children.drain(..) {
                    must("a child of fork", child.ends_well()?)?;
                }
            }
        }
        for child in children {
            must("a child of fork", child.ends_well()?)?;
        }
        over.store(true, Ordering::Relaxed);
        must("the thread that called meanwhile", calls.join().unwrap_or_default())
    });
    over.store(true, Ordering::Relaxed);
    made?;
    // What the children made is the file's, and the parent's to use and to close.
    for _ in 0..CHILDREN {
        let mut handle = 0_u32;
        rustix::io::read(&told, handle.as_mut_bytes())?;
        must("what a child made", works(own.fd(), handle, 9))?;
        close(own.fd(), handle)?;
    }
    must("the parent's file", own.works(1))?;
    left(door, victim, vec![own])?;
    Ok(format!(
        "{CHILDREN} children beside a thread that calls: handles and memory are the file's, whoever made them"
    ))
}

/// Children that live for one call, more at a time than a file may have processes.
fn short_lives(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let own = Own::open(true)?;
    let (mut let_in, mut refused) = (0, 0);
    for _ in 0..5 {
        let children: Vec<Child> = (0..40)
            .map(|_| {
                Child::fork(|| close(own.fd(), u32::MAX) == Err(Failed::Errno(Errno::INVAL.raw_os_error())))
            })
            .collect::<Outcome<_>>()?;
        for child in children {
            *if child.ends_well()? { &mut let_in } else { &mut refused } += 1;
        }
        victim.check()?;
        must("the parent's file", own.works(3))?;
    }
    must("none was let in", let_in > 0)?;
    // As soon as they are gone there is room again.
    for _ in 0..20 {
        must("a child after them", Child::fork(|| own.works(4))?.ends_well()?)?;
    }
    left(door, victim, vec![own])?;
    Ok(format!(
        "of 200 children, 40 at a time, {let_in} were let in and {refused} refused; then there is room again"
    ))
}

/// A child of `vfork`, which shares all memory, the library's too.
fn sharing_memory(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let own = Own::open(true)?;
    // What the library keeps in memory, descriptors included, is from before: the child has its own table of descriptors.
    must("the file", own.works(1))?;
    for round in 0..20 {
        let mut made = Ok(0);
        let child = Child::share_memory(|| {
            made = create(own.fd());
            made.is_ok() && own.works(5)
        })?;
        must("the child", child.ends_well()?)?;
        must("what it made", works(own.fd(), made?, round))?;
    }
    left(door, victim, vec![own])?;
    Ok("20 children in the parent's memory: the file and all that they made is the parent's".into())
}

/// Somebody opens a file, has a child and is killed; the child goes on with the file.
fn parent_dies(door: &Door, victim: &mut Victim) -> Outcome<String> {
    preloaded()?;
    let mut gone = HashSet::new();
    for _ in 0..5 {
        let (asked, ask) = pipe()?;
        let (told, tell) = pipe()?;
        let parent = Child::fork(|| {
            let Ok(own) = Own::open(true) else { return false };
            let grandchild = Child::fork(|| {
                // Until its parent is dead.
                let mut word = [0; 1];
                let go = rustix::io::read(&asked, &mut word) == Ok(1);
                let right = go && own.works(6) && create(own.fd()).is_ok_and(|it| works(own.fd(), it, 8));
                rustix::io::write(&tell, &[u8::from(right)]) == Ok(1)
            });
            let Ok(grandchild) = grandchild else { return false };
            let _ = rustix::io::write(&tell, grandchild.number().as_bytes());
            // It is killed here.
            sleep(Duration::from_secs(100));
            false
        })?;
        // So that whoever fails is noticed.
        drop(tell);
        let mut grandchild = 0_u32;
        rustix::io::read(&told, grandchild.as_mut_bytes())?;
        gone.extend([parent.number(), grandchild]);
        let pid = rustix::process::Pid::from_raw(parent.number().cast_signed());
        rustix::process::kill_process(pid.ok_or(Failed::CutOff)?, rustix::process::Signal::KILL)?;
        must("the parent was killed", !parent.ends_well()?)?;
        rustix::io::write(&ask, &[1])?;
        let mut right = [0; 1];
        rustix::io::read(&told, &mut right)?;
        must("the child of a parent that is dead", right == [1])?;
    }
    victim.check()?;
    nothing_is_kept_for(door, &gone)?;
    Ok("5 children go on with the file of a parent that was killed; after them nothing is left".into())
}

/// Another program, which inherits one file and is not to have the other; with the client library, and without.
fn exec(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const UNTOUCHED: u8 = 0x55;
    let (own, hidden) = (Own::open(false)?, Own::open(true)?);
    poke(hidden.fd(), hidden.offset, UNTOUCHED)?;
    for preloaded in [true, false] {
        let here = std::env::current_exe().map_err(|error| Failed::Setup(error.to_string()))?;
        let mut heir = Command::new(here);
        heir.args(["--inherit", &format!("{},{},{}", own.file.as_raw_fd(), own.handle, hidden.offset)]);
        heir.arg("--runtime-dir").arg(&door.0).stdin(Stdio::null());
        if !preloaded {
            heir.env_remove("LD_PRELOAD");
        }
        let said = heir.output().map_err(|error| Failed::Setup(error.to_string()))?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        let expected = if preloaded { "handle works" } else { "no ioctls" };
        must(&format!("the heir says {said:?}"), said == expected)?;
        must("memory of the other file", peek(hidden.fd(), hidden.offset)? == UNTOUCHED)?;
        must("the file after its heir", own.works(1))?;
    }
    left(door, victim, vec![own, hidden])?;
    Ok("a program that inherits a file has its handles, by the client library alone, and no descriptor of another".into())
}

/// The program that [`exec`] starts: looks at what it inherited.
pub(crate) fn inherit(given: &str) -> Outcome<()> {
    let numbers: Vec<u64> = given.split(',').filter_map(|number| number.parse().ok()).collect();
    let [fd, handle, elsewhere] = numbers[..] else { return Err(Failed::Setup("three numbers".into())) };
    // Whatever this program inherited beside it: not a socket, nor memory.
    let open = std::fs::read_dir("/proc/self/fd").map_err(|error| Failed::Setup(error.to_string()))?;
    for entry in open.flatten() {
        let number = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        let what = std::fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        let ours = ["socket:", "/memfd:", "anon_inode:"].iter().any(|kind| what.starts_with(kind));
        must(&format!("descriptor {number} is inherited: {what}"), number <= 2 || number == fd || !ours)?;
    }
    let file = inherited(i32::try_from(fd).unwrap_or(-1));
    let handle = u32::try_from(handle).unwrap_or(0);
    let said = match map(file.as_fd(), handle) {
        Ok(_) => {
            // An offset of the other file is this one's own memory here, if anything.
            let _ = poke(file.as_fd(), elsewhere, 1);
            if works(file.as_fd(), handle, 3) { "handle works" } else { "handle does not work" }
        }
        // A socket knows no such call.
        Err(Failed::Errno(errno)) if errno == Errno::NOTTY.raw_os_error() => "no ioctls",
        Err(other) => return Err(other),
    };
    println!("{said}");
    let _ = std::io::stdout().flush();
    Ok(())
}

/// A file on its way to the process that has it, through a pair of sockets and through itself.
fn passed_to_oneself(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let own = Own::open(true)?;
    let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (one, two) = pair()?;
    send(one.as_fd(), b"file", &[own.fd()])?;
    let (_, came) = crate::wire::receive(two.as_fd(), &mut [0; 8])?;
    must("the file that came back", came.len() == 1 && works(came[0].as_fd(), own.handle, 4))?;
    // The file is on the way when nobody has it otherwise; and then nobody has the way.
    send(one.as_fd(), b"file", &[own.fd()])?;
    let handle = own.handle;
    drop((own, came));
    let (_, came) = crate::wire::receive(two.as_fd(), &mut [0; 8])?;
    must("the file that was on the way", came.len() == 1 && works(came[0].as_fd(), handle, 5))?;
    send(one.as_fd(), b"file", &[came[0].as_fd()])?;
    drop((came, one, two));
    // Through itself, as a greeting with itself as the socket to be answered on.
    let itself = door.connect()?;
    let hello = Hello { magic: MAGIC, version: VERSION };
    send(itself.as_fd(), hello.as_bytes(), &[itself.as_fd()])?;
    must("a file that greets with itself is borne", is_closed_soon(itself.as_fd()))?;
    left(door, victim, Vec::new())?;
    Ok("the file comes back as what it was; one that is lost on the way is closed, and one that is sent to itself".into())
}

/// These files are closed, and then the victim's alone is kept for this process.
fn left(door: &Door, victim: &mut Victim, files: Vec<Own>) -> Outcome<()> {
    victim.check()?;
    drop(files);
    let end = Instant::now() + Duration::from_secs(5);
    while files_of(door, std::process::id())? > 1 {
        must("a file is left behind", Instant::now() < end)?;
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
