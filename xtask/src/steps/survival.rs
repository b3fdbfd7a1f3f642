//! With `--survive` the device is killed under a program that draws frame after frame: its last picture is the one that it
//! draws on a device that nobody kills. Then under glmark2 and its compositor, while glmark2 compares each scene with what it
//! should be.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use super::faults::until;
use crate::compositor::Compositor;
use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::tail;
use crate::steps::churn::settled;
use crate::workspace::Workspace;

/// A scene with textures, mipmaps, several programs and multisampling, seen after so many frames.
const SCENE: [&str; 6] = ["--scene", "crystal", "--frames", "400", "--size", "320x240"];

/// Runs the program twice, once in peace.
pub(super) fn run(workspace: &Workspace) -> Result<String> {
    daemon::with_arguments(workspace, &["--survive"], |daemon| {
        let folder = daemon.session_folder()?;
        let (peace, struck) = (folder.join("peace.png"), folder.join("struck.png"));
        draw(workspace, daemon, &peace)?;
        thread::scope(|scope| {
            let drawing = scope.spawn(|| draw(workspace, daemon, &struck));
            let outlived = strike(daemon);
            let drawn = drawing.join().map_err(|_| Failure::new("a thread of xtask panicked"))?;
            outlived.and(drawn)
        })?;
        if read(&peace)? != read(&struck)? {
            return Err(Failure::new("after the device was killed, the program's last picture is not right"));
        }
        settled(daemon)?;
        Ok(())
    })?;
    let (right, wrong) = validate(workspace)?;
    Ok(format!(
        "a context outlived its device, and its program's last picture is right; {right} scenes of glmark2 are right \
         while the device is killed {KILLS} times, and {wrong} were under way and are not"
    ))
}

/// Kills the device again and again under a compositor and a client of it that validates what it draws. How many scenes were
/// right, and how many not.
fn validate(workspace: &Workspace) -> Result<(usize, usize)> {
    daemon::with_arguments(workspace, &["--survive"], |daemon| {
        let compositor = Compositor::start(daemon, 1024, 768)?;
        let marked = thread::scope(|scope| {
            let marking = scope.spawn(|| {
                let scenes = compositor.run("glmark2-es2-wayland").args(["--validate", "--off-screen"]);
                scenes.limit(Duration::from_secs(180)).output()
            });
            let struck = (1..=KILLS).try_for_each(|losses| {
                let before = commands(&daemon.status()?);
                until(daemon, "scenes are drawn", |status| {
                    Ok(contexts(status) > 1 && commands(status) > before + SCENE_OR_TWO)
                })?;
                kill_process(daemon.device()?, Signal::KILL).context(|| "the device is gone".into())?;
                until(daemon, "the loss is noticed", |status| {
                    Ok(status.pointer("/device/losses").and_then(Value::as_u64) == Some(losses))
                })?;
                Ok(())
            });
            let marked = marking.join().map_err(|_| Failure::new("a thread of xtask panicked"))?;
            struck.and(marked)
        })?;
        let right = marked.matches("Validation: Success").count();
        // What is under way when the device goes fails: of each scene one frame is looked at, and it may be that.
        let wrong = marked.matches("Validation: Failure").count();
        if wrong as u64 > KILLS || right < SCENES {
            let text = tail(&marked, 40);
            return Err(Failure::new(format!(
                "{right} scenes are right though the device was killed:\n{text}"
            )));
        }
        Ok((right, wrong))
    })
}

fn draw(workspace: &Workspace, daemon: &Daemon, picture: &Path) -> Result<()> {
    let program = daemon.run(workspace.release("triangle")).args(SCENE).arg("--png").arg(picture);
    let finished = program.limit(Duration::from_secs(120)).capture()?;
    if finished.success() {
        return Ok(());
    }
    Err(Failure::new(format!("the program that draws failed:\n{}", tail(&finished.text, 20))))
}

/// Kills the device once the program is in the middle of its frames, and waits until its context has outlived that.
fn strike(daemon: &Daemon) -> Result<()> {
    let before = commands(&daemon.status()?);
    until(daemon, "the program is under way", |status| {
        Ok(contexts(status) > 0 && commands(status) > before + UNDER_WAY)
    })?;
    kill_process(daemon.device()?, Signal::KILL).context(|| "the device is gone".into())?;
    until(daemon, "its context has outlived the device", |status| Ok(revivals(status) > 0))?;
    Ok(())
}

fn commands(status: &Value) -> u64 {
    status.pointer("/device/commands").and_then(Value::as_u64).unwrap_or(0)
}

fn contexts(status: &Value) -> u64 {
    status.get("contexts").and_then(Value::as_u64).unwrap_or(0)
}

fn revivals(status: &Value) -> u64 {
    let clients = status.get("clients").and_then(Value::as_array);
    clients.into_iter().flatten().filter_map(|client| client.get("revivals")?.as_u64()).sum()
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("there is no {}", path.display()))
}

/// How often the device is killed under glmark2: as often as a context may be to blame in a short time.
const KILLS: u64 = 3;
/// Commands that it takes glmark2 to get on a little.
const SCENE_OR_TWO: u64 = 250;
/// How many scenes must be right. glmark2 has no reference for the others.
const SCENES: usize = 10;
/// Commands after which the program is past its preparations.
const UNDER_WAY: u64 = 300;
