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
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
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
pub fn confine(files: &Files) -> Result<Confined, SandboxError> {
    let confined = confine_files(files)?;
    let filter = filter().map_err(|error| SandboxError::Calls(error.to_string()))?;
    // Sets no_new_privs too.
    seccompiler::apply_filter(&filter).map_err(|error| SandboxError::Calls(error.to_string()))?;
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
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // Sockets to processes of this machine alone.
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let not_unix = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, unix)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![not_unix])?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?;
    filter.try_into()
}

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
];

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

    use super::*;
    use crate::host::memory::SharedMemory;

    fn confined() -> Confined {
        let run = ["/usr", "/bin", "/lib", "/lib64"].map(PathBuf::from).to_vec();
        let read = ["/proc", "/etc/passwd"].map(PathBuf::from).to_vec();
        confine(&Files { run, read, write: vec!["/dev/null".into()] }).unwrap()
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
            assert_eq!(stream(AddressFamily::INET).err(), Some(rustix::io::Errno::PERM));
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
    fn a_program_that_is_started_later_is_confined_too() {
        in_a_thread(|| {
            let confined = confined();
            let status = |script: &str| Command::new("/bin/sh").args(["-c", script]).status().unwrap();
            assert!(status("exit 0").success());
            assert!(status("grep -q 'NoNewPrivs:.*1' /proc/self/status").success());
            assert!(status("grep -q 'Seccomp:.*2' /proc/self/status").success());
            if confined != Confined::WithoutLandlock {
                assert!(!status("exec 2>/dev/null; cat /etc/group >/dev/null").success());
            }
        });
    }
}
