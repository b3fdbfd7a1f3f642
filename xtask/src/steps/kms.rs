//! Mode setting: what unmodified programs put on the screen is what the screenshot has.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Running, tail};
use crate::report::Outcome;
use crate::sheet::Picture;
use crate::steps::Session;
use crate::steps::faults::until;
use crate::workspace::Workspace;

/// How long a program may take to show what it is to show.
const PATIENCE: Duration = Duration::from_secs(20);
/// For how long programs show it: their input, whose end they wait for, lasts so many seconds.
const SHOWING: u32 = 25;
/// The same for a program that writes down what it has seen when it ends.
const SHORTLY: u32 = 10;
/// Refreshes a second of the modes that are offered.
const REFRESH: f64 = 60.0;

/// Dumb buffers, a pointer, GL on the screen, then nothing is left; and dumb buffers on a device without 3D.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    let example = ["build", "--release", "--package", "virgld-programs", "--example", "modeflip"];
    workspace.cargo(example).show()?;
    daemon::with_arguments(workspace, &["--no-3d"], |daemon| without_3d(workspace, daemon))?;
    daemon::with(workspace, |daemon| {
        modeflip(workspace, daemon)?;
        modetest(daemon)?;
        let rate = kmscube(daemon, "")?;
        let fenced = kmscube(daemon, "-A")?;
        glmark2(daemon)?;
        resize(daemon)?;
        nothing_left(daemon)?;
        Ok(Outcome::Passed(format!(
            "pictures are right; kmscube flips {rate:.0} times a second, {fenced:.0} by atomic commits with fences"
        )))
    })
}

/// The pixels that the device sends to be shown are those that the program drew, until it ends.
fn without_3d(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let expected = daemon.session_folder()?.join("modeflip.png");
    let sent = daemon.session_folder()?.join("sent.png");
    let program = workspace.release("examples/modeflip");
    let command = format!("{} --flips 20 --png {}", program.display(), expected.display());
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
    }
    modetest(daemon)?;
    nothing_left(daemon)
}

/// The `drm` crate: two dumb buffers; the last frame must be on the screen, pixel for pixel.
fn modeflip(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let expected = daemon.session_folder()?.join("modeflip.png");
    let program = workspace.release("examples/modeflip");
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
    second_compositor(daemon, &format!("{connector}@{crtc}:640x480"))
}

/// The screen gets another size: its modes are others. That programs hear of it, the client library's tests show.
fn resize(daemon: &Daemon) -> Result<()> {
    let modes = || daemon.run("modetest").args(["-M", "virtio_gpu", "-c"]).output();
    if modes()?.contains("1000x700") {
        return Err(Failure::new("a mode of 1000x700 was there before"));
    }
    daemon.tool("resize").arg("1000x700").output()?;
    for _ in 0..50 {
        if modes()?.contains("1000x700") {
            return Ok(());
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

/// GL on the screen: a cube of many colours on grey, at the pace of the screen and no faster. With `-A` by atomic
/// commits, each of which waits for the fence of its frame; drawing the next waits for the fence of the commit.
fn kmscube(daemon: &Daemon, option: &str) -> Result<f64> {
    let command = format!("kmscube {option} -D /dev/dri/card0");
    let mut program = Showing::start(daemon, "kmscube", SHORTLY, &command)?;
    program.until(daemon, "a cube on grey", is_a_cube)?;
    let rate = |text: &str| text.rsplit_once(" sec (")?.1.split_once(" fps")?.0.parse::<f64>().ok();
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let text = program.log();
        if let Some(rate) = rate(&text) {
            let free = rate > REFRESH * 1.05;
            let text = tail(&text, 3);
            return if free { Err(Failure::new(format!("kmscube runs free:\n{text}"))) } else { Ok(rate) };
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Failure::new(format!("kmscube says no rate:\n{}", tail(&program.log(), 10))))
}

/// Whether this is what kmscube draws.
pub(super) fn is_a_cube(seen: &Picture) -> bool {
    let near = |side: u8| side.abs_diff(0x80) <= 1;
    let grey = seen.pixel(2, 2).is_some_and(|pixel| pixel.into_iter().all(near));
    let mut colours: Vec<_> = seen.bytes().as_chunks::<3>().0.to_vec();
    colours.sort_unstable();
    colours.dedup();
    grey && colours.len() > 500
}

fn glmark2(daemon: &Daemon) -> Result<()> {
    let scene = ["-b", "build:duration=2", "-b", "texture:duration=2"];
    let program = daemon.run("glmark2-es2-drm").arg("--winsys-options=drm-device=/dev/dri/card0");
    let text = program.args(scene).limit(Duration::from_secs(120)).output()?;
    let failed = text.contains("Failed") || !text.contains("glmark2 Score");
    if failed { Err(Failure::new(format!("glmark2-es2-drm:\n{}", tail(&text, 20)))) } else { Ok(()) }
}

/// The screen is blank and the device has nothing of anybody's.
pub(super) fn nothing_left(daemon: &Daemon) -> Result<()> {
    let begin = Instant::now();
    loop {
        let status = daemon.status()?;
        let counts = ["resources", "contexts", "buffers", "fences"].map(|it| status[it].as_u64());
        let empty = counts == [Some(0); 4];
        if empty && screenshot(daemon)?.bytes().iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failure::new(format!("something is left: {status}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What is on the screen.
pub(super) fn screenshot(daemon: &Daemon) -> Result<Picture> {
    let file = daemon.session_folder()?.join("screen.png");
    daemon.tool("screenshot").arg(&file).output()?;
    Picture::read(&file)
}

/// A program that shows something until its input ends.
struct Showing {
    name: &'static str,
    log: PathBuf,
    process: Running,
}

impl Showing {
    fn start(daemon: &Daemon, name: &'static str, seconds: u32, command: &str) -> Result<Self> {
        let log = daemon.session_folder()?.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).context(|| format!("cannot make {}", log.display()))?;
        let line = format!("sleep {seconds} | {command}");
        let process = daemon.run("sh").args(["-c", &line]).start(file)?;
        Ok(Self { name, log, process })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Looks at the screen until it is as it should be.
    fn until(&mut self, daemon: &Daemon, what: &str, right: impl Fn(&Picture) -> bool) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && !self.process.has_ended() {
            if right(&screenshot(daemon)?) {
                println!("{}: {what}", self.name);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = tail(&self.log(), 20);
        Err(Failure::new(format!("{} does not show {what}; it wrote:\n{log}", self.name)))
    }
}
