//! GL as a player: the cases of `glbench`, on whatever driver Mesa finds.

use virgld_programs::bench::{CASES, Figures};
use virgld_programs::egl::Display;
use virgld_programs::stop::{Stop, Verdict};

use crate::player::Player;

/// GL on a display without windows.
pub(crate) struct GlPlayer {
    display: Display,
    renderer: String,
}

impl GlPlayer {
    /// Opens the display and finds out who renders.
    pub(crate) fn open() -> Verdict<Self> {
        let display = Display::surfaceless()?;
        let renderer = display.context()?.gl().renderer();
        Ok(Self { display, renderer })
    }
}

impl Player for GlPlayer {
    fn about(&self) -> String {
        self.renderer.clone()
    }

    fn measure(&mut self, case: &str, seconds: f64) -> Verdict<Figures> {
        let found = CASES.into_iter().find(|known| known.name == case);
        found.ok_or_else(|| Stop::failed(format!("no case {case}")))?.measure(&self.display, seconds)
    }
}
