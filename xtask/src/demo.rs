//! The demonstration: unmodified GL programs, several at once, and pictures of what they rendered.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::compositor::Compositor;
use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Finished, Task, tail};
use crate::sheet::{Picture, contact_sheet};
use crate::workspace::Workspace;

/// The project's own program: a scene and the size of its picture.
const SCENES: [(&str, &str); 3] = [("knot", "480x360"), ("crystal", "480x360"), ("field", "480x360")];

/// Programs that run in the compositor until they are ended; `stdbuf` makes them print before that.
const WINDOWS: [&[&str]; 3] = [
    &["stdbuf", "-oL", "es2gears_wayland", "-info"],
    &["stdbuf", "-oL", "weston-simple-egl"],
    &["stdbuf", "-oL", "glmark2-es2-wayland", "-b", "shading:shading=phong:duration=8", "-s", "400x300"],
];

/// How long the windows are open.
const OPEN: Duration = Duration::from_secs(12);

/// When the picture of the desktop is taken.
const PICTURE_AT: Duration = Duration::from_secs(7);

/// Runs everything and writes `target/demo/`.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    workspace.build_release()?;
    let folder = workspace.target_folder("demo")?;
    daemon::with(workspace, |daemon| {
        println!("a daemon of its own, with its device process, is up; starting a compositor on it");
        let compositor = Compositor::start(daemon, 1280, 800)?;
        println!("running {} programs at once for {} s", SCENES.len() + WINDOWS.len(), OPEN.as_secs());
        let reports = run_all(workspace, daemon, &compositor, &folder)?;
        println!("\n{:<22} {:>12}  renderer", "program", "frames/s");
        println!("{:<22} {:>12}  {}", "weston", "", after(&compositor.log(), "GL renderer:"));
        for (name, finished) in reports {
            println!("{name:<22} {:>12}  {}", frame_rate(&finished.text), renderer(&finished.text));
        }
        Ok(())
    })?;
    write_sheet(&folder)
}

/// Runs scenes and windows together and takes a picture of the desktop meanwhile.
fn run_all(
    workspace: &Workspace,
    daemon: &Daemon,
    compositor: &Compositor<'_>,
    folder: &Path,
) -> Result<Vec<(String, Finished)>> {
    thread::scope(|scope| {
        let mut programs: Vec<(String, ScopedJoinHandle<'_, Result<Finished>>)> = Vec::new();
        for (scene, size) in SCENES {
            let task = scene_task(workspace, daemon, folder, scene, size);
            programs.push((format!("triangle ({scene})"), scope.spawn(|| task.capture())));
        }
        for window in WINDOWS {
            let task = compositor.run(window[0]).args(&window[1..]).limit(OPEN);
            programs.push((window[2].to_owned(), scope.spawn(|| task.capture())));
        }
        thread::sleep(PICTURE_AT);
        let picture = take_picture(compositor, &folder.join("desktop.png"));
        let reports =
            programs.into_iter().map(|(name, program)| finish(name, program)).collect::<Result<_>>();
        picture.and(reports)
    })
}

fn scene_task(workspace: &Workspace, daemon: &Daemon, folder: &Path, scene: &str, size: &str) -> Task {
    daemon
        .run(workspace.release("triangle"))
        .args(["--scene", scene, "--size", size, "--seconds", "8", "--png"])
        .arg(folder.join(format!("{scene}.png")))
}

/// Waits for a program: it ends well by itself, or it is a window whose time is over.
fn finish(name: String, program: ScopedJoinHandle<'_, Result<Finished>>) -> Result<(String, Finished)> {
    let finished = program.join().map_err(|_| Failure::new("a thread of xtask panicked"))??;
    if finished.status.is_some_and(|status| !status.success()) {
        return Err(Failure::new(format!("{name} failed:\n{}", tail(&finished.text, 20))));
    }
    Ok((name, finished))
}

/// Weston's own screenshot program names its file by the time, so it works in a folder of its own.
fn take_picture(compositor: &Compositor<'_>, path: &Path) -> Result<()> {
    let folder = compositor.session().join("picture");
    fs::create_dir_all(&folder).context(|| "cannot make a folder for the picture".into())?;
    compositor.run("weston-screenshooter").folder(&folder).output()?;
    let taken = fs::read_dir(&folder).context(|| "no picture".into())?.flatten().next();
    let taken = taken.ok_or_else(|| Failure::new("weston-screenshooter wrote no picture"))?;
    fs::copy(taken.path(), path).context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn write_sheet(folder: &Path) -> Result<()> {
    let names = std::iter::once("desktop").chain(SCENES.iter().map(|(scene, _)| *scene));
    let files: Vec<PathBuf> = names.map(|name| folder.join(format!("{name}.png"))).collect();
    let pictures = files.iter().map(|file| Picture::read(file)).collect::<Result<Vec<_>>>()?;
    let sheet = folder.join("all.png");
    contact_sheet(&pictures, 2, (640, 400)).write(&sheet)?;
    println!("\npictures, the last one of them all together:");
    files.iter().chain([&sheet]).for_each(|file| println!("  {}", file.display()));
    Ok(())
}

/// What a program says of its renderer, in any of the ways in which programs do.
fn renderer(text: &str) -> &str {
    ["GL_RENDERER:", "GL_RENDERER", "renderer:"]
        .into_iter()
        .map(|key| after(text, key))
        .find(|found| !found.is_empty())
        .unwrap_or("")
}

fn after<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.split_once(key))
        .map_or("", |(_, rest)| rest.trim_start_matches([' ', '=', ':']).trim())
}

/// The number next to the last "fps" that a program printed.
fn frame_rate(text: &str) -> String {
    let line = text.lines().rev().find(|line| line.to_lowercase().contains("fps")).unwrap_or_default();
    let words: Vec<&str> = line.split([' ', ':', '=']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| word.to_lowercase().starts_with("fps")).unwrap_or_default();
    let beside = [at.checked_sub(1), at.checked_add(1)];
    let numbers = beside.into_iter().flatten().filter_map(|index| words.get(index)?.parse::<f64>().ok());
    numbers.map(|number| format!("{number:.0}")).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_frame_rates_of_all_programs() {
        assert_eq!(frame_rate("300 frames in 5.0 seconds = 60.012 FPS\n"), "60");
        assert_eq!(frame_rate("300 frames in 5 seconds: 61.000000 fps\n"), "61");
        assert_eq!(frame_rate("[shading] shading=phong: FPS: 128 FrameTime: 7.8 ms\n"), "128");
        assert_eq!(frame_rate("nothing\n"), "");
    }

    #[test]
    fn reads_renderers_of_all_programs() {
        assert_eq!(renderer("GL_RENDERER   = virgl (LLVMPIPE)\n"), "virgl (LLVMPIPE)");
        assert_eq!(renderer("    GL_RENDERER:    virgl (LLVMPIPE)\n"), "virgl (LLVMPIPE)");
    }
}
