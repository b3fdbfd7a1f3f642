//! GL programs on virgld: our own pixel checks, and Debian's that name the renderer.

use std::time::Duration;

use crate::compositor::Compositor;
use crate::daemon;
use crate::failure::{Failure, Result};
use crate::process::{Running, tail};
use crate::report::Outcome;
use crate::steps::Session;

/// Pixel checks, on the surfaceless platform and on GBM.
pub(crate) fn glcheck(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        for platform in ["surfaceless", "gbm"] {
            daemon
                .run(workspace.release("glcheck"))
                .args(["--expect-renderer", "virgl", "--platform", platform])
                .limit(Duration::from_secs(120))
                .show()?;
        }
        Ok(Outcome::Passed("surfaceless and GBM".into()))
    })
}

/// One process renders into a buffer that another process reads, and back.
pub(crate) fn glshare(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        daemon.run(workspace.release("glshare")).show()?;
        Ok(Outcome::Passed("both processes saw each other's pixels".into()))
    })
}

/// Debian's own tools name virgl as the renderer.
pub(crate) fn eglinfo(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        let text = daemon.run("eglinfo").arg("-B").capture()?.text;
        for platform in ["GBM", "Surfaceless"] {
            expect_on_platform(&text, platform, "EGL driver name: virtio_gpu")?;
        }
        let compositor = Compositor::start(daemon, 640, 480)?;
        let server = XServer::start(&compositor)?;
        let text = compositor.run("es2_info").env("DISPLAY", &server.display).output()?;
        expect(&text, "GL_RENDERER: virgl", "es2_info")?;
        Ok(Outcome::Passed("eglinfo: virtio_gpu; es2_info: virgl".into()))
    })
}

/// An X server inside the compositor, which es2_info needs: it speaks X only.
struct XServer {
    display: String,
    _process: Running,
}

impl XServer {
    fn start(compositor: &Compositor<'_>) -> Result<Self> {
        let number = rustix::process::getpid().as_raw_nonzero().get() % 30_000 + 100;
        let display = format!(":{number}");
        let log = compositor.session().join("xwayland.log");
        let file = std::fs::File::create(&log).map_err(|error| Failure::new(error.to_string()))?;
        let process = compositor.run("Xwayland").args([&display, "-nolisten", "tcp"]).start(file)?;
        let socket = std::path::PathBuf::from(format!("/tmp/.X11-unix/X{number}"));
        for _ in 0..200 {
            if socket.exists() {
                return Ok(Self { display, _process: process });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let text = std::fs::read_to_string(log).unwrap_or_default();
        Err(Failure::new(format!("Xwayland did not start:\n{}", tail(&text, 20))))
    }
}

/// Fails unless `text` has `wanted`; names the program that wrote it.
pub(crate) fn expect(text: &str, wanted: &str, program: &str) -> Result<()> {
    if text.contains(wanted) {
        return Ok(());
    }
    Err(Failure::new(format!("{program} did not say `{wanted}`; it wrote:\n{}", tail(text, 30))))
}

/// Fails unless eglinfo says `wanted` between the heading of `platform` and the next one.
fn expect_on_platform(text: &str, platform: &str, wanted: &str) -> Result<()> {
    let section = text.lines().skip_while(|line| *line != format!("{platform} platform:")).skip(1);
    let section: Vec<_> = section.take_while(|line| !line.ends_with(" platform:")).collect();
    expect(&section.join("\n"), wanted, &format!("eglinfo, on the platform {platform},"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_one_platform_only() {
        let text =
            "GBM platform:\nEGL driver name: swrast\n\nSurfaceless platform:\nEGL driver name: virtio_gpu\n";
        assert!(expect_on_platform(text, "Surfaceless", "virtio_gpu").is_ok());
        assert!(expect_on_platform(text, "GBM", "virtio_gpu").is_err());
        assert!(expect_on_platform(text, "Device", "virtio_gpu").is_err());
    }
}
