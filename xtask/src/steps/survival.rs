//! With `--survive` the device is killed under a program that draws frame after frame: its last picture is the one that it
//! draws on a device that nobody kills.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use super::faults::until;
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
        Ok("a context outlived its device, and its program's last picture is right".into())
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
    let count = |status: &Value| status.pointer("/device/commands").and_then(Value::as_u64).unwrap_or(0);
    let before = count(&daemon.status()?);
    until(daemon, "the program is under way", |status| {
        Ok(contexts(status) > 0 && count(status) > before + UNDER_WAY)
    })?;
    kill_process(daemon.device()?, Signal::KILL).context(|| "the device is gone".into())?;
    until(daemon, "its context has outlived the device", |status| Ok(revivals(status) > 0))?;
    Ok(())
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

/// Commands after which the program is past its preparations.
const UNDER_WAY: u64 = 300;
