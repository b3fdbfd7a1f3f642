//! glmark2's scenes, validated pixel by pixel by glmark2 itself.
//!
//! The Wayland flavour: the DRM flavour needs KMS even off-screen, and X11 without DRI3 never reaches a DRM
//! node. Compositor and client both render through virgld.

use std::time::Duration;

use crate::compositor::Compositor;
use crate::daemon;
use crate::failure::{Failure, Result};
use crate::process::tail;
use crate::report::Outcome;
use crate::steps::Session;
use crate::steps::programs::expect;

/// How many scenes must validate. glmark2 has no reference for the others ("Unknown").
const SCENES: usize = 10;

/// Validates the default list, on the screen and off it.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        let compositor = Compositor::start(daemon, 1024, 768)?;
        expect(&compositor.log(), "GL renderer: virgl", "Weston")?;
        let mut validated = 0;
        for surface in [&[][..], &["--off-screen"]] {
            let scenes = compositor.run("glmark2-es2-wayland").arg("--validate").args(surface);
            let text = scenes.limit(Duration::from_secs(180)).output()?;
            expect(&text, "GL_RENDERER:    virgl", "glmark2")?;
            validated += count(&text)?;
        }
        Ok(Outcome::Passed(format!("{validated} validations succeed, on the screen and off it")))
    })
}

/// The number of scenes that validate; fails where one does not or where they are too few.
fn count(text: &str) -> Result<usize> {
    let succeeded = text.matches("Validation: Success").count();
    if text.contains("Validation: Failure") || succeeded < SCENES {
        return Err(Failure::new(format!("{succeeded} scenes validate:\n{}", tail(text, 40))));
    }
    Ok(succeeded)
}
