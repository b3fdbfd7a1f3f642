//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use virgld_context::Budget;

use super::device::DeviceChoice;

/// A virtio-gpu 3D driver in user space: unmodified GL programs on one side, a virtio-gpu device on the other.
///
/// For everyday use, put `virgld run` before a program:
///
///     virgld run eglinfo -B
///     virgld run -- weston --backend=headless-backend.so --use-gl --socket=w &
///     WAYLAND_DISPLAY=w virgld run glmark2-es2-wayland
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Drive a device and serve programs until interrupted.
    Serve(Serve),
    /// Run a program on virgld; start a daemon if there is none. The program's exit code is passed on.
    Run(Run),
    /// Show what a device offers: features, capability sets, limits.
    Info(Info),
    /// Show what a running daemon is doing: clients, contexts, resources, queues, fences.
    Status(Status),
    /// Show every object that a running daemon keeps, with its owner; exit code 3 if there are any.
    Leaks(Leaks),
    /// Make something go wrong in a running daemon, to see what becomes of it (docs/faults.md).
    Fault(Fault),
    /// Write what is on a screen, pointer included, to a PNG file.
    Screenshot(Screenshot),
    /// Show a screen, as it changes, to a browser on this machine.
    View(View),
    /// Give the screen another size, as if its window were drawn larger or smaller: programs are told.
    Resize(Resize),
}

/// A time of at least a millisecond.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let enough = time.filter(|time| *time >= Duration::from_millis(1));
    enough.ok_or_else(|| "expected seconds, 0.001 or more".into())
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = seconds(text).ok().filter(|time| *time >= Duration::from_secs(1));
    time.ok_or_else(|| "expected seconds, 1 or more".into())
}

/// Where a daemon and its programs meet.
#[derive(Debug, Clone, Args)]
pub(crate) struct Meeting {
    /// Directory of the daemon's sockets; created if need be, for its owner alone. Without it:
    /// $XDG_RUNTIME_DIR/virgld, or /tmp/virgld-UID.
    #[arg(long, value_name = "DIR", env = "VIRGLD_DIR", global = true)]
    pub(crate) runtime_dir: Option<PathBuf>,
}

/// Which device to drive.
#[derive(Debug, Clone, Args)]
pub(crate) struct Device {
    /// `pci:0000:00:02.0` drives that device through VFIO; `auto` drives the virtio-gpu device on the PCI bus, or
    /// does as the next where there is none; `vhost-user-gpu` starts QEMU's device process and looks after it; `vhost-user-gpu:PATH` starts that program;
    /// `unix:SOCKET` connects to a vhost-user device that somebody else started.
    #[arg(long, value_name = "DEVICE", default_value = "vhost-user-gpu", env = "VIRGLD_DEVICE")]
    pub(crate) device: DeviceChoice,
    /// Take a PCI device from the driver that holds it, and give it back at the end.
    #[arg(long)]
    pub(crate) rebind: bool,
    /// Render node that the device process draws with; without one it draws in software.
    #[arg(long, value_name = "NODE")]
    pub(crate) render_node: Option<PathBuf>,
    /// Threads with which a device process that draws in software does so beside its own. With 0 small frames are drawn
    /// in up to half the time, as nobody has to be woken; large ones take up to twice as long. Without it: what
    /// LP_NUM_THREADS says, or one for each processor.
    #[arg(long, value_name = "N")]
    pub(crate) raster_threads: Option<u8>,
    /// Give the device process at most so many regions of clients' memory, though it has room for more: what is in others
    /// is copied. For tests of that; the first holds the copies.
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) regions: Option<u8>,
    /// Do without 3D: dumb buffers, modes and pointers as ever, and no GL. The device process is started without it and
    /// sends the pixels that it shows (`virgld screenshot --sent`). Not with a PCI device.
    #[arg(long, conflicts_with_all = ["render_node", "rebind"])]
    pub(crate) no_3d: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    #[command(flatten)]
    pub(crate) device: Device,
    /// Seconds, or parts of one, that the device may take for one command before the command fails. A device that
    /// answers nothing for so long is ended, and another started. A command that it has not come to, because it gets on
    /// with others, may take four times as long.
    #[arg(long, alias = "command-timeout", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) command_deadline: Duration,
    /// Seconds that an actor may take for a step. One that does not return for so long is given up with its thread: a
    /// context costs its file, any other the daemon, which ends with a message. Should be less than the command deadline: all
    /// wait meanwhile, and what the device has counts as late afterwards.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = whole_seconds)]
    pub(crate) watchdog: Duration,
    /// Microseconds for which the daemon goes on looking for more to do before it sleeps, where that has lately paid. Each
    /// call and each answer of the device is then found sooner, for processor time that nobody else wants; 0 never looks.
    /// Without it: 400, and 4000 with a PCI device: in a virtual machine without KVM device and programs take so long.
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u16).range(..=10_000))]
    pub(crate) busy_poll: Option<u16>,
    /// Do not confine the daemon and its device process (docs/security.md). For debugging: a debugger, or a device
    /// process that reads files elsewhere.
    #[arg(long)]
    pub(crate) no_sandbox: bool,
    /// Who may open the nodes, and how much they may have: a TOML file, explained in docs/policy.toml. Without one,
    /// only root and the user who starts this may open anything.
    #[arg(long, value_name = "FILE", env = "VIRGLD_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// What is to go wrong, for tests: a TOML file, explained in docs/faults.md.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// Have GL contexts outlive a device that is lost: each keeps a journal of what it takes to make it anew on the next.
    /// All journals together hold at most so many MiB (256 if not said), each as much as it leaves over.
    #[arg(long, value_name = "MIB", num_args = 0..=1, require_equals = true, default_missing_value = "256",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) survive: Option<u16>,
    /// End when no program has used the daemon for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_exit: Option<u64>,
}

impl Serve {
    /// For how long to look for more to do before the daemon sleeps, with this device.
    pub(crate) fn busy_poll(&self, device: &Device) -> Duration {
        // As measured: docs/decisions/0017-busy-polling-that-gives-way.md.
        let usual = if matches!(device.device, DeviceChoice::Pci(_)) { 4000 } else { 400 };
        Duration::from_micros(self.busy_poll.unwrap_or(usual).into())
    }

    /// Memory for what contexts keep to outlive their device.
    pub(crate) fn journals(&self) -> Option<Budget> {
        self.survive.map(|mebibytes| Budget::new(usize::from(mebibytes) << 20))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    #[command(flatten)]
    pub(crate) device: Device,
    /// Give the program, and what it starts, a daemon and a device process of its own, which end with it: it shares
    /// nothing with other programs, on the host neither, and no buffers can be passed between it and them.
    #[arg(long)]
    pub(crate) isolated: bool,
    /// Give the program one of as many daemons as there are processors, in turn, each with a device process, which it has
    /// together with every other program whose turn leads there: more is done at once where many programs run, and no
    /// buffers can be passed between those that have different ones. Each device draws on one thread (`--raster-threads 0`).
    #[arg(long, conflicts_with = "isolated")]
    pub(crate) spread: bool,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) device: Device,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Leaks {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Screenshot {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    /// Which screen, from 0 on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) output: usize,
    /// What the device has sent to be shown, without the pointer, instead of what programs have put there. Devices with 3D
    /// send nothing.
    #[arg(long)]
    pub(crate) sent: bool,
    /// The file to write.
    #[arg(value_name = "FILE.png")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct View {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    /// Which screen, from 0 on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) output: usize,
    /// The TCP port to listen on, on the loopback interface alone; 0 for any that is free.
    #[arg(long, value_name = "P", default_value_t = 0)]
    pub(crate) port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Fault {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    #[command(subcommand)]
    pub(crate) action: FaultAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FaultAction {
    /// Show the actors, the messages that each hears, and the faults in force with what came of them.
    List,
    /// Put a plan in force, or one fault.
    Inject(Box<Inject>),
    /// Take all faults at actors out of force.
    Clear,
}

#[derive(Debug, Args)]
pub(crate) struct Inject {
    /// A plan (docs/faults.md).
    #[arg(value_name = "FILE", conflicts_with_all = ["actor", "do"], required_unless_present_all = ["actor", "do"])]
    pub(crate) plan: Option<PathBuf>,
    /// Without a plan: the actor, or `device`.
    #[arg(long, value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// What goes wrong: panic, hang, delay, drop, duplicate, reorder, corrupt, refuse; with the device: death, stall.
    #[arg(long, value_name = "FAULT")]
    pub(crate) r#do: Option<String>,
    /// With which message; with any if left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) message: Option<String>,
    /// Where in the step: before, after, effect.
    #[arg(long, value_name = "POINT")]
    pub(crate) point: Option<String>,
    /// How long, for a delay.
    #[arg(long, value_name = "MS")]
    pub(crate) delay_ms: Option<u64>,
    /// With the message of this number, from now on; the next if left out.
    #[arg(long, value_name = "N", conflicts_with = "every")]
    pub(crate) nth: Option<u64>,
    /// With every N-th message.
    #[arg(long, value_name = "N")]
    pub(crate) every: Option<u64>,
    /// With each message by so much chance, from 0 to 1.
    #[arg(long, value_name = "P", conflicts_with_all = ["nth", "every"])]
    pub(crate) probability: Option<f64>,
    /// What decides chance: the same seed and the same messages, the same faults.
    #[arg(long, value_name = "N", conflicts_with = "plan")]
    pub(crate) seed: Option<u64>,
    /// How often at most.
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Resize {
    #[command(flatten)]
    pub(crate) meeting: Meeting,
    /// The size in pixels, such as 1280x800.
    #[arg(value_name = "WIDTHxHEIGHT", value_parser = extent)]
    pub(crate) extent: (u32, u32),
}

/// Two numbers.
fn extent(text: &str) -> Result<(u32, u32), String> {
    let sides =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides.ok_or_else(|| "expected a width and a height, such as 1280x800".into())
}
