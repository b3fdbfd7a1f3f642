//! A daemon of our own for the length of one step: started in a fresh folder, ended by its process id.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::failure::{Context, Failure, Result};
use crate::process::{Running, Task, tail};
use crate::workspace::Workspace;

/// A running daemon with its device process; dropping it ends both.
pub(crate) struct Daemon {
    process: Running,
    virgld: PathBuf,
    folder: TempDir,
}

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Its open descriptors.
    pub(crate) descriptors: usize,
    /// Its resident memory in KiB.
    pub(crate) memory: u64,
}

/// Variables that would lead Mesa elsewhere than to virgld, or to a display that is not ours.
const MISLEADING: [&str; 8] = [
    "LIBGL_ALWAYS_SOFTWARE",
    "GALLIUM_DRIVER",
    "MESA_LOADER_DRIVER_OVERRIDE",
    "EGL_PLATFORM",
    "LD_PRELOAD",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "PIGLIT_PLATFORM",
];

/// Starts a daemon, lets `body` use it, ends it; a failure of either carries the end of the daemon's log.
pub(crate) fn with<T>(workspace: &Workspace, body: impl FnOnce(&Daemon) -> Result<T>) -> Result<T> {
    with_arguments(workspace, &[], body)
}

/// The same with further arguments for the daemon.
pub(crate) fn with_arguments<T>(
    workspace: &Workspace,
    arguments: &[&str],
    body: impl FnOnce(&Daemon) -> Result<T>,
) -> Result<T> {
    let mut daemon = Daemon::start(workspace, arguments)?;
    let result = body(&daemon);
    let ended = daemon.stop();
    let result = result.and_then(|value| ended.map(|()| value));
    result
        .map_err(|failure| Failure::new(format!("{failure}\nthe daemon's log ends with\n{}", daemon.log(20))))
}

/// What `virgld status` says of the daemon that serves at `meeting`.
pub(crate) fn status(virgld: &Path, meeting: &Path) -> Result<Value> {
    let text = tool(virgld, meeting, "status").arg("--json").output()?;
    serde_json::from_str(&text).context(|| "`virgld status --json` did not print JSON".into())
}

/// A command of `virgld` that speaks to the daemon that serves at `meeting`.
fn tool(virgld: &Path, meeting: &Path, name: &str) -> Task {
    clean(Task::new(virgld)).args([name, "--runtime-dir"]).arg(meeting).env("RUST_LOG", "off")
}

impl Daemon {
    fn start(workspace: &Workspace, arguments: &[&str]) -> Result<Self> {
        // Whether others may enter is for the daemon and its policy to say, one folder further in.
        let entered = Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().prefix("virgld-").permissions(entered).tempdir();
        let folder = folder.context(|| "no folder".into())?;
        let log =
            File::create(folder.path().join("log")).context(|| "cannot make the daemon's log".into())?;
        let virgld = workspace.release("virgld");
        let process = clean(Task::new(&virgld))
            .args(["serve", "--device", "vhost-user-gpu", "--runtime-dir"])
            .arg(folder.path().join("run"))
            .args(arguments)
            .start(log)?;
        let daemon = Self { process, virgld, folder };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if self.process.has_ended() {
                return Err(Failure::new(format!("the daemon exited at its start:\n{}", self.log(20))));
            }
            if self.status().is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(Failure::new(format!("the daemon was not ready within 20 s:\n{}", self.log(20))))
    }

    /// A command that runs `program` through this daemon, as a person would.
    pub(crate) fn run(&self, program: impl AsRef<OsStr>) -> Task {
        clean(Task::new(&self.virgld))
            .args(["run", "--runtime-dir"])
            .arg(self.folder.path().join("run"))
            .arg("--")
            .arg(program)
    }

    /// A command of `virgld` that speaks to this daemon.
    pub(crate) fn tool(&self, name: &str) -> Task {
        tool(&self.virgld, &self.folder.path().join("run"), name)
    }

    /// What `virgld status` says.
    pub(crate) fn status(&self) -> Result<Value> {
        status(&self.virgld, &self.folder.path().join("run"))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Its device process.
    pub(crate) fn device(&self) -> Result<Pid> {
        let parent = self.process.pid().to_string();
        let processes = fs::read_dir("/proc").context(|| "there is no /proc".into())?;
        let of_the_daemon = |folder: &PathBuf| {
            // Behind the name, which ends with the last parenthesis: the state, then the parent.
            let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
            let words = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
            words.is_some_and(|words| words.first() != Some(&"Z") && words.get(1) == Some(&parent.as_str()))
        };
        let found = processes.flatten().map(|entry| entry.path()).find(of_the_daemon);
        let number = found.and_then(|folder| folder.file_name()?.to_str()?.parse().ok());
        number.and_then(Pid::from_raw).ok_or_else(|| Failure::new("the daemon has no device process"))
    }

    /// What the daemon holds now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let process = PathBuf::from(format!("/proc/{}", self.process.pid()));
        let entries = fs::read_dir(process.join("fd")).context(|| "the daemon is gone".into())?;
        let status = fs::read_to_string(process.join("status")).context(|| "the daemon is gone".into())?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let memory = resident.and_then(|text| text.parse().ok()).unwrap_or_default();
        Ok(Usage { descriptors: entries.count(), memory })
    }

    /// A folder that only this user may enter, for sockets that belong to this daemon's programs.
    pub(crate) fn session_folder(&self) -> Result<PathBuf> {
        let folder = self.folder.path().join("session");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o700)))
            .context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    fn stop(&mut self) -> Result<()> {
        if self.process.has_ended() {
            return Err(Failure::new("the daemon had ended before it was asked to"));
        }
        let status = self.process.end()?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(format!("asked to end, the daemon said {status}")))
        }
    }

    /// The end of its log: so many lines.
    pub(crate) fn log(&self, lines: usize) -> String {
        let text = fs::read(self.folder.path().join("log")).unwrap_or_default();
        tail(&String::from_utf8_lossy(&text), lines)
    }
}

/// Takes the variables out of the environment that would lead Mesa elsewhere.
pub(crate) fn clean(task: Task) -> Task {
    MISLEADING.iter().fold(task, |task, name| task.without_env(name))
}
