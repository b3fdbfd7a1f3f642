//! Starting the guest and hearing what became of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::image::Image;
use crate::failure::{Context, Failure, Result};
use crate::process::{Running, Task, tail};
use crate::report::Outcome;

/// A machine to be.
pub(crate) struct Machine<'a> {
    /// What it starts with.
    pub(crate) image: &'a Image,
    /// QEMU's options for its gpu.
    pub(crate) gpu: &'a str,
    /// What its kernel is told besides the usual.
    pub(crate) words: &'a str,
    /// What it runs: a script for bash, as root.
    pub(crate) script: &'a str,
    /// How long it may take from power on to power off.
    pub(crate) limit: Duration,
    /// Whether its screen can be looked at.
    pub(crate) screen: bool,
}

/// A machine that runs; it is switched off when this is dropped.
pub(crate) struct Booted {
    folder: TempDir,
    process: Running,
    since: Instant,
    limit: Duration,
}

/// What became of a guest.
pub(crate) struct Guest {
    /// The folder that it could write: kept if the script failed.
    pub(crate) folder: TempDir,
    /// What its script wrote.
    pub(crate) output: String,
    /// The script's exit code.
    pub(crate) code: i32,
    /// How long it took from power on to power off.
    pub(crate) took: Duration,
}

impl Guest {
    /// What its script said last.
    pub(crate) fn last_line(&self) -> &str {
        self.output.trim_end().lines().last().unwrap_or_default()
    }

    /// That what it was booted for held.
    pub(crate) fn passed(&self, what: &str) -> Outcome {
        let seconds = self.took.as_secs_f64();
        Outcome::Passed(format!("{what}; {seconds:.0} s from power on to power off"))
    }

    /// Whether what it was booted for held, where its script says that by itself.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.code {
            0 => self.passed(self.last_line()),
            _ => Outcome::Failed(self.complaint()),
        }
    }

    /// How a script failed, and where to look. The daemon's log is in `daemon.log`.
    pub(crate) fn complaint(&self) -> String {
        format!(
            "in the guest, with code {} ({}):\n{}\nand the daemon:\n{}",
            self.code,
            self.folder.path().display(),
            tail(&self.output, 60),
            tail(&self.read("daemon.log"), 30)
        )
    }

    /// What a file in its folder holds, if it is there.
    pub(crate) fn read(&self, name: &str) -> String {
        read(self.folder.path(), name)
    }
}

impl Machine<'_> {
    /// Runs the guest until it powers off. Fails if it did not come as far as its script's end.
    pub(crate) fn run(&self) -> Result<Guest> {
        self.start()?.finish()
    }

    /// Switches it on.
    pub(crate) fn start(&self) -> Result<Booted> {
        // It goes when all went well.
        let folder = tempfile::Builder::new()
            .prefix("virgld-vm-")
            .disable_cleanup(true)
            .tempdir()
            .context(|| "no folder".into())?;
        fs::write(folder.path().join("script"), self.script).context(|| "cannot write the script".into())?;
        let console = File::create(folder.path().join(CONSOLE)).context(|| "cannot keep a log".into())?;
        let process = self.task(folder.path()).start(console)?;
        Ok(Booted { folder, process, since: Instant::now(), limit: self.limit })
    }

    fn task(&self, folder: &Path) -> Task {
        let share = |path: &Path, tag, more| {
            format!("local,path={},mount_tag={tag},security_model=none,multidevs=remap{more}", path.display())
        };
        let task = Task::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-M", "q35", "-cpu", "max"])
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"])
            .arg("-kernel")
            .arg(&self.image.kernel)
            .arg("-initrd")
            .arg(&self.image.initial)
            .args(["-append", &format!("{COMMAND_LINE} {}", self.words)])
            // The IOMMU comes before whatever is to be behind it.
            .args(["-device", "intel-iommu,intremap=on"])
            // Where devices can come and go while the machine runs.
            .args(["-device", "pcie-root-port,id=slot1,chassis=1,slot=1"])
            .args(["-device", self.gpu])
            .args(["-display", "egl-headless,rendernode=/dev/null"])
            .args(["-virtfs", &share(Path::new("/"), "host", ",readonly=on")])
            .args(["-virtfs", &share(folder, "back", "")])
            // What the system says of QEMU itself: the guest reads there what it costs.
            .args(["-virtfs", &share(Path::new("/proc/self/"), "machine", ",readonly=on")])
            .args(["-serial", "stdio", "-monitor", "none"])
            .limit(self.limit);
        if !self.screen {
            return task;
        }
        task.args(["-vnc", &format!("unix:{}", folder.join(SCREEN).display())])
            // QEMU tells its viewers of a pointer's image and not of its place, so it is to log what the device is told.
            .args(["-trace", POINTER_EVENT, "-D", &folder.join(LOG).display().to_string()])
    }
}

impl Booted {
    /// The folder that it can write.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its screen is to be seen, by RFB.
    pub(crate) fn screen(&self) -> PathBuf {
        self.folder.path().join(SCREEN)
    }

    /// Where the device was told last to show a pointer, if it is to show one.
    pub(crate) fn pointer(&self) -> Option<(i32, i32)> {
        last_pointer(&self.read(LOG))
    }

    /// Waits until the guest has written this file into its folder; gives what it holds.
    pub(crate) fn await_file(&self, name: &str) -> Result<String> {
        loop {
            if let Ok(text) = fs::read_to_string(self.folder.path().join(name)) {
                return Ok(text);
            }
            if self.process.has_ended() || self.since.elapsed() > self.limit {
                return Err(self.failure(&format!("did not come as far as `{name}`")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it powers off. Fails if it did not come as far as its script's end.
    pub(crate) fn finish(mut self) -> Result<Guest> {
        let left = self.limit.saturating_sub(self.since.elapsed());
        self.process.wait(left)?;
        let output = self.read("output");
        match self.read("exit").trim().parse() {
            Ok(code) => {
                self.folder.disable_cleanup(code != 0);
                Ok(Guest { folder: self.folder, output, code, took: self.since.elapsed() })
            }
            Err(_) => Err(self.failure(&format!("did not finish within {} s", self.limit.as_secs()))),
        }
    }

    /// What went wrong, with what the guest wrote.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        // How far it came: a script may write nothing before its end.
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut left: Vec<_> =
            fs::read_dir(self.folder()).into_iter().flatten().flatten().map(name).collect();
        left.sort();
        Failure::new(format!(
            "the guest {what}; in {} it left {}; its script wrote:\n{}\nthe daemon:\n{}\nand its console:\n{}",
            self.folder().display(),
            left.join(" "),
            tail(&self.read("output"), 40),
            tail(&self.read("daemon.log"), 20),
            tail(&self.read(CONSOLE), 20)
        ))
    }

    fn read(&self, name: &str) -> String {
        read(self.folder(), name)
    }
}

fn read(folder: &Path, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap_or_default()).into_owned()
}

/// The place in the last line of QEMU's log that is about a pointer: `virtio_gpu_update_cursor scanout 0, x 10, y 20, move,
/// res 0x3`. Without an image there is none.
fn last_pointer(log: &str) -> Option<(i32, i32)> {
    let (_, line) = log.lines().rev().find_map(|line| line.split_once(POINTER_EVENT))?;
    let field = |name| line.split(", ").find_map(|field| field.strip_prefix(name));
    // The device has places as numbers without a sign, in two's complement.
    let place = |name| field(name)?.parse().ok().map(u32::cast_signed);
    field("res ").filter(|image| *image != "0x0")?;
    Some((place("x ")?, place("y ")?))
}

const POINTER_EVENT: &str = "virtio_gpu_update_cursor";
const LOG: &str = "qemu.log";
const CONSOLE: &str = "console";
const SCREEN: &str = "screen";
/// The kernel checks that the timer interrupts within a moment, and panics on a busy machine where it does later.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=4 tsc=reliable no_timer_check mitigations=off intel_iommu=on panic=-1";

#[cfg(test)]
mod tests {
    use super::last_pointer;

    #[test]
    fn the_last_place_of_a_pointer_that_has_an_image_counts() {
        let line =
            |words: &str| format!("1234@1700000000.123456:virtio_gpu_update_cursor scanout 0, {words}\n");
        let shown = line("x 1, y 2, update, res 0x3") + &line("x 10, y 4294967291, move, res 0x3");
        assert_eq!(last_pointer(&(shown.clone() + "another line\n")), Some((10, -5)));
        assert_eq!(last_pointer(&(shown + &line("x 0, y 0, update, res 0x0"))), None);
        assert_eq!(last_pointer(""), None);
    }
}
