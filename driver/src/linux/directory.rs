//! Where a daemon and its programs meet.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::command_line::Meeting;

/// The socket of the daemon's owner, within the directory.
pub(crate) const CONTROL: &str = "control";
/// The socket that makes things go wrong.
pub(crate) const FAULTS: &str = "faults";
/// The socket that shows what is on the screens.
pub(crate) const PICTURE: &str = "picture";

impl Meeting {
    /// The one at `directory`.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { runtime_dir: Some(directory.to_owned()) }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.runtime_dir.clone().unwrap_or_else(|| match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(base) if !base.is_empty() => PathBuf::from(base).join("virgld"),
            _ => PathBuf::from(format!("/tmp/virgld-{}", rustix::process::getuid().as_raw())),
        })
    }

    /// A connection to the control socket of the daemon that serves there, if one does.
    pub(crate) fn daemon(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(self.directory().join(CONTROL))
    }
}
