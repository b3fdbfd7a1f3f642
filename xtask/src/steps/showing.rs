//! Programs that show something, and looking at it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::failure::{Context, Failure, Result};
use crate::process::{Running, tail};
use crate::sheet::Picture;

/// How long a program may take to show what it is to show.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The screen is blank, and neither device nor daemon has anything of anybody's.
pub(super) fn nothing_left(daemon: &Daemon) -> Result<()> {
    let begin = Instant::now();
    loop {
        let status = daemon.status()?;
        let counts = ["resources", "contexts", "buffers", "fences"].map(|it| status[it].as_u64());
        let empty = counts == [Some(0); 4];
        let leaks = daemon.tool("leaks").arg("--json").capture()?;
        if empty && leaks.success() && screenshot(daemon)?.bytes().iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failure::new(format!("something is left: {status}\n{}", leaks.text)));
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
pub(super) struct Showing {
    name: &'static str,
    log: PathBuf,
    pub(super) process: Running,
}

impl Showing {
    /// Starts it, with an input that lasts so long.
    pub(super) fn start(daemon: &Daemon, name: &'static str, seconds: u32, command: &str) -> Result<Self> {
        let log = daemon.session_folder()?.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).context(|| format!("cannot make {}", log.display()))?;
        let line = format!("sleep {seconds} | {command}");
        let process = daemon.run("sh").args(["-c", &line]).start(file)?;
        Ok(Self { name, log, process })
    }

    /// What it has written.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Looks at the screen until it is as it should be.
    pub(super) fn until(
        &mut self,
        daemon: &Daemon,
        what: &str,
        right: impl Fn(&Picture) -> bool,
    ) -> Result<()> {
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

/// What is on the screen, as a browser is shown it.
pub(super) fn in_a_browser(daemon: &Daemon) -> Result<Picture> {
    let folder = daemon.session_folder()?;
    let (log, file) = (folder.join("view.log"), folder.join("view.png"));
    let output = std::fs::File::create(&log).context(|| format!("cannot make {}", log.display()))?;
    let _viewer = daemon.tool("view").start(output)?;
    let begin = Instant::now();
    let address = loop {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if let Some(address) = said.strip_prefix("http://").and_then(|said| said.strip_suffix("/\n")) {
            break address.to_owned();
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failure::new(format!("`virgld view` prints no address:\n{said}")));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let parts = address.split_once('/');
    let (host, path) = parts.ok_or_else(|| Failure::new(format!("{address} has no path")))?;
    let answer = fetch(host, &format!("/{path}/screen.png")).context(|| format!("no answer from {host}"))?;
    let body = answer.windows(4).position(|part| part == b"\r\n\r\n").map(|at| &answer[at + 4..]);
    std::fs::write(&file, body.unwrap_or_default()).context(|| "cannot keep a picture".into())?;
    Picture::read(&file)
}

fn fetch(host: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
