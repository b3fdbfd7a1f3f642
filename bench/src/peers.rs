//! The services that sides need, and how a program is put on a side.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::failure::{Context, Failure, Result};
use crate::machine::processors;
use crate::process::{Running, heed_interrupts, outputs};
use crate::side::Side;

/// What the sides need to run programs.
pub(crate) struct Peers {
    /// Or why there is none.
    vtest: Result<Running>,
    /// Or why there is none.
    virgld: Result<Running>,
    /// The daemons over which programs are spread.
    spread: Vec<Running>,
    /// A daemon whose device has no 3D and so is told what is on the screen, while that is measured.
    screens: Option<Running>,
    /// The other virgld, where two are compared; or why there is none.
    variant: Result<Running>,
    /// Where all executables lie.
    programs: PathBuf,
    folder: TempDir,
}

impl Peers {
    /// Starts virgl_test_server and virgld. One that does not start is kept as the reason.
    pub(crate) fn start(variant: Option<Side>) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let programs = own.parent().unwrap_or(Path::new("/")).to_owned();
        let folder =
            tempfile::Builder::new().prefix("virgld-bench-").tempdir().context("cannot make a folder")?;
        let absent = || Err(Failure::new("not started yet"));
        let mut peers = Self {
            vtest: absent(),
            virgld: absent(),
            spread: Vec::new(),
            variant: absent(),
            screens: None,
            programs,
            folder,
        };
        peers.vtest = peers.start_vtest();
        peers.virgld = peers.start_virgld(Side::Virgld, &[]);
        match variant {
            Some(Side::Surviving) => peers.variant = peers.start_virgld(Side::Surviving, &["--survive"]),
            Some(side) => peers.variant = peers.start_virgld(side, &["--regions", "1"]),
            None => match peers.start_spread() {
                Ok(daemons) => peers.spread = daemons,
                Err(reason) => peers.virgld = Err(reason),
            },
        }
        heed_interrupts()?;
        Ok(peers)
    }

    /// Why a side cannot be measured.
    pub(crate) fn absence(&self, side: Side) -> Option<&Failure> {
        self.service(side)?.as_ref().err()
    }

    /// The process that serves a side's programs, if it has one.
    pub(crate) fn service_id(&self, side: Side) -> Option<u32> {
        Some(self.service(side)?.as_ref().ok()?.id())
    }

    fn service(&self, side: Side) -> Option<&Result<Running>> {
        match side {
            Side::Floor | Side::Llvmpipe => None,
            Side::Virpipe => Some(&self.vtest),
            // What keeps one of these daemons from starting keeps all.
            Side::Virgld | Side::Isolated | Side::Spread => Some(&self.virgld),
            Side::Surviving | Side::Copying => Some(&self.variant),
        }
    }

    /// A program that lies beside this one, on a side. What it complains about goes to the side's log.
    pub(crate) fn command(&self, side: Side, program: &str, arguments: &[&str]) -> Result<Command> {
        let program = self.programs.join(program);
        let service = self.service_id(side);
        let mut command = match (side, service) {
            (Side::Virpipe, Some(id)) => {
                let mut enter = clean("nsenter");
                enter.arg(format!("--mount=/proc/{id}/ns/mnt")).arg("--").arg(program);
                enter.env("GALLIUM_DRIVER", "virpipe").env("LIBGL_ALWAYS_SOFTWARE", "1");
                enter
            }
            (Side::Virgld | Side::Isolated | Side::Spread | Side::Surviving | Side::Copying, Some(_)) => {
                let mut run = clean(self.programs.join("virgld"));
                let meeting = if self.screens.is_some() { SCREENS } else { meeting_of(side) };
                run.args(["run", "--runtime-dir"]).arg(self.meeting(meeting));
                run.args(way_of(side)).arg("--").arg(program);
                run
            }
            (Side::Llvmpipe | Side::Floor, _) => {
                let mut plain = clean(program);
                plain.env("GALLIUM_DRIVER", "llvmpipe").env("LIBGL_ALWAYS_SOFTWARE", "1");
                plain
            }
            _ => return Err(Failure::new(format!("nothing serves {side}"))),
        };
        command.args(arguments).stderr(self.log(side)?);
        Ok(command)
    }

    /// The end of what a side's programs complained about.
    pub(crate) fn complaints(&self, side: Side) -> String {
        let text = fs::read(self.log_path(side)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }

    /// Mesa's virpipe knows one socket, whatever it is told: /tmp/.virgl_test. So that it is ours, server and
    /// clients get a /tmp of their own where that is permitted; otherwise the real one serves, if it is free.
    fn start_vtest(&self) -> Result<Running> {
        let mut command = dying_with_us();
        let private = clean("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
        if private.is_ok_and(|status| status.success()) {
            command.args(["unshare", "--mount", "sh", "-ec", PRIVATE, "sh"]).arg(&self.programs);
        } else if UnixStream::connect(SOCKET).is_ok() {
            return Err(Failure::new(format!("another server listens at {SOCKET}: end it")));
        }
        command.args(["virgl_test_server", "--use-egl-surfaceless"]).arg(format!("--socket-path={SOCKET}"));
        command.env("LIBGL_ALWAYS_SOFTWARE", "1");
        let log = self.log(Side::Virpipe)?;
        let copy = log.try_clone().context("cannot copy a log's descriptor")?;
        let server = Running::start(command.stdin(Stdio::null()).stdout(copy).stderr(log))?;
        let socket = PathBuf::from(format!("/proc/{}/root{SOCKET}", server.id()));
        self.wait_for(Side::Virpipe, &server, || socket.exists())?;
        Ok(server)
    }

    /// Starts the daemon for screens, to which virgld's programs go until it ends.
    pub(crate) fn begin_screens(&mut self) -> Result<()> {
        let daemon = self.start_daemon(Side::Virgld, SCREENS, &["--no-3d"])?;
        self.screens = Some(daemon);
        Ok(())
    }

    /// Ends it.
    pub(crate) fn end_screens(&mut self) {
        self.screens = None;
    }

    fn start_virgld(&self, side: Side, arguments: &[&str]) -> Result<Running> {
        self.start_daemon(side, meeting_of(side), arguments)
    }

    /// Where `virgld run --spread` looks for them, and as it starts them.
    fn start_spread(&self) -> Result<Vec<Running>> {
        let start = |daemon| {
            let meeting = format!("{MEETING}/spread-{daemon}");
            self.start_daemon(Side::Spread, &meeting, &["--raster-threads", "0"])
        };
        (0..processors()).map(start).collect()
    }

    fn start_daemon(&self, side: Side, meeting: &str, arguments: &[&str]) -> Result<Running> {
        let virgld = self.programs.join("virgld");
        if !virgld.exists() {
            return Err(Failure::new(format!("{} is missing: cargo build --release", virgld.display())));
        }
        let mut command = dying_with_us();
        command.arg(&virgld).args(["serve", "--device", "vhost-user-gpu", "--runtime-dir"]);
        let log = self.log(side)?;
        command.arg(self.meeting(meeting)).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = Running::start(&mut command)?;
        self.wait_for(side, &daemon, || {
            let mut status = clean(&virgld);
            status.args(["status", "--json", "--runtime-dir"]).arg(self.meeting(meeting));
            status.stderr(Stdio::null());
            outputs(vec![status], START).is_ok()
        })?;
        Ok(daemon)
    }

    fn wait_for(&self, side: Side, service: &Running, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START;
        while !ready() {
            heed_interrupts()?;
            if service.has_ended() || Instant::now() > deadline {
                let complaints = self.complaints(side);
                return Err(Failure::new(format!("its server did not start: {complaints}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where virgld and its programs meet.
    fn meeting(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self, side: Side) -> Result<File> {
        let path = self.log_path(side);
        File::options().create(true).append(true).open(&path).context(path.display())
    }

    fn log_path(&self, side: Side) -> PathBuf {
        self.folder.path().join(format!("{side}.log"))
    }
}

/// A command without the variables that would lead Mesa elsewhere than to where it is to be measured.
fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in MISLEADING {
        command.env_remove(name);
    }
    command.env("EGL_PLATFORM", "surfaceless").env("RUST_LOG", "warn").env("NO_COLOR", "1");
    command
}

/// The beginning of a command that is killed when this process is: that way out runs no code of ours.
fn dying_with_us() -> Command {
    let mut command = clean("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}

const MISLEADING: [&str; 8] = [
    "LIBGL_ALWAYS_SOFTWARE",
    "GALLIUM_DRIVER",
    "MESA_LOADER_DRIVER_OVERRIDE",
    "LD_PRELOAD",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "VIRGLD_DIR",
    "VTEST_SOCKET_NAME",
];

/// Names of the folders in which daemons and programs meet.
const MEETING: &str = "run";
const VARIANT: &str = "variant";
const SCREENS: &str = "screens";

/// Under which name a side's daemon and programs meet.
fn meeting_of(side: Side) -> &'static str {
    if matches!(side, Side::Surviving | Side::Copying) { VARIANT } else { MEETING }
}

/// How `virgld run` puts a program on a side.
fn way_of(side: Side) -> Option<&'static str> {
    match side {
        Side::Isolated => Some("--isolated"),
        Side::Spread => Some("--spread"),
        _ => None,
    }
}

const SOCKET: &str = "/tmp/.virgl_test";

/// Puts an empty /tmp over the old one, in which only the programs stay visible, and becomes the command.
const PRIVATE: &str = r#"
programs=$1; shift
case $programs in /tmp/*) mount --bind "$programs" /mnt ;; esac
mount -t tmpfs tmpfs /tmp
case $programs in /tmp/*) mkdir -p "$programs"; mount --move /mnt "$programs" ;; esac
exec "$@"
"#;

/// How long a service may take to be ready.
const START: Duration = Duration::from_secs(30);
