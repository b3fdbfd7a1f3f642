//! What the daemon may touch once it serves.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use virgld_platform::host::process::DeviceProgram;
use virgld_platform::host::sandbox::{Confined, Files, Sockets, confine};

use super::Error;
use super::command_line::Device;
use super::device::DeviceChoice;

/// Confines the daemon, which has one thread by now, and every device process that it starts later.
pub(crate) fn enter(device: &Device, directory: &Path) -> Result<(), Error> {
    let sockets = match &device.device {
        // Somebody else's device is dialled, and dialled again when it is lost.
        DeviceChoice::Socket(_) => Sockets::Connect,
        DeviceChoice::Process(_) | DeviceChoice::Pci(_) | DeviceChoice::Auto => Sockets::Listen,
    };
    match confine(&files(device, directory), sockets)? {
        Confined::Fully => tracing::info!("confined by Landlock and seccomp"),
        Confined::Partly => {
            tracing::info!("confined by seccomp, and by Landlock as far as this older kernel has it");
        }
        Confined::WithoutLandlock => tracing::warn!(
            "confined by seccomp alone: this kernel has no Landlock, so the daemon can open what its user can"
        ),
    }
    Ok(())
}

fn files(device: &Device, directory: &Path) -> Files {
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    // The device process, the loader, and the libraries that Mesa opens by name.
    let mut run = paths(&["/usr", "/bin", "/lib", "/lib64", "/nix/store", "/gnu/store"]);
    // Mesa's settings, the loader's cache, and what devices are found by.
    let read = paths(&["/etc", "/proc", "/sys", "/dev/urandom", "/dev/zero"]);
    let mut write = paths(&["/dev/null"]);
    write.push(directory.to_owned());
    let (starts, on_the_bus) = match &device.device {
        DeviceChoice::Process(program) => {
            run.extend(program.clone());
            (true, false)
        }
        DeviceChoice::Socket(_) => (false, false),
        DeviceChoice::Pci(_) => (false, true),
        DeviceChoice::Auto => (true, true),
    };
    if starts {
        write.extend(shader_cache());
        // The GPU that it renders with.
        write.extend(device.render_node.iter().flat_map(|_| gpus()));
        write.extend(device.render_node.clone());
    }
    if on_the_bus {
        // To borrow a device from the kernel and to give it back: VFIO, and the drivers' names in sysfs.
        write.extend(paths(&["/dev/vfio", "/sys/bus/pci", "/sys/devices"]));
    }
    Files { run, read, write }
}

/// What device processes may keep for the next ones. Without it they only take longer to draw their first frames.
fn shader_cache() -> Option<PathBuf> {
    let cache = DeviceProgram::shader_cache()?;
    match DirBuilder::new().recursive(true).mode(0o700).create(&cache) {
        Ok(()) => Some(cache),
        Err(error) => {
            tracing::warn!(%error, cache = %cache.display(), "no place to keep compiled shaders");
            None
        }
    }
}

/// Device files by which GPUs are driven: a render node alone is not enough for every driver.
fn gpus() -> Vec<PathBuf> {
    let of_a_gpu = |name: &str| name == "dri" || name == "kfd" || name.starts_with("nvidia");
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    entries.filter(|it| it.file_name().to_str().is_some_and(of_a_gpu)).map(|it| it.path()).collect()
}
