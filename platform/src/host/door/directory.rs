//! The runtime directory: a lock, two listening sockets, and the tree that stands in for /dev and /sys.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::geteuid;
use virgld_protocol::channel::{CARD, HOTPLUG, RENDER};
use virgld_protocol::message::scheme::Node;

use super::config::DoorError;
use super::sysfs;

/// The directory, ours for as long as this lives.
pub(super) struct Directory {
    path: PathBuf,
    public: bool,
    /// Written whenever a display changes, for whoever watches it.
    hotplug: File,
    /// How often a display has changed.
    changes: u64,
    _lock: File,
}

impl Directory {
    /// Takes `path`: makes it if it is missing, and clears what an earlier daemon left. Others may enter it if it is
    /// `public`, and connect: who they are is asked then.
    pub(super) fn take(path: &Path, public: bool) -> Result<Self, DoorError> {
        let path = if public { public_directory(path)? } else { private_directory(path)? };
        let lock_path = path.join("lock");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let lock = options.open(&lock_path).map_err(fail("make", &lock_path))?;
        // A lock and not a question to the socket: two daemons that start at once must not both win.
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| DoorError::InUse(path.clone()))?;
        let tree = path.join("sysroot");
        sysfs::plant(&tree).map_err(fail("fill", &tree))?;
        // Not made anew: who watched it under an earlier daemon goes on doing so.
        let hotplug_path = path.join(HOTPLUG);
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o644);
        let hotplug = options.open(&hotplug_path).map_err(fail("make", &hotplug_path))?;
        Ok(Self { path, public, hotplug, changes: 0, _lock: lock })
    }

    /// A display has changed: whoever watches for that is told.
    pub(super) fn tell_hotplug(&mut self) {
        self.changes += 1;
        let told = format!("{}\n", self.changes);
        if let Err(error) = self.hotplug.write_all_at(told.as_bytes(), 0) {
            tracing::warn!(%error, "clients are not told that a display has changed; they see it when they ask");
        }
    }

    /// Listens for clients of `node`.
    pub(super) fn listen(&self, node: Node) -> Result<OwnedFd, DoorError> {
        let path = self.socket_path(node);
        let fail = |doing| {
            let path = path.clone();
            move |source: rustix::io::Errno| DoorError::Path { doing, path, source: source.into() }
        };
        let address = SocketAddrUnix::new(&path).map_err(|_| DoorError::PathTooLong(path.clone()))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DoorError::Path { doing: "remove", path, source: error });
            }
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(fail("make a socket for"))?;
        bind(&socket, &address).map_err(fail("bind"))?;
        if self.public {
            let everybody = Permissions::from_mode(0o666);
            fs::set_permissions(&path, everybody).map_err(self::fail("open", &path))?;
        }
        listen(&socket, BACKLOG).map_err(fail("listen at"))?;
        Ok(socket)
    }

    fn socket_path(&self, node: Node) -> PathBuf {
        self.path.join(match node {
            Node::Card => CARD,
            Node::Render => RENDER,
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // So that clients are told at once that there is no device. What is left is overwritten at the next start.
        for node in [Node::Card, Node::Render] {
            let _ = fs::remove_file(self.socket_path(node));
        }
    }
}

/// Makes `path` if it is missing, and sees to it that nobody else can do anything there. Returns it without links:
/// clients know a file of ours by the path that the kernel has for its socket.
pub fn private_directory(path: &Path) -> Result<PathBuf, DoorError> {
    directory_closed_to(path, 0o077)
}

/// The same, but for others who may enter, as a policy has them: they see what is there and change nothing.
pub fn own_directory(path: &Path) -> Result<PathBuf, DoorError> {
    directory_closed_to(path, 0o022)
}

/// Has others enter.
fn public_directory(path: &Path) -> Result<PathBuf, DoorError> {
    let path = own_directory(path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o711)).map_err(fail("open", &path))?;
    Ok(path)
}

/// Makes `path` if it is missing, and refuses one that others may use in one of the `forbidden` ways.
fn directory_closed_to(path: &Path, forbidden: u32) -> Result<PathBuf, DoorError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail("make", path))?;
    // A link of somebody else's that leads to a directory of ours is not ours.
    let named = fs::symlink_metadata(path).map_err(fail("find", path))?;
    let path = fs::canonicalize(path).map_err(fail("find", path))?;
    let meant = fs::metadata(&path).map_err(fail("find", &path))?;
    let us = geteuid().as_raw();
    if let Some(owner) = [named.uid(), meant.uid()].into_iter().find(|owner| *owner != us) {
        return Err(DoorError::NotOurs { path, owner });
    }
    let mode = meant.mode() & 0o7777;
    if mode & forbidden != 0 { Err(DoorError::Open { path, mode }) } else { Ok(path) }
}

fn fail(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DoorError + use<> {
    let path = path.to_owned();
    move |source| DoorError::Path { doing, path, source }
}

const BACKLOG: i32 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::door::tests_support::Scratch;

    #[test]
    fn a_directory_has_one_owner_and_stale_sockets_are_no_obstacle() {
        let scratch = Scratch::new("directory");
        let first = Directory::take(scratch.path(), false).unwrap();
        let socket = first.listen(Node::Render).unwrap();
        assert!(matches!(Directory::take(scratch.path(), false), Err(DoorError::InUse(_))));
        drop(socket);
        fs::write(scratch.path().join("card0"), "stale").unwrap();
        drop(first);
        let second = Directory::take(scratch.path(), false).unwrap();
        assert!(second.listen(Node::Card).is_ok());
    }

    #[test]
    fn a_directory_that_others_can_use_is_refused_with_advice() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let scratch = Scratch::new("open");
        let inner = scratch.path().join("new");
        assert_eq!(fs::metadata(private_directory(&inner).unwrap()).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o750)).unwrap();
        let error = Directory::take(&inner, false).err().unwrap().to_string();
        assert!(error.contains("mode 750") && error.contains("chmod 700 /"), "{error}");
        for foreign in ["/proc/1", "/"] {
            let link = scratch.path().join("link");
            symlink(foreign, &link).unwrap();
            assert!(private_directory(&link).is_err(), "{foreign}");
            fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn a_directory_for_others_can_be_entered_and_not_changed() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("public");
        let inner = scratch.path().join("new");
        let directory = Directory::take(&inner, true).unwrap();
        let _socket = directory.listen(Node::Render).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join(RENDER))), (0o711, 0o666));
        assert!(own_directory(&inner).is_ok() && private_directory(&inner).is_err());
        drop(directory);
        fs::set_permissions(&inner, Permissions::from_mode(0o733)).unwrap();
        assert!(own_directory(&inner).is_err());
        assert!(matches!(Directory::take(&inner, true), Err(DoorError::Open { mode: 0o733, .. })));
    }

    #[test]
    fn a_directory_of_another_user_is_refused_with_advice() {
        use std::os::unix::fs::chown;
        let scratch = Scratch::new("foreign");
        // Only root can give a directory away.
        if chown(scratch.path(), Some(12345), None).is_ok() {
            let error = Directory::take(scratch.path(), false).err().unwrap().to_string();
            assert!(error.contains("user 12345") && error.contains("--runtime-dir"), "{error}");
        }
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_with_advice() {
        let scratch = Scratch::new("long");
        let long = scratch.path().join("x".repeat(100));
        let error = Directory::take(&long, false).unwrap().listen(Node::Render).err().unwrap();
        assert!(error.to_string().contains("shorter directory"), "{error}");
    }
}
