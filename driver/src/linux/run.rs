//! `virgld run`: a program on virgld.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use virgld_platform::host::door::private_directory;

use super::Error;
use super::command_line::{Device, Run};
use super::device::DeviceChoice;

/// The library that carries a program's DRM calls to the daemon.
const LIBRARY: &str = "libvirgld_drm.so";
/// A daemon that was started for a program ends when it has had nothing to do for this long.
const IDLE_SECONDS: &str = "10";
/// How long a daemon may take to be ready: it starts a device, which compiles its first shaders.
const START: Duration = Duration::from_secs(30);

/// Becomes the program; returns only if that fails.
pub(crate) fn run(options: &Run) -> Result<ExitCode, Error> {
    // Also where a daemon is found and not started: another user's could do anything with the program.
    let directory = private_directory(&options.meeting.directory())?;
    let library = library()?;
    if options.meeting.daemon().is_err() {
        start_daemon(options, &directory)?;
    }
    let (program, arguments) = options.program.split_first().ok_or("no program is named")?;
    let error = Command::new(program)
        .args(arguments)
        .env("LD_PRELOAD", preload(&library))
        .env("VIRGLD_DIR", &directory)
        // Both would keep Mesa from looking for a driver.
        .env_remove("LIBGL_ALWAYS_SOFTWARE")
        .env_remove("GALLIUM_DRIVER")
        .exec();
    Err(format!("cannot run {}: {error}", program.to_string_lossy()).into())
}

/// The library beside the executable, or where an installation puts it.
fn library() -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os("VIRGLD_LIBRARY") {
        return Ok(path.into());
    }
    let executable = std::env::current_exe()?;
    let beside = executable.parent().unwrap_or(Path::new("/"));
    let places = [beside.join(LIBRARY), beside.join("../lib").join(LIBRARY)];
    let found = places.iter().find(|place| place.exists());
    found.cloned().ok_or_else(|| {
        let place = places[0].display();
        format!("{place} is missing: build it with `cargo build --release --package virgld-client`, or set VIRGLD_LIBRARY").into()
    })
}

/// Our library first, then what was to be preloaded anyway.
fn preload(library: &Path) -> OsString {
    let mut value = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        value.push(OsStr::new(":"));
        value.push(others);
    }
    value
}

/// Starts a daemon and waits until it serves.
fn start_daemon(options: &Run, directory: &Path) -> Result<(), Error> {
    let log_path = directory.join("log");
    let log = File::create(&log_path)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--idle-exit", IDLE_SECONDS]).arg("--runtime-dir").arg(directory);
    command.args(device_arguments(&options.device));
    // A group of its own: an interrupt at the terminal is for the program.
    let mut daemon =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn()?;
    let failed = |why: &str| -> Error {
        let log = std::fs::read_to_string(&log_path).unwrap_or_default();
        format!("the daemon {why}; its log, {}, says:\n{log}", log_path.display()).into()
    };
    wait_for(&mut daemon, || options.meeting.daemon().is_ok()).map_err(failed)
}

fn wait_for(daemon: &mut Child, ready: impl Fn() -> bool) -> Result<(), &'static str> {
    let begin = Instant::now();
    while !ready() {
        if !matches!(daemon.try_wait(), Ok(None)) {
            // Another program may have started one at the same moment.
            return if ready() { Ok(()) } else { Err("ended at once") };
        }
        if begin.elapsed() > START {
            return Err("is not ready after 30 seconds");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn device_arguments(device: &Device) -> Vec<OsString> {
    let prefixed = |prefix: &str, path: &Path| {
        let mut value = OsString::from(prefix);
        value.push(path);
        value
    };
    let choice = match &device.device {
        DeviceChoice::Process(None) => OsString::from("vhost-user-gpu"),
        DeviceChoice::Process(Some(path)) => prefixed("vhost-user-gpu:", path),
        DeviceChoice::Socket(path) => prefixed("unix:", path),
    };
    let mut arguments = vec![OsString::from("--device"), choice];
    if let Some(node) = &device.render_node {
        arguments.extend([OsString::from("--render-node"), node.into()]);
    }
    arguments
}
