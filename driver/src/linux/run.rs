//! `virgld run`: a program on virgld.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use virgld_platform::host::door::own_directory;

use super::command_line::{Device, Meeting, Run};
use super::device::DeviceChoice;
use super::{Error, isolated, spread};

/// The library that carries a program's DRM calls to the daemon.
const LIBRARY: &str = "libvirgld_drm.so";
/// A daemon that was started for a program ends when it has had nothing to do for this long.
const IDLE_SECONDS: &str = "10";
/// How long a daemon may take to be ready: it starts a device, which compiles its first shaders.
const START: Duration = Duration::from_secs(30);

/// Becomes the program, and returns only if that fails; or runs it on a device of its own.
pub(crate) fn run(options: &Run) -> Result<ExitCode, Error> {
    // Also where a daemon is found and not started: another user's could do anything with the program. One that is
    // started finds out itself whether others may enter.
    let directory = own_directory(&options.meeting.directory())?;
    if options.isolated {
        return isolated::run(options, &directory);
    }
    if options.spread {
        return run_by(&spread::device(&options.device)?, options, &spread::next(&directory)?);
    }
    run_by(&options.device, options, &directory)
}

/// Becomes the program, on the daemon of this directory.
fn run_by(device: &Device, options: &Run, directory: &Path) -> Result<ExitCode, Error> {
    let command = program(options, directory)?;
    find_daemon(device, directory)?;
    become_program(command)
}

/// Sees to it that a daemon serves in this directory. Of several programs that find none one starts it, and the others wait.
fn find_daemon(device: &Device, directory: &Path) -> Result<(), Error> {
    if serves(directory) {
        return Ok(());
    }
    let path = directory.join("start");
    let failed = |error| format!("cannot lock {}: {error}", path.display());
    let turn = File::create(&path).map_err(failed)?;
    turn.lock().map_err(failed)?;
    if !serves(directory) {
        start_daemon(device, directory)?;
    }
    Ok(())
}

/// Whether a daemon does.
fn serves(directory: &Path) -> bool {
    Meeting::at(directory).daemon().is_ok()
}

fn become_program(mut command: Command) -> Result<ExitCode, Error> {
    let error = command.exec();
    Err(cannot_run(&command, &error))
}

pub(super) fn cannot_run(command: &Command, error: &std::io::Error) -> Error {
    format!("cannot run {}: {error}", command.get_program().to_string_lossy()).into()
}

/// The program, led to the daemon of this directory.
pub(super) fn program(options: &Run, directory: &Path) -> Result<Command, Error> {
    let library = library()?;
    let (program, arguments) = options.program.split_first().ok_or("no program is named")?;
    let mut command = Command::new(program);
    command.args(arguments).env("LD_PRELOAD", preload(&library)).env("VIRGLD_DIR", directory);
    // Both would keep Mesa from looking for a driver.
    command.env_remove("LIBGL_ALWAYS_SOFTWARE").env_remove("GALLIUM_DRIVER");
    Ok(command)
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

/// Starts a daemon in this directory and waits until it serves.
pub(super) fn start_daemon(device: &Device, directory: &Path) -> Result<Child, Error> {
    let log_path = directory.join("log");
    let log = File::create(&log_path)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--idle-exit", IDLE_SECONDS]).arg("--runtime-dir").arg(directory);
    command.args(device_arguments(device));
    // A group of its own: an interrupt at the terminal is for the program.
    let mut daemon =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn()?;
    let failed = |why: &str| -> Error {
        let log = std::fs::read_to_string(&log_path).unwrap_or_default();
        format!("the daemon {why}; its log, {}, says:\n{log}", log_path.display()).into()
    };
    wait_for(&mut daemon, || serves(directory)).map_err(failed)?;
    Ok(daemon)
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
        DeviceChoice::Pci(address) => format!("pci:{address}").into(),
        DeviceChoice::Auto => OsString::from("auto"),
    };
    let mut arguments = vec![OsString::from("--device"), choice];
    if device.rebind {
        arguments.push(OsString::from("--rebind"));
    }
    if let Some(threads) = device.raster_threads {
        arguments.extend([OsString::from("--raster-threads"), threads.to_string().into()]);
    }
    if let Some(regions) = device.regions {
        arguments.extend([OsString::from("--regions"), regions.to_string().into()]);
    }
    if device.no_3d {
        arguments.push(OsString::from("--no-3d"));
    }
    if let Some(node) = &device.render_node {
        arguments.extend([OsString::from("--render-node"), node.into()]);
    }
    arguments
}
