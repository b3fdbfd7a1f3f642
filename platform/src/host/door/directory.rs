//! The runtime directory: a lock, two listening sockets, and the tree that stands in for /dev and /sys.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use virgld_protocol::channel::{CARD, RENDER};
use virgld_protocol::message::scheme::Node;

use super::config::DoorError;
use super::sysfs;

/// The directory, ours for as long as this lives.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes `path`: makes it if it is missing, and clears what an earlier daemon left.
    pub(super) fn take(path: &Path) -> Result<Self, DoorError> {
        let fail = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| DoorError::Path { doing, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail("make", path))?;
        // Clients know a file of ours by the path that the kernel has for its socket: it must have no links in it.
        let path = fs::canonicalize(path).map_err(fail("find", path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(fail("make", &lock_path))?;
        // A lock and not a question to the socket: two daemons that start at once must not both win.
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| DoorError::InUse(path.clone()))?;
        let tree = path.join("sysroot");
        sysfs::plant(&tree).map_err(fail("fill", &tree))?;
        Ok(Self { path, _lock: lock })
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

const BACKLOG: i32 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::door::tests_support::Scratch;

    #[test]
    fn a_directory_has_one_owner_and_stale_sockets_are_no_obstacle() {
        let scratch = Scratch::new("directory");
        let first = Directory::take(scratch.path()).unwrap();
        let socket = first.listen(Node::Render).unwrap();
        assert!(matches!(Directory::take(scratch.path()), Err(DoorError::InUse(_))));
        drop(socket);
        fs::write(scratch.path().join("card0"), "stale").unwrap();
        drop(first);
        let second = Directory::take(scratch.path()).unwrap();
        assert!(second.listen(Node::Card).is_ok());
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_with_advice() {
        let scratch = Scratch::new("long");
        let long = scratch.path().join("x".repeat(100));
        let error = Directory::take(&long).unwrap().listen(Node::Render).err().unwrap();
        assert!(error.to_string().contains("shorter directory"), "{error}");
    }
}
