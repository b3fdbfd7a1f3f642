//! A Wayland compositor which itself renders through virgld: Weston without a screen, or on the card.
//!
//! Debian's glmark2 has no flavour that renders without a window system or KMS. A headless Weston gives the
//! Wayland flavour one, and more to test besides: its clients' buffers reach it by PRIME.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::failure::{Context, Failure, Result};
use crate::process::{Running, Task, tail};
use crate::sheet::Picture;
use crate::windows::{Window, windows};
use crate::workspace::Workspace;

/// A running Weston; dropping it ends it.
pub(crate) struct Compositor<'a> {
    daemon: &'a Daemon,
    process: Running,
    session: PathBuf,
    socket: &'static str,
    on_card: bool,
}

const SOCKET: &str = "wayland-virgld";

/// A plain desktop: nothing on it but its clients, and no input devices.
const SETTINGS: &str = "[core]\nrequire-input=false\nidle-time=0\n\
    [shell]\npanel-position=none\nbackground-color=0xff1c2a3a\nlocking=false\nanimation=none\n";

/// The colour of that desktop.
pub(crate) const BACKGROUND: [u8; 3] = [0x1c, 0x2a, 0x3a];

impl<'a> Compositor<'a> {
    /// Starts Weston through `daemon`, with a screen of its own of that size, and waits for its socket.
    pub(crate) fn start(daemon: &'a Daemon, width: u32, height: u32) -> Result<Self> {
        let task = daemon
            .run("weston")
            .args(["--backend=headless-backend.so", "--use-gl", "--idle-time=0"])
            .args([format!("--width={width}"), format!("--height={height}")]);
        let compositor = Self::with(daemon, task, SOCKET, false)?;
        compositor.wait_until_ready()?;
        Ok(compositor)
    }

    /// Starts Weston on the card, and does not wait: it may be that it ends.
    pub(crate) fn on_card(workspace: &Workspace, daemon: &'a Daemon, socket: &'static str) -> Result<Self> {
        let task = daemon.run(workspace.release("seat")).args(["weston", "--backend=drm-backend.so"]);
        Self::with(daemon, task, socket, true)
    }

    fn with(daemon: &'a Daemon, task: Task, socket: &'static str, on_card: bool) -> Result<Self> {
        let session = daemon.session_folder()?;
        let settings = session.join("weston.ini");
        fs::write(&settings, SETTINGS).context(|| "cannot write Weston's settings".into())?;
        let log = File::create(log_of(&session, socket)).context(|| "cannot make Weston's log".into())?;
        let process = task
            // For its debug streams, and for pictures of it.
            .arg("--debug")
            .args([format!("--config={}", settings.display()), format!("--socket={socket}")])
            .env("XDG_RUNTIME_DIR", &session)
            .limit(Duration::from_secs(900))
            .start(log)?;
        Ok(Self { daemon, process, session, socket, on_card })
    }

    /// A client of this compositor that renders through the same daemon.
    pub(crate) fn run(&self, program: &str) -> Task {
        self.inside(self.daemon.run(program))
    }

    /// What it says about itself, its GL renderer included.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(log_of(&self.session, self.socket)).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The folder of its socket.
    pub(crate) fn session(&self) -> &Path {
        &self.session
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// What it shows: on the card by virgld's account, else by its own.
    pub(crate) fn picture(&self) -> Result<Picture> {
        if self.on_card {
            let file = self.session.join("screen.png");
            self.daemon.tool("screenshot").arg(&file).output()?;
            return Picture::read(&file);
        }
        let folder = tempfile::tempdir_in(&self.session).context(|| "no folder for a picture".into())?;
        self.inside(Task::new("weston-screenshooter")).folder(folder.path()).output()?;
        let mut found = fs::read_dir(folder.path()).context(|| "no folder for a picture".into())?.flatten();
        let file = found.next().ok_or_else(|| Failure::new("weston-screenshooter wrote no picture"))?;
        Picture::read(&file.path())
    }

    /// The windows on it, the topmost first.
    pub(crate) fn windows(&self) -> Result<Vec<Window>> {
        Ok(windows(&self.inside(Task::new("weston-debug")).arg("scene-graph").output()?))
    }

    fn inside(&self, task: Task) -> Task {
        task.env("XDG_RUNTIME_DIR", &self.session).env("WAYLAND_DISPLAY", self.socket)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline && !self.process.has_ended() {
            if self.session.join(self.socket).exists() && self.log().contains("GL renderer:") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(Failure::new(format!("Weston did not start:\n{}", tail(&self.log(), 20))))
    }
}

fn log_of(session: &Path, socket: &str) -> PathBuf {
    session.join(format!("{socket}.log"))
}
