//! Mode setting: what unmodified programs put on the screen is what the screenshot has.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::tail;
use crate::report::Outcome;
use crate::sheet::Picture;
use crate::steps::Session;
use crate::steps::faults::until;
use crate::steps::showing::{PATIENCE, Showing, in_a_browser, nothing_left, screenshot};
use crate::workspace::Workspace;

/// For how long programs show it: their input, whose end they wait for, lasts so many seconds.
const SHOWING: u32 = 25;
/// The same for a program that writes down what it has seen when it ends.
const SHORTLY: u32 = 10;
/// Refreshes a second of the modes that are offered.
const REFRESH: f64 = 60.0;

/// What software must draw of that at least, on a machine that has other things to do.
const LEAST_SHARE: f64 = 1.0 / 6.0;

/// Dumb buffers, a pointer, GL on the screen, then nothing is left; and dumb buffers on a device without 3D.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    workspace.build_examples()?;
    daemon::with_arguments(workspace, &["--no-3d"], |daemon| without_3d(workspace, daemon))?;
    daemon::with(workspace, |daemon| {
        modeflip(workspace, daemon)?;
        modetest(daemon)?;
        scanout(workspace, daemon)?;
        // A program that is ended may be a moment behind its shell, and the next may be a master only after it.
        nothing_left(daemon)?;
        let rate = kmscube(daemon, "")?;
        let fenced = kmscube(daemon, "-A")?;
        glmark2(daemon)?;
        resize(workspace, daemon)?;
        nothing_left(daemon)?;
        Ok(Outcome::Passed(format!(
            "pictures are right; kmscube flips {rate:.0} times a second, {fenced:.0} by atomic commits with fences"
        )))
    })
}

/// The pixels that the device sends to be shown are those that the program drew, until it is killed.
fn without_3d(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let expected = daemon.session_folder()?.join("modeflip.png");
    let sent = daemon.session_folder()?.join("sent.png");
    let program = workspace.example("modeflip");
    let command = format!("{} --png {}", program.display(), expected.display());
    {
        let mut program = Showing::start(daemon, "modeflip", SHOWING, &command)?;
        let shows = |_: &Picture| {
            let taken = daemon.tool("screenshot").arg("--sent").arg(&sent).output();
            let [drawn, seen] = [&expected, &sent].map(|file| Picture::read(file));
            taken.is_ok() && drawn.is_ok_and(|drawn| seen.is_ok_and(|seen| drawn.bytes() == seen.bytes()))
        };
        program.until(daemon, "its last frame, by the device", shows)?;
        // It draws nothing more: what the next device sends to be shown is what virgld has of it.
        kill_process(daemon.device()?, Signal::KILL).context(|| "the device is gone".into())?;
        until(daemon, "the loss is noticed", |status| {
            Ok(status.pointer("/device/losses").and_then(Value::as_u64) == Some(1))
        })?;
        program.until(daemon, "its last frame, by the device after that", shows)?;
        program.process.kill()?;
    }
    nothing_left(daemon)?;
    no_longer_sent(daemon)?;
    modetest(daemon)?;
    nothing_left(daemon)?;
    no_longer_sent(daemon)
}

/// The device was told to show nothing.
fn no_longer_sent(daemon: &Daemon) -> Result<()> {
    let file = daemon.session_folder()?.join("sent.png");
    let begin = Instant::now();
    loop {
        let said = daemon.tool("screenshot").arg("--sent").arg(&file).capture()?.text;
        if said.contains("screen 0 is off") {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failure::new(format!("the device still shows something: {said}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// GL in buffers that are shown: what `glReadPixels` has of the last frame is on the screen, pixel for pixel.
fn scanout(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let expected = daemon.session_folder()?.join("glscanout.png");
    let program = workspace.example("glscanout");
    let command = format!("{} --png {}", program.display(), expected.display());
    let mut program = Showing::start(daemon, "glscanout", SHOWING, &command)?;
    program.until(daemon, "what GL reads of its last frame", |seen| {
        is_picture(seen) && Picture::read(&expected).is_ok_and(|drawn| drawn.bytes() == seen.bytes())
    })?;
    let said = program.log();
    if said.contains("renderer: virgl") {
        return Ok(());
    }
    Err(Failure::new(format!("glscanout was not drawn by virgl:\n{}", tail(&said, 5))))
}

/// The `drm` crate: two dumb buffers; the last frame must be on the screen, pixel for pixel.
fn modeflip(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let expected = daemon.session_folder()?.join("modeflip.png");
    let program = workspace.example("modeflip");
    let command = format!("{} --png {}", program.display(), expected.display());
    let mut program = Showing::start(daemon, "modeflip", SHOWING, &command)?;
    program.until(daemon, "its last frame", |seen| {
        Picture::read(&expected).is_ok_and(|drawn| drawn.bytes() == seen.bytes())
    })
}

/// libdrm's test program: its pattern, and a pointer that moves over it.
fn modetest(daemon: &Daemon) -> Result<()> {
    const BARS: [(usize, [u8; 3]); 3] = [(20, [192, 192, 192]), (640, [0, 192, 0]), (1270, [0, 0, 192])];
    let listed = daemon.run("modetest").args(["-M", "virtio_gpu"]).output()?;
    let number = |heading: &str, column: &str| {
        let lines = listed.lines().skip_while(|line| *line != heading).skip(2);
        let found = lines.map(|line| line.split('\t').next().unwrap_or_default().to_owned()).next();
        found.filter(|it| it.parse::<u32>().is_ok()).ok_or_else(|| {
            Failure::new(format!("modetest lists no {column}; it wrote:\n{}", tail(&listed, 30)))
        })
    };
    let (connector, crtc) = (number("Connectors:", "connector")?, number("CRTCs:", "CRTC")?);
    let command = format!("modetest -M virtio_gpu -s {connector}@{crtc}:1280x800 -C");
    let mut program = Showing::start(daemon, "modetest", SHOWING, &command)?;
    program.until(daemon, "its pattern and a pointer", |seen| {
        let bars = BARS.iter().all(|(x, colour)| seen.pixel(*x, 2) == Some(*colour));
        bars && seen.bytes().as_chunks::<3>().0.iter().filter(|pixel| is_under_pointer(**pixel)).count()
            >= 32 * 32
    })?;
    // It is not told from all parts of the pattern, so the first place is the first that is seen.
    let first = Cell::new(None);
    program.until(daemon, "the pointer elsewhere", |seen| {
        let Some((x, y)) = pointer_of(seen) else { return false };
        let (from_x, from_y) = first.get().unwrap_or((x, y));
        first.set(Some((from_x, from_y)));
        x.abs_diff(from_x) + y.abs_diff(from_y) > 4
    })?;
    second_compositor(daemon, &format!("{connector}@{crtc}:640x480"))
}

/// The screen gets another size: its modes are others, and a program that listens to udev hears of it.
fn resize(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let log = daemon.session_folder()?.join("hotplug.log");
    let file = std::fs::File::create(&log).context(|| format!("cannot make {}", log.display()))?;
    let mut listener = daemon.run(workspace.example("hotplug")).start(file)?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let begin = Instant::now();
    while !said().contains("listening") && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    let modes = || daemon.run("modetest").args(["-M", "virtio_gpu", "-c"]).output();
    if modes()?.contains("1000x700") {
        return Err(Failure::new("a mode of 1000x700 was there before"));
    }
    daemon.tool("resize").arg("1000x700").output()?;
    for _ in 0..50 {
        if modes()?.contains("1000x700") {
            return match listener.wait(PATIENCE)? {
                Some(status) if status.success() => Ok(()),
                _ => {
                    Err(Failure::new(format!("udev told of no display that changed:\n{}", tail(&said(), 5))))
                }
            };
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::new(format!("the screen has no mode of 1000x700; modetest lists:\n{}", tail(&modes()?, 30))))
}

/// Another program that would set a mode meanwhile: refused, and the picture stays.
fn second_compositor(daemon: &Daemon, mode: &str) -> Result<()> {
    let before = screenshot(daemon)?;
    let said = daemon.run("modetest").args(["-M", "virtio_gpu", "-s", mode]).output()?;
    if !said.contains("failed to set mode: Permission denied") {
        let said = tail(&said, 10);
        return Err(Failure::new(format!("a second compositor is not refused; it wrote:\n{said}")));
    }
    // The pointer of the first goes on moving; a mode of the second would make the picture smaller.
    if screenshot(daemon)?.bytes().len() == before.bytes().len() {
        Ok(())
    } else {
        Err(Failure::new("a second compositor changed the picture"))
    }
}

/// Whether a colour is that of modetest's pointer, a grey that lets half through, over a colour of its pattern.
fn is_under_pointer(pixel: [u8; 3]) -> bool {
    const GREY: u32 = 0x77;
    let over = |below: u32| GREY + (below * (255 - GREY) + 127) / 255;
    let parts = [over(0), over(19), over(192)];
    pixel.iter().all(|part| parts.contains(&u32::from(*part)))
}

/// The middle of modetest's pointer, if there is one: of the pixels that its colours are of.
fn pointer_of(seen: &Picture) -> Option<(usize, usize)> {
    let pixels = seen.bytes().as_chunks::<3>().0.iter().enumerate();
    let under: Vec<usize> = pixels.filter(|(_, pixel)| is_under_pointer(**pixel)).map(|(at, _)| at).collect();
    let mean = |of: &dyn Fn(usize) -> usize| under.iter().map(|at| of(*at)).sum::<usize>() / under.len();
    let width = seen.width();
    (!under.is_empty()).then(|| (mean(&|at| at % width), mean(&|at| at / width)))
}

/// GL on the screen: a cube of many colours on grey, at the pace of the screen and no faster. With `-A` by atomic
/// commits, each of which waits for the fence of its frame; drawing the next waits for the fence of the commit.
fn kmscube(daemon: &Daemon, option: &str) -> Result<f64> {
    let command = format!("kmscube {option} -D /dev/dri/card0");
    let mut program = Showing::start(daemon, "kmscube", SHORTLY, &command)?;
    program.until(daemon, "a cube on grey", is_a_cube)?;
    if !is_a_cube(&in_a_browser(daemon)?) {
        return Err(Failure::new("a browser is shown no cube"));
    }
    let rate = |text: &str| text.rsplit_once(" sec (")?.1.split_once(" fps")?.0.parse::<f64>().ok();
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let text = program.log();
        if let Some(rate) = rate(&text) {
            let right = (REFRESH * LEAST_SHARE..=REFRESH * 1.05).contains(&rate);
            let text = tail(&text, 3);
            let wrong = || format!("kmscube does not keep the pace of {REFRESH} Hz:\n{text}");
            return if right { Ok(rate) } else { Err(Failure::new(wrong())) };
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Failure::new(format!("kmscube says no rate:\n{}", tail(&program.log(), 10))))
}

/// Whether this is what kmscube draws.
pub(super) fn is_a_cube(seen: &Picture) -> bool {
    let near = |side: u8| side.abs_diff(0x80) <= 1;
    seen.pixel(2, 2).is_some_and(|pixel| pixel.into_iter().all(near)) && is_picture(seen)
}

/// Whether there is more to see than a few colours.
fn is_picture(seen: &Picture) -> bool {
    let mut colours: Vec<_> = seen.bytes().as_chunks::<3>().0.to_vec();
    colours.sort_unstable();
    colours.dedup();
    colours.len() > 500
}

fn glmark2(daemon: &Daemon) -> Result<()> {
    let scene = ["-b", "build:duration=2", "-b", "texture:duration=2"];
    let program = daemon.run("glmark2-es2-drm").arg("--winsys-options=drm-device=/dev/dri/card0");
    let text = program.args(scene).limit(Duration::from_secs(120)).output()?;
    let failed = text.contains("Failed") || !text.contains("glmark2 Score");
    if failed { Err(Failure::new(format!("glmark2-es2-drm:\n{}", tail(&text, 20)))) } else { Ok(()) }
}
