//! Starting the guest and hearing what became of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::image::Image;
use crate::failure::{Context, Failure, Result};
use crate::process::{Task, tail};

/// A machine to be.
pub(crate) struct Machine<'a> {
    /// What it starts with.
    pub(crate) image: &'a Image,
    /// QEMU's options for its gpu.
    pub(crate) gpu: &'a str,
    /// What it runs: a script for bash, as root.
    pub(crate) script: &'a str,
    /// How long it may take from power on to power off.
    pub(crate) limit: Duration,
}

/// What became of a guest.
pub(crate) struct Guest {
    /// The folder that it could write.
    pub(crate) folder: TempDir,
    /// What its script wrote.
    pub(crate) output: String,
    /// The script's exit code.
    pub(crate) code: i32,
    /// How long it took from power on to power off.
    pub(crate) took: Duration,
}

impl Machine<'_> {
    /// Runs the guest until it powers off. Fails if it did not come as far as its script's end.
    pub(crate) fn run(&self) -> Result<Guest> {
        let folder =
            tempfile::Builder::new().prefix("virgld-vm-").tempdir().context(|| "no folder".into())?;
        fs::write(folder.path().join("script"), self.script).context(|| "cannot write the script".into())?;
        let finished = self.task(folder.path()).capture()?;
        let output = read(folder.path(), "output");
        match read(folder.path(), "exit").trim().parse() {
            Ok(code) => Ok(Guest { folder, output, code, took: finished.took }),
            Err(_) => Err(Failure::new(format!(
                "the guest did not finish within {} s; its script wrote:\n{}\nand its console:\n{}",
                self.limit.as_secs(),
                tail(&output, 20),
                tail(&finished.text, 20)
            ))),
        }
    }

    fn task(&self, folder: &Path) -> Task {
        let share = |path: &Path, tag, more| {
            format!("local,path={},mount_tag={tag},security_model=none,multidevs=remap{more}", path.display())
        };
        Task::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-M", "q35", "-cpu", "max"])
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"])
            .arg("-kernel")
            .arg(&self.image.kernel)
            .arg("-initrd")
            .arg(&self.image.initial)
            .args(["-append", COMMAND_LINE])
            // The IOMMU comes before whatever is to be behind it.
            .args(["-device", "intel-iommu,intremap=on", "-device", self.gpu])
            .args(["-display", "egl-headless,rendernode=/dev/null"])
            .args(["-virtfs", &share(Path::new("/"), "host", ",readonly=on")])
            .args(["-virtfs", &share(folder, "back", "")])
            .args(["-serial", "stdio", "-monitor", "none"])
            .limit(self.limit)
    }
}

fn read(folder: &Path, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap_or_default()).into_owned()
}

const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=4 tsc=reliable mitigations=off intel_iommu=on panic=-1";
