//! A compositor on the card: Weston's DRM backend with clients, seen by screenshot.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Running, tail};
use crate::report::Outcome;
use crate::sheet::Picture;
use crate::steps::Session;
use crate::steps::kms::{nothing_left, screenshot};
use crate::workspace::Workspace;

/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing but a colour, and no input devices.
const SETTINGS: &str = "[core]\nrequire-input=false\nidle-time=0\n\
    [shell]\npanel-position=none\nbackground-color=0xff1c2a3a\nlocking=false\nanimation=none\n";
const BACKGROUND: [u8; 3] = [0x1c, 0x2a, 0x3a];
/// Clients that draw by GL, with buffers that are shared and never copied.
const CLIENTS: [&[&str]; 4] = [
    &["weston-simple-egl"],
    &["weston-simple-dmabuf-egl"],
    &["es2gears_wayland"],
    &["glmark2-es2-wayland", "-b", "shading:duration=600", "-s", "300x200"],
];

/// All clients are on the screen, a second compositor is not, and each that ends leaves nothing.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        let folder = daemon.session_folder()?;
        let compositor = Compositor::start(workspace, daemon, "first")?;
        compositor.until("the background", || {
            Ok(compositor.log().contains("GL renderer: virgl") && all_background(&screenshot(daemon)?))
        })?;
        let mut clients = Vec::new();
        for (index, command) in CLIENTS.iter().enumerate() {
            let log = File::create(folder.join(format!("client-{index}.log")));
            let log = log.context(|| "cannot make a client's log".into())?;
            let task = daemon.run(command[0]).args(&command[1..]);
            let task = task.env("XDG_RUNTIME_DIR", &folder).env("WAYLAND_DISPLAY", "first");
            clients.push(task.limit(Duration::from_secs(600)).start(log)?);
            let before = screenshot(daemon)?;
            compositor.until(command[0], || {
                let changed = covered(&screenshot(daemon)?) > covered(&before);
                Ok(changed && contexts(daemon)? >= index as u64 + 2)
            })?;
        }
        refused(workspace, daemon)?;
        let seen = colours(&screenshot(daemon)?);
        if seen < 500 {
            return Err(Failure::new(format!("after a second compositor came there are {seen} colours")));
        }
        while clients.pop().is_some() {
            compositor.until("one client less", || Ok(contexts(daemon)? <= clients.len() as u64 + 1))?;
        }
        compositor.until("the background alone", || Ok(all_background(&screenshot(daemon)?)))?;
        drop(compositor);
        nothing_left(daemon)?;
        Ok(Outcome::Passed(format!("{} clients on Weston's DRM backend", CLIENTS.len())))
    })
}

/// A second compositor may look, and not set anything.
fn refused(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let second = Compositor::start(workspace, daemon, "second")?;
    second.until("that it may not", || Ok(second.log().contains("Permission denied")))
}

/// Weston on card0.
struct Compositor {
    log: PathBuf,
    process: Running,
}

impl Compositor {
    fn start(workspace: &Workspace, daemon: &Daemon, name: &str) -> Result<Self> {
        let folder = daemon.session_folder()?;
        let (settings, log) = (folder.join("session.ini"), folder.join(format!("{name}.log")));
        fs::write(&settings, SETTINGS).context(|| "cannot write Weston's settings".into())?;
        let file = File::create(&log).context(|| "cannot make Weston's log".into())?;
        let process = daemon
            .run(workspace.release("seat"))
            .args(["weston", "--backend=drm-backend.so"])
            .args([format!("--config={}", settings.display()), format!("--socket={name}")])
            .env("XDG_RUNTIME_DIR", &folder)
            .start(file)?;
        Ok(Self { log, process })
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && !self.process.has_ended() {
            // It may be a moment until there is a screen to look at.
            if matches!(is_so(), Ok(true)) {
                println!("seen: {what}");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(200));
        }
        Err(Failure::new(format!("not seen: {what}; Weston says\n{}", tail(&self.log(), 20))))
    }
}

fn contexts(daemon: &Daemon) -> Result<u64> {
    let status = daemon.status()?;
    status["contexts"].as_u64().ok_or_else(|| Failure::new("`virgld status` counts no contexts"))
}

/// How many pixels show something.
fn covered(picture: &Picture) -> usize {
    picture.bytes().as_chunks::<3>().0.iter().filter(|pixel| **pixel != BACKGROUND).count()
}

fn all_background(picture: &Picture) -> bool {
    covered(picture) == 0
}

fn colours(picture: &Picture) -> usize {
    let mut colours = picture.bytes().as_chunks::<3>().0.to_vec();
    colours.sort_unstable();
    colours.dedup();
    colours.len()
}
