//! What is measured in the virtual machine, and how a program's figure is found in what it writes.

use std::fs;
use std::path::Path;

use super::table::{Measured, Side};
use crate::failure::{Context, Failure, Result};
use crate::process::tail;

/// One program with its arguments.
pub(super) struct Case {
    pub(super) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// A case of `glbench`, for so many seconds.
    Glbench { unit: &'static str, rate: bool, seconds: f32 },
    /// A scene of `glmark2-es2-drm`, with these options.
    Glmark { scene: &'static str, options: &'static str },
    /// `kmscube`.
    Kmscube,
    /// Nothing runs.
    Idle,
}

/// Seconds for which a case of `glbench` runs.
const USUAL: f32 = 1.5;

const fn latency(name: &'static str, unit: &'static str) -> Case {
    Case { name, kind: Kind::Glbench { unit, rate: false, seconds: USUAL } }
}

/// Programs are started and end. For longer: the first of them finds a guest that has none of its files in memory.
const fn start(name: &'static str) -> Case {
    Case { name, kind: Kind::Glbench { unit: "ms", rate: false, seconds: 8.0 } }
}

const fn rate(name: &'static str, unit: &'static str) -> Case {
    Case { name, kind: Kind::Glbench { unit, rate: true, seconds: USUAL } }
}

const fn off_screen(name: &'static str, scene: &'static str) -> Case {
    Case { name, kind: Kind::Glmark { scene, options: "--off-screen" } }
}

/// Whatever is drawn while a frame waits to be shown takes its place.
const fn on_screen(name: &'static str, scene: &'static str) -> Case {
    Case { name, kind: Kind::Glmark { scene, options: "--swap-mode mailbox" } }
}

/// Every frame is shown, at once. Where the driver says that it cannot do that, glmark2 does as above.
const fn torn(name: &'static str, scene: &'static str) -> Case {
    Case { name, kind: Kind::Glmark { scene, options: "--swap-mode immediate" } }
}

/// All of them.
pub(super) const CASES: &[Case] = &[
    Case { name: "idle", kind: Kind::Idle },
    latency("finish-after-clear", "us"),
    rate("small-frames", "frames/s"),
    rate("draw-calls", "draws/s"),
    rate("flush", "flushes/s"),
    rate("upload-4mib", "MB/s"),
    rate("readback-256", "reads/s"),
    rate("buffer-churn", "buffers/s"),
    rate("texture-churn", "textures/s"),
    start("first-pixel"),
    off_screen("off-build", "build:use-vbo=true"),
    off_screen("off-texture", "texture"),
    off_screen("off-shading", "shading:shading=phong"),
    off_screen("off-desktop", "desktop"),
    on_screen("on-build", "build:use-vbo=true"),
    on_screen("on-texture", "texture"),
    torn("torn-build", "build:use-vbo=true"),
    torn("torn-texture", "texture"),
    Case { name: "kmscube", kind: Kind::Kmscube },
];

impl Case {
    /// The line of the guest's script that measures it.
    pub(super) fn line(&self) -> String {
        let command = match &self.kind {
            Kind::Glbench { seconds, .. } => {
                let name = self.name;
                format!("env EGL_PLATFORM=surfaceless $run ./glbench --json --seconds {seconds} {name}")
            }
            Kind::Glmark { scene, options } => {
                // Not of the mode's size: glmark2 2023.01 then takes its window for made.
                let node = "--winsys-options=drm-device=/dev/dri/card0 --size 640x480";
                format!("$run glmark2-es2-drm {node} {options} -b {scene}:duration=2")
            }
            // It says how fast it was when its input ends.
            Kind::Kmscube => "sh -c \"sleep 10 | $run kmscube -D /dev/dri/card0\"".into(),
            Kind::Idle => "sleep 2".into(),
        };
        format!("measure {} {command}\n", self.name)
    }

    /// Takes what the guest left behind.
    pub(super) fn read(&self, folder: &Path, side: Side) -> Result<Measured> {
        let file = |ending| folder.join(format!("{}.{ending}", self.name));
        let text = fs::read_to_string(file("text")).context(|| format!("{}: no figure", self.name))?;
        let cost = fs::read_to_string(file("cost")).context(|| format!("{}: no cost", self.name))?;
        let value = self.kind.value(self.name, &text);
        let value = value.ok_or_else(|| {
            Failure::new(format!("{} with {side}: no figure in\n{}", self.name, tail(&text, 3)))
        })?;
        let mut cost = cost.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        let mut next = || cost.next().ok_or_else(|| Failure::new(format!("{}: no cost", self.name)));
        // Nanoseconds, and ticks of a hundredth of a second.
        let seconds = next()? / 1e9;
        let (guest, machine) = (next()? / 100.0 / seconds, next()? / 100.0 / seconds);
        let (unit, rate) = self.kind.unit();
        Ok(Measured { case: self.name.into(), unit: unit.into(), rate, value, guest, machine })
    }
}

impl Kind {
    /// What the figure counts, and whether more is better.
    fn unit(&self) -> (&'static str, bool) {
        match self {
            Self::Glbench { unit, rate, .. } => (unit, *rate),
            Self::Glmark { .. } | Self::Kmscube => ("frames/s", true),
            Self::Idle => ("", true),
        }
    }

    fn value(&self, name: &str, text: &str) -> Option<f64> {
        match self {
            Self::Glbench { .. } => {
                let line = text.lines().find(|line| line.starts_with('{'))?;
                let value: serde_json::Value = serde_json::from_str(line).ok()?;
                value["cases"][name]["median"].as_f64()
            }
            Self::Glmark { .. } => first_number(text.split_once(" FPS: ")?.1),
            // Of its lines the last: it counts from the start.
            Self::Kmscube => first_number(text.rsplit_once(" sec (")?.1),
            Self::Idle => Some(0.0),
        }
    }
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_programs_write() {
        let glbench = r#"{"cases":{"flush":{"median":12.5,"p99":1.0}},"renderer":"virgl"}"#;
        let kind = Kind::Glbench { unit: "flushes/s", rate: true, seconds: 1.0 };
        assert_eq!(kind.value("flush", glbench), Some(12.5));
        assert_eq!(kind.value("flush", "FAIL glbench"), None);
        let glmark = Kind::Glmark { scene: "build", options: "" };
        assert_eq!(glmark.value("", "[build] use-vbo=true: FPS: 91 FrameTime: 10.989 ms\n"), Some(91.0));
        let kmscube =
            "Rendered 84 frames in 2.009218 sec (41.81 fps)\nRendered 9 frames in 4.0 sec (42.50 fps)\n";
        assert_eq!(Kind::Kmscube.value("", kmscube), Some(42.5));
    }
}
