//! A Wayland compositor without a screen, which itself renders through virgld.
//!
//! Debian's glmark2 has no flavour that renders without a window system or KMS. A headless Weston gives the
//! Wayland flavour one, and more to test besides: its clients' buffers reach it by PRIME.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::failure::{Context, Failure, Result};
use crate::process::{Running, Task, tail};

/// A running Weston; dropping it ends it.
pub(crate) struct Compositor<'a> {
    daemon: &'a Daemon,
    process: Running,
    session: PathBuf,
}

const SOCKET: &str = "wayland-virgld";

/// A plain desktop: nothing on it but its clients.
const SETTINGS: &str =
    "[shell]\npanel-position=none\nbackground-color=0xff1c2a3a\nlocking=false\nanimation=none\n";

impl<'a> Compositor<'a> {
    /// Starts Weston through `daemon`, with a screen of that size, and waits for its socket.
    pub(crate) fn start(daemon: &'a Daemon, width: u32, height: u32) -> Result<Self> {
        let session = daemon.session_folder()?;
        let settings = session.join("weston.ini");
        fs::write(&settings, SETTINGS).context(|| "cannot write Weston's settings".into())?;
        let log = File::create(session.join("weston.log")).context(|| "cannot make Weston's log".into())?;
        let process = daemon
            .run("weston")
            .args(["--backend=headless-backend.so", "--use-gl", "--idle-time=0", "--debug"])
            .arg(format!("--config={}", settings.display()))
            .arg(format!("--socket={SOCKET}"))
            .args([format!("--width={width}"), format!("--height={height}")])
            .env("XDG_RUNTIME_DIR", &session)
            .start(log)?;
        let compositor = Self { daemon, process, session };
        compositor.wait_until_ready()?;
        Ok(compositor)
    }

    /// A client of this compositor that renders through the same daemon.
    pub(crate) fn run(&self, program: &str) -> Task {
        self.daemon.run(program).env("XDG_RUNTIME_DIR", &self.session).env("WAYLAND_DISPLAY", SOCKET)
    }

    /// What it says about itself, its GL renderer included.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(self.session.join("weston.log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The folder of its socket.
    pub(crate) fn session(&self) -> &std::path::Path {
        &self.session
    }

    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline && !self.process.has_ended() {
            if self.session.join(SOCKET).exists() && self.log().contains("GL renderer:") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(Failure::new(format!("Weston did not start:\n{}", tail(&self.log(), 20))))
    }
}
