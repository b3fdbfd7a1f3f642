//! Confinement of the process: what it may do from now on, with all its threads and children.
//!
//! Landlock says which files may be touched; a seccomp filter refuses system calls that no driver needs; and there are
//! no new privileges. All of it is inherited, so a device process that is started afterwards, also years afterwards in
//! place of one that died, is confined alike. Nothing of it can be undone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, path_beneath_rules,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

/// What the process needs of the file system.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Files, and folders with all that is in them, that are read and run: programs and libraries.
    pub run: Vec<PathBuf>,
    /// What is read.
    pub read: Vec<PathBuf>,
    /// What is read, written, made and removed.
    pub write: Vec<PathBuf>,
}

/// What the process needs of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// It is connected to, and has what it was given. Sockets in the file system are no files to Landlock, so without
    /// this the process could speak to whoever listens anywhere: a session bus, a display server, a container's daemon.
    Listen,
    /// It also connects to others.
    Connect,
}

/// How far the confinement goes on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    /// As far as it is meant to.
    Fully,
    /// The kernel's Landlock is older than some of what is asked of it.
    Partly,
    /// The kernel has no Landlock: files are protected by their permissions alone. The seccomp filter holds.
    WithoutLandlock,
}

/// The process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Landlock failed.
    #[error("cannot restrict access to files: {0}; `--no-sandbox` does without")]
    Files(#[from] RulesetError),
    /// Seccomp failed.
    #[error("cannot filter system calls: {0}; `--no-sandbox` does without")]
    Calls(String),
}

/// Confines the calling thread, and all that it starts from now on. To be called while it is the only one. Paths that
/// do not exist now are not allowed later either.
pub fn confine(files: &Files, sockets: Sockets) -> Result<Confined, SandboxError> {
    let confined = confine_files(files)?;
    let refused = filter(sockets).map_err(|error| SandboxError::Calls(error.to_string()))?;
    for filter in [&unknown(), &refused] {
        // Sets no_new_privs too.
        seccompiler::apply_filter(filter).map_err(|error| SandboxError::Calls(error.to_string()))?;
    }
    Ok(confined)
}

fn confine_files(files: &Files) -> Result<Confined, RulesetError> {
    let newest = ABI::V6;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        // No port is ever bound or connected to.
        .handle_access(AccessNet::from_all(newest))?
        // Nothing outside is signalled, and no abstract socket out there is connected to.
        .scope(Scope::from_all(newest))?
        .create()?
        .add_rules(path_beneath_rules(existing(&files.run), read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(existing(&files.read), read))?
        .add_rules(path_beneath_rules(existing(&files.write), AccessFs::from_all(newest)))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confined::Fully,
        RulesetStatus::PartiallyEnforced => Confined::Partly,
        RulesetStatus::NotEnforced => Confined::WithoutLandlock,
    })
}

fn existing(paths: &[PathBuf]) -> impl Iterator<Item = &Path> {
    paths.iter().map(PathBuf::as_path).filter(|path| path.exists())
}

/// Refuses with EPERM what neither the daemon nor a renderer has any use for.
fn filter(sockets: Sockets) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    rules.extend(REFUSED_HERE.iter().map(|call| (*call, Vec::new())));
    if sockets == Sockets::Listen {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    // Sockets to processes of this machine alone; and none from which a packet goes to an address without a connection.
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let datagram = u64::from(libc::SOCK_DGRAM.unsigned_abs());
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let other = [when(0, SeccompCmpOp::Ne, unix)?, when(1, SeccompCmpOp::MaskedEq(KIND), datagram)?];
        rules.insert(call, other.into());
    }
    let namespaces: Result<_, _> =
        NAMESPACES.iter().map(|bit| when(0, SeccompCmpOp::MaskedEq(*bit), *bit)).collect();
    rules.insert(libc::SYS_clone, namespaces?);
    // The terminal that the daemon was started from: what is put into its input, the user's shell takes for typed.
    let typing: Result<_, _> =
        [libc::TIOCSTI, libc::TIOCLINUX].iter().map(|it| when(1, SeccompCmpOp::Eq, *it)).collect();
    rules.insert(libc::SYS_ioctl, typing?);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?;
    filter.try_into()
}

/// A rule on the lower half of an argument: those here are ints, or their upper half is of no meaning.
fn when(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?])
}

/// Answers with ENOSYS, as an older kernel would, what a filter cannot look into: `clone3`, whose flags lie in memory
/// (the C library falls back to `clone`); and the calls of other numbering that x86-64 kernels may have.
fn unknown() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000;
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let line = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        // The number of the call is what the data begin with.
        line(LOAD, 0, 0, 0),
        line(IF_EQUAL, 2, 0, clone3),
        line(IF_NOT_LESS, 1, 0, X32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
    ]
}

/// Of a socket's kind: the kind itself, without flags.
const KIND: u64 = 0xf;

/// What `clone` would make anew for a child: in a user namespace of its own it would be root, and could mount.
const NAMESPACES: &[u64] = &[
    libc::CLONE_NEWNS.unsigned_abs() as u64,
    libc::CLONE_NEWCGROUP.unsigned_abs() as u64,
    libc::CLONE_NEWUTS.unsigned_abs() as u64,
    libc::CLONE_NEWIPC.unsigned_abs() as u64,
    libc::CLONE_NEWUSER.unsigned_abs() as u64,
    libc::CLONE_NEWPID.unsigned_abs() as u64,
    libc::CLONE_NEWNET.unsigned_abs() as u64,
];

/// Other processes, the kernel itself, file systems, namespaces, privileges, the clock; and what has been the way out of
/// sandboxes before.
const REFUSED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_kexec_file_load,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_personality,
    libc::SYS_vmsplice,
    libc::SYS_memfd_secret,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    // Memory, queues and semaphores that all of a user's processes find by a number or a name.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// The same, on this machine alone: ports, segments of memory, and what is left of older systems.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, socketpair};

    use super::*;
    use crate::host::memory::SharedMemory;

    fn confined() -> Confined {
        let run = ["/usr", "/bin", "/lib", "/lib64"].map(PathBuf::from).to_vec();
        let read = ["/proc", "/etc/passwd"].map(PathBuf::from).to_vec();
        confine(&Files { run, read, write: vec!["/dev/null".into()] }, Sockets::Listen).unwrap()
    }

    /// What the kernel says to a call whose arguments would be harmless if it were let through: no child, no memory.
    fn said(call: i64, arguments: [u64; 2]) -> Option<i32> {
        // SAFETY: the calls below are refused; where one is not, it fails for its arguments, which name no memory, or
        // makes a child that ends at once.
        let outcome = unsafe { libc::syscall(call, arguments[0], arguments[1], 0, 0, 0, 0) };
        match outcome {
            // SAFETY: this is the child of a clone that was let through.
            0 if call == libc::SYS_clone => unsafe { libc::_exit(0) },
            -1 => std::io::Error::last_os_error().raw_os_error(),
            _ => None,
        }
    }

    /// Each thread is confined for itself, so that the other tests are not.
    fn in_a_thread(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn what_a_driver_does_goes_on_and_the_rest_is_refused() {
        in_a_thread(|| {
            let confined = confined();
            let stream = |family| socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
            assert!(stream(AddressFamily::UNIX).is_ok());
            assert_eq!(stream(AddressFamily::INET).err(), Some(Errno::PERM));
            let memory = SharedMemory::new("sandboxed", 4096).unwrap();
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory.fd()));
            assert!(std::fs::File::options().read(true).write(true).open(link).is_ok());
            if confined != Confined::WithoutLandlock {
                assert!(std::fs::read("/etc/passwd").is_ok());
                assert!(std::fs::read("/etc/group").is_err());
                assert!(std::fs::write(std::env::temp_dir().join("virgld-escape"), "x").is_err());
            }
        });
    }

    #[test]
    fn nobody_is_spoken_to_who_did_not_speak_first() {
        let folder = std::env::temp_dir().join(format!("virgld-sandbox-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let place = folder.join("socket");
        let _listener = UnixListener::bind(&place).unwrap();
        let knock = move || UnixStream::connect(&place).err().and_then(|error| error.raw_os_error());
        assert_eq!(knock(), None);
        in_a_thread(move || {
            confined();
            assert_eq!(knock(), Some(libc::EPERM));
            for family in [AddressFamily::UNIX, AddressFamily::NETLINK, AddressFamily::VSOCK] {
                let flags = SocketFlags::CLOEXEC;
                let datagrams = socket_with(family, SocketType::DGRAM, flags, None).err();
                assert_eq!(datagrams, Some(Errno::PERM), "{family:?}");
                let pair = socketpair(family, SocketType::DGRAM, flags, None).err();
                assert_eq!(pair, Some(Errno::PERM), "{family:?}");
            }
            for kind in [SocketType::STREAM, SocketType::SEQPACKET] {
                assert!(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).is_ok());
            }
        });
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn who_is_told_to_connect_may() {
        in_a_thread(|| {
            let nowhere = || UnixStream::connect("/nonexistent/socket").unwrap_err().raw_os_error();
            confine(&Files::default(), Sockets::Connect).unwrap();
            assert_eq!(nowhere(), Some(libc::ENOENT));
        });
    }

    #[test]
    fn no_call_makes_a_namespace_types_into_a_terminal_or_goes_by_another_number() {
        const CHILD: u64 = libc::SIGCHLD.unsigned_abs() as u64;
        in_a_thread(|| {
            confined();
            for bit in NAMESPACES {
                assert_eq!(said(libc::SYS_clone, [bit | CHILD, 0]), Some(libc::EPERM), "{bit:#x}");
            }
            assert_eq!(said(libc::SYS_clone3, [0, 0]), Some(libc::ENOSYS));
            for request in [libc::TIOCSTI, libc::TIOCLINUX] {
                assert_eq!(said(libc::SYS_ioctl, [u64::MAX, request]), Some(libc::EPERM));
            }
            assert_eq!(said(libc::SYS_ioctl, [u64::MAX, libc::FIONREAD]), Some(libc::EBADF));
            // But for the one that would hang up the terminal of whoever runs a test that fails.
            for call in REFUSED.iter().chain(REFUSED_HERE).filter(|call| **call != libc::SYS_vhangup) {
                assert_eq!(said(*call, [u64::MAX, u64::MAX]), Some(libc::EPERM), "{call}");
            }
            #[cfg(target_arch = "x86_64")]
            assert_eq!(said(0x4000_0000 | libc::SYS_getpid, [0, 0]), Some(libc::ENOSYS));
            // And a thread, for which the C library asks clone3 first, is made by clone.
            std::thread::spawn(|| ()).join().unwrap();
        });
    }

    #[test]
    fn a_program_that_is_started_later_is_confined_too() {
        in_a_thread(|| {
            let confined = confined();
            let status = |script: &str| Command::new("/bin/sh").args(["-c", script]).status().unwrap();
            assert!(status("exit 0").success());
            assert!(status("grep -q 'NoNewPrivs:.*1' /proc/self/status").success());
            assert!(status("grep -q 'Seccomp:.*2' /proc/self/status").success());
            assert!(status("grep -q 'Seccomp_filters:.*[2-9]' /proc/self/status").success());
            assert!(!status("exec 2>/dev/null; unshare --user true").success());
            if confined != Confined::WithoutLandlock {
                assert!(!status("exec 2>/dev/null; cat /etc/group >/dev/null").success());
            }
        });
    }
}
