//! A device process of our own: started with its vhost-user socket in hand, ended with us.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitid,
};

pub use super::program::{DeviceProgram, DeviceSocket, RASTER_THREADS, StartError};
use super::reactor::Source;
use super::vhost_user::dial;

/// A running device process. Dropping it kills the process and waits for its end.
pub struct DeviceProcess {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    /// Where it listens; to be removed with it.
    path: Option<PathBuf>,
}

impl DeviceProcess {
    /// Starts `program` and returns it with the connected socket for [`super::vhost_user::connect`]. What it
    /// writes to its standard error goes to the log. `deadline` is how long it may take to open a socket it
    /// listens at.
    pub fn start(program: &DeviceProgram, deadline: Duration) -> Result<(Self, UnixStream), StartError> {
        let path = program.find()?;
        let mut command = Command::new(&path);
        command.args(&program.arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(cache) = DeviceProgram::shader_cache() {
            command.env("MESA_SHADER_CACHE_DIR", cache);
        }
        for name in NOT_FOR_THE_DEVICE {
            command.env_remove(name);
        }
        command.env(TUNABLES, allocation(std::env::var_os(TUNABLES)));
        if let Some(threads) = program.raster_threads {
            command.env(RASTER_THREADS, threads.to_string());
        }
        let ours = match &program.socket {
            DeviceSocket::Inherited => {
                let (ours, theirs) = UnixStream::pair().map_err(system("make a socket"))?;
                command.arg("--fd=0").stdin(OwnedFd::from(theirs));
                Some(ours)
            }
            DeviceSocket::Listening(socket) => {
                // What an earlier process left, and what would be mistaken for this one's.
                remove_socket(socket);
                command.arg("--socket-path").arg(socket).stdin(Stdio::null());
                None
            }
        };
        let mut process = Self::spawn(command, &path)?;
        let socket = match (ours, &program.socket) {
            (None, DeviceSocket::Listening(socket)) => {
                process.path = Some(socket.clone());
                process.dial(&path, socket, deadline)?
            }
            (Some(ours), _) => ours,
            (None, DeviceSocket::Inherited) => unreachable!("its end of the pair was made above"),
        };
        Ok((process, socket))
    }

    /// Its process id. It stays taken until this value is dropped, even if the process ends before.
    pub fn id(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        pidfd_send_signal(&self.pidfd, signal)
    }

    /// A descriptor that becomes readable when the process ends.
    pub fn end(&self) -> Source {
        self.pidfd.clone()
    }

    /// Whether the process has ended, and how, in words.
    pub fn ended(&self) -> Option<String> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(self.pidfd.as_fd()), options).ok().flatten().as_ref().map(describe)
    }

    fn spawn(command: Command, path: &Path) -> Result<Self, StartError> {
        let (tell, told) = mpsc::sync_channel(1);
        let name = path.file_name().unwrap_or(OsStr::new("device")).to_string_lossy().into_owned();
        std::thread::Builder::new()
            .name("device-log".into())
            .spawn(move || keep(command, &name, &tell))
            .map_err(system("start a thread"))?;
        let started = told.recv().map_err(|_| StartError::System {
            doing: "hear from a thread",
            source: io::ErrorKind::BrokenPipe.into(),
        })?;
        let (pid, pidfd) =
            started.map_err(|source| StartError::Spawn { program: path.to_owned(), source })?;
        tracing::info!(program = %path.display(), pid = pid.as_raw_nonzero(), "device process started");
        Ok(Self { pid, pidfd, path: None })
    }

    /// Connects as soon as the process listens.
    fn dial(&self, program: &Path, path: &Path, deadline: Duration) -> Result<UnixStream, StartError> {
        let end = Instant::now() + deadline;
        let failed = |what| StartError::NotListening { program: program.into(), path: path.into(), what };
        loop {
            if let Ok(socket) = dial(path) {
                return Ok(socket);
            }
            if let Some(how) = self.ended() {
                return Err(failed(how));
            }
            if Instant::now() >= end {
                return Err(failed(format!("took more than {deadline:?}")));
            }
            std::thread::sleep(DIAL_PAUSE);
        }
    }
}

impl Drop for DeviceProcess {
    fn drop(&mut self) {
        let pidfd = self.pidfd.as_fd();
        // It fails only if the process has ended.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
        if !wait_readable(pidfd, Some(END_DEADLINE)) {
            tracing::warn!(pid = self.pid.as_raw_nonzero(), "the device process does not die; left behind");
            return;
        }
        if let Ok(Some(status)) = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            tracing::debug!(pid = self.pid.as_raw_nonzero(), "device process {}", describe(&status));
        }
        if let Some(path) = &self.path {
            remove_socket(path);
        }
    }
}

/// Removes a socket, and nothing that is not one.
fn remove_socket(path: &Path) {
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
}

type Started = io::Result<(Pid, Arc<OwnedFd>)>;

/// Starts the process, logs what it says, and stays until it has ended: the kernel kills the process when the
/// thread that started it ends, so that thread must live as long.
fn keep(mut command: Command, name: &str, tell: &mpsc::SyncSender<Started>) {
    // SAFETY: between fork and exec the closure makes a single system call, which is safe there.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
    let started = spawn(&mut command);
    // The child's end of the socket must not stay open in us: the end of the child would go unnoticed.
    drop(command);
    let (child, pid, pidfd) = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = tell.send(Err(error));
            return;
        }
    };
    let _ = tell.send(Ok((pid, pidfd.clone())));
    if let Some(stderr) = child.stderr {
        super::device_log::copy(stderr, name);
    }
    wait_readable(pidfd.as_fd(), None);
}

fn spawn(command: &mut Command) -> io::Result<(Child, Pid, Arc<OwnedFd>)> {
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.ok_or(Errno::SRCH).and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)));
    match pidfd {
        Ok((pid, pidfd)) => Ok((child, pid, Arc::new(pidfd))),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error.into())
        }
    }
}

/// Waits until `file` is readable; says whether it is.
pub(super) fn wait_readable(file: BorrowedFd<'_>, limit: Option<Duration>) -> bool {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::from_borrowed_fd(file, PollFlags::IN)], timeout.as_ref()) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { doing, source }
}

/// Variables that are meant for our clients and would mislead the device's own GL.
const NOT_FOR_THE_DEVICE: [&str; 5] =
    ["LD_PRELOAD", "MESA_LOADER_DRIVER_OVERRIDE", "EGL_PLATFORM", "GBM_BACKEND", "GALLIUM_DRIVER"];

/// How the device's C library keeps memory (glibc manual, "Memory Allocation Tunables"): up to 64 MiB that are free, for
/// what is no larger than 4 MiB. By itself it gives back to the kernel what the next command takes again, page by page: a
/// copy of each command stream, for one (docs/performance.md).
const ALLOCATION: &str =
    "glibc.malloc.mmap_threshold=4194304:glibc.malloc.trim_threshold=67108864:glibc.malloc.top_pad=1048576";
const TUNABLES: &str = "GLIBC_TUNABLES";

/// [`ALLOCATION`], and behind it what the user has chosen, so that this counts.
fn allocation(chosen: Option<OsString>) -> OsString {
    let mut all = OsString::from(ALLOCATION);
    if let Some(chosen) = chosen {
        all.push(":");
        all.push(chosen);
    }
    all
}

const DIAL_PAUSE: Duration = Duration::from_millis(5);
/// SIGKILL takes milliseconds unless the process is stuck in the kernel.
const END_DEADLINE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn program(program: &str, arguments: &[&str], socket: DeviceSocket) -> DeviceProgram {
        let arguments = arguments.iter().map(OsString::from).collect();
        let package = "some-package";
        DeviceProgram { program: program.into(), arguments, socket, raster_threads: None, package }
    }

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        for name in ["no-such-device", "/nonexistent/no-such-device"] {
            let program = program(name, &[], DeviceSocket::Inherited);
            let error = DeviceProcess::start(&program, Duration::ZERO).err().unwrap().to_string();
            assert!(
                error.contains("no-such-device") && error.contains("apt install some-package"),
                "{error}"
            );
        }
    }

    #[test]
    fn dropping_it_kills_it_and_its_end_can_be_watched() {
        let shell = program("sh", &["-c", "echo hello >&2; sleep 1000", "sh"], DeviceSocket::Inherited);
        let (process, _socket) = DeviceProcess::start(&shell, Duration::ZERO).unwrap();
        let (pid, end) = (process.id(), process.end());
        assert_eq!(process.ended(), None);
        assert!(!wait_readable((*end).as_fd(), Some(Duration::ZERO)));
        drop(process);
        assert!(wait_readable((*end).as_fd(), Some(Duration::ZERO)));
        assert_eq!(rustix::process::test_kill_process(pid), Err(Errno::SRCH));
    }

    #[test]
    fn a_program_that_ends_before_it_listens_is_told() {
        let socket = DeviceSocket::Listening("/nonexistent/socket".into());
        let shell = program("sh", &["-c", "exit 3", "sh"], socket);
        let error = DeviceProcess::start(&shell, Duration::from_secs(20)).err().unwrap().to_string();
        assert!(error.contains("exited with code 3 before it listened at /nonexistent/socket"), "{error}");
    }

    #[test]
    fn a_device_that_floods_its_log_is_not_held_up() {
        let floods = "i=0; while [ $i -lt 20000 ]; do echo complaint $i >&2; i=$((i+1)); done; exit 0";
        let shell = program("sh", &["-c", floods, "sh"], DeviceSocket::Inherited);
        let (process, _socket) = DeviceProcess::start(&shell, Duration::ZERO).unwrap();
        assert!(wait_readable((*process.end()).as_fd(), Some(Duration::from_secs(60))), "it writes on");
        assert_eq!(process.ended().as_deref(), Some("exited with code 0"));
    }

    #[test]
    fn what_the_user_chose_for_memory_comes_last() {
        assert_eq!(allocation(None), ALLOCATION);
        let chosen = "glibc.malloc.top_pad=0";
        assert_eq!(allocation(Some(chosen.into())), format!("{ALLOCATION}:{chosen}").as_str());
    }

    #[test]
    fn the_preloaded_client_library_is_not_passed_on() {
        assert!(NOT_FOR_THE_DEVICE.contains(&"LD_PRELOAD"));
    }
}
