//! What a door is made with, and what can go wrong when it is.

use std::io;
use std::path::PathBuf;

use virgld_runtime::io::ReadySink;

use super::access::Access;

/// Makes a sink that sends [`virgld_runtime::io::Ready`] to the door's own mailbox.
pub type Sinks = Box<dyn Fn() -> ReadySink + Send>;

/// How a door is to be.
#[derive(Debug, Clone)]
pub struct DoorConfig {
    /// The runtime directory. It is made if it is missing, for its owner alone; clients name it by `VIRGLD_DIR`.
    pub directory: PathBuf,
    /// Who may open which node. Unless that is nobody but the daemon's own user, the directory can be entered by all.
    pub access: Access,
    /// What clients may use.
    pub limits: Limits,
}

impl DoorConfig {
    /// The usual limits.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), access: Access::default(), limits: Limits::default() }
    }
}

/// What clients may use. Who wants more of what the daemon works off waits for it; who wants more of the rest is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What one open file may use.
    pub file: FileLimits,
    /// What all files of one user may use together.
    pub user: UserLimits,
    /// Records that a channel may have taken before it is another's turn.
    pub records_per_turn: usize,
}

/// What one open file may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// Processes that use it: each has a channel.
    pub processes: usize,
    /// Asynchronous calls that have not retired.
    pub calls_in_flight: usize,
    /// Of these, while other files have work too: the device takes commands in the order in which they come, so this is
    /// how many of one file's another's must wait for.
    pub calls_beside_others: usize,
    /// Bytes of their command streams.
    pub bytes_in_flight: usize,
    /// Of these, while other files have work too: a call with more must be the file's only one under way.
    pub bytes_beside_others: usize,
    /// Fences in advance that no call has named yet.
    pub fences_in_stock: usize,
    /// Buffers in advance that no program has asked for yet; the client library keeps to it.
    pub buffers_in_stock: u32,
    /// Bytes of memory behind these.
    pub bytes_in_stock: u32,
    /// Foreign fences that are watched for it.
    pub foreign_fences: usize,
    /// Calls in a second; 0 for as many as there is time for.
    pub calls_per_second: u32,
}

/// What all files of one user may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimits {
    /// Open files.
    pub files: usize,
    /// Asynchronous calls that have not retired.
    pub calls_in_flight: usize,
    /// Bytes of their command streams.
    pub bytes_in_flight: usize,
    /// Fences in advance that have not signalled: each costs the daemon a descriptor.
    pub fences: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let file = FileLimits {
            processes: 16,
            calls_in_flight: 64,
            calls_beside_others: 32,
            bytes_in_flight: 4 << 20,
            bytes_beside_others: 64 << 10,
            fences_in_stock: 64,
            buffers_in_stock: 32,
            bytes_in_stock: 1 << 20,
            foreign_fences: 64,
            calls_per_second: 0,
        };
        let user = UserLimits { files: 256, calls_in_flight: 1024, bytes_in_flight: 16 << 20, fences: 4096 };
        Self { file, user, records_per_turn: 32 }
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
