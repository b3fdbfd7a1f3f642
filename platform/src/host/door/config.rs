//! What a door is made with, and what can go wrong when it is.

use std::io;
use std::path::PathBuf;

use virgld_runtime::io::ReadySink;

/// Makes a sink that sends [`virgld_runtime::io::Ready`] to the door's own mailbox.
pub type Sinks = Box<dyn Fn() -> ReadySink + Send>;

/// How a door is to be.
#[derive(Debug, Clone)]
pub struct DoorConfig {
    /// The runtime directory. It is made if it is missing, for its owner alone; clients name it by `VIRGLD_DIR`.
    pub directory: PathBuf,
    /// What clients may use.
    pub limits: Limits,
}

impl DoorConfig {
    /// The usual limits.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), limits: Limits::default() }
    }
}

/// What clients may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open files of one user.
    pub files_per_user: usize,
    /// Channels (processes) of one file.
    pub channels_per_file: usize,
    /// Asynchronous calls of one file that have not retired.
    pub calls_in_flight: usize,
    /// Bytes of their command streams.
    pub bytes_in_flight: usize,
    /// Fences in advance of one file that no call has named yet.
    pub fences_in_stock: usize,
    /// Foreign fences that are watched for one file.
    pub foreign_fences: usize,
    /// Records that a channel may have taken before it is another's turn.
    pub records_per_turn: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files_per_user: 256,
            channels_per_file: 16,
            calls_in_flight: 64,
            bytes_in_flight: 4 << 20,
            fences_in_stock: 64,
            foreign_fences: 64,
            records_per_turn: 32,
        }
    }
}

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Another daemon has the directory.
    #[error("{} is in use by another virgld that runs now; stop that one, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// Somebody else could put their own sockets in the place of ours.
    #[error("{} belongs to user {owner} and not to you; choose another directory (--runtime-dir, VIRGLD_DIR)", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// Others could use the sockets, or put their own in the place of ours.
    #[error("{path} is open to others (mode {mode:o}); `chmod 700 {path}`, or choose another directory (--runtime-dir, VIRGLD_DIR)", path = path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The process cannot be protected from what clients may cause.
    #[error("cannot handle SIGIO: {0}")]
    Signal(io::Error),
    /// A socket's path must fit 107 bytes.
    #[error("{} is too long for a socket's path (107 bytes); choose a shorter directory", .0.display())]
    PathTooLong(PathBuf),
    /// The directory, or something in it, cannot be made.
    #[error("cannot {doing} {}: {source}", path.display())]
    Path {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The reactor refused a listening socket.
    #[error("cannot watch the listening sockets: {0}; check the limit of open files (ulimit -n)")]
    Watch(io::Error),
}
