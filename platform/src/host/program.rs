//! The device programs that can be started, where they are found, and what is said when they are not.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Which program to start, and how.
#[derive(Debug, Clone)]
pub struct DeviceProgram {
    /// The program: a path, or a name to be looked for in /usr/lib/qemu, /usr/libexec and PATH.
    pub program: PathBuf,
    /// Its arguments, but for the one that names the socket.
    pub arguments: Vec<OsString>,
    /// How it gets its socket.
    pub socket: DeviceSocket,
    /// How many threads it draws in software with beside its own; if not said, what [`RASTER_THREADS`] says.
    pub raster_threads: Option<u8>,
    /// The package that holds it, for the message when it is missing.
    pub package: &'static str,
}

/// How a device process gets its vhost-user socket.
#[derive(Debug, Clone)]
pub enum DeviceSocket {
    /// It inherits one end of a pair, as descriptor 0, named by `--fd=0`. No other process can connect.
    Inherited,
    /// It listens at this path, named by `--socket-path`, for one client. The directory should be ours alone.
    Listening(PathBuf),
}

/// The variable by which llvmpipe knows how many threads to draw with beside its caller's (Mesa, "Environment Variables");
/// without it there is one for each processor.
pub const RASTER_THREADS: &str = "LP_NUM_THREADS";

impl DeviceProgram {
    /// QEMU's vhost-user-gpu with 3D, on the GPU of `render_node`, or on llvmpipe where there is none.
    pub fn qemu(render_node: Option<&Path>) -> Self {
        let mut node = OsString::from("--render-node=");
        node.push(render_node.unwrap_or(Path::new("/dev/null")));
        Self {
            program: "vhost-user-gpu".into(),
            arguments: vec!["--virgl".into(), node],
            socket: DeviceSocket::Inherited,
            raster_threads: None,
            package: "qemu-system-common libvirglrenderer1 libgl1-mesa-dri libegl1 libgbm1",
        }
    }

    /// The same without 3D: it draws nothing, and sends what is to be shown on its display socket.
    pub fn qemu_without_3d() -> Self {
        Self { arguments: Vec::new(), ..Self::qemu(None) }
    }

    /// rust-vmm's vhost-device-gpu with virglrenderer, listening at `socket`.
    pub fn rust_vmm(socket: PathBuf) -> Self {
        Self {
            program: "vhost-device-gpu".into(),
            arguments: vec!["--gpu-mode=virglrenderer".into()],
            socket: DeviceSocket::Listening(socket),
            raster_threads: None,
            package: "libvirglrenderer1 (the program itself: cargo install vhost-device-gpu)",
        }
    }

    /// Where Mesa in device processes keeps compiled shaders: apart from what programs of the same user load, since it
    /// is written by who executes other people's commands.
    pub fn shader_cache() -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let caches = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        set("MESA_SHADER_CACHE_DIR").or_else(|| Some(caches()?.join("virgld")))
    }

    /// Where the program is.
    pub(super) fn find(&self) -> Result<PathBuf, StartError> {
        if self.program.components().count() > 1 {
            return Some(self.program.clone()).filter(|path| path.is_file()).ok_or_else(|| self.missing());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let known = ["/usr/lib/qemu", "/usr/libexec"].map(PathBuf::from).into_iter();
        let mut candidates =
            known.chain(std::env::split_paths(&path)).map(|folder| folder.join(&self.program));
        candidates.find(|candidate| candidate.is_file()).ok_or_else(|| self.missing())
    }

    fn missing(&self) -> StartError {
        StartError::Missing { program: self.program.clone(), package: self.package }
    }
}

/// A device process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program.
    #[error(
        "the device program {} is not in /usr/lib/qemu, /usr/libexec or PATH; install it: apt install {package}",
        program.display()
    )]
    Missing {
        /// The program.
        program: PathBuf,
        /// The packages it needs.
        package: &'static str,
    },
    /// It could not be run.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not open its socket.
    #[error(
        "{} {what} before it listened at {}; its own output, in our log, says why",
        program.display(), path.display()
    )]
    NotListening {
        /// The program.
        program: PathBuf,
        /// The socket.
        path: PathBuf,
        /// What it did instead.
        what: String,
    },
    /// The system failed us.
    #[error("cannot {doing}: {source}; check the limits of open files and processes")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
