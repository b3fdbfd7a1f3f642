//! DRM files: opening them, and telling them from other descriptors in any process.

use std::os::fd::RawFd;

use virgld_protocol::channel::{CARD, MAGIC, RENDER, VERSION, Verdict};
use virgld_protocol::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use crate::errno::Outcome;
use crate::patience::{self, Patience};
use crate::settings::settings;
use crate::{process, socket, sys};

/// One of the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// `card0`.
    Card,
    /// `renderD128`.
    Render,
}

impl Node {
    /// Its name, in /dev/dri and in the runtime directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Card => CARD,
            Self::Render => RENDER,
        }
    }

    /// Its minor device number.
    pub(crate) fn minor(self) -> u32 {
        match self {
            Self::Card => 0,
            Self::Render => 128,
        }
    }
}

/// Major device number of DRM.
pub(crate) const MAJOR: u32 = 226;

/// Opens a node as `open` would with `flags`.
pub(crate) fn open(node: Node, flags: i32) -> Outcome<RawFd> {
    process::sweep();
    let path = settings().and_then(|settings| settings.file(node.name())).ok_or(Errno::ENODEV)?;
    let mut patience = Patience::begin(0);
    let mut wait = || if patience.lasts() { Ok(()) } else { Err(Errno(libc::ETIMEDOUT)) };
    let connected = socket::connect(&path, flags & libc::O_CLOEXEC != 0, &mut wait);
    let admitted = connected.and_then(|fd| match verdict(fd, &mut wait) {
        Ok(()) => Ok(fd),
        Err(errno) => {
            sys::close(fd);
            Err(errno)
        }
    });
    let fd = admitted.map_err(|errno| match errno.0 {
        // As of a device that was unplugged.
        libc::ENOENT | libc::ECONNREFUSED => Errno::ENODEV,
        libc::ETIMEDOUT => {
            patience::tell(node.name(), None);
            Errno::ENODEV
        }
        _ => errno,
    })?;
    if flags & libc::O_NONBLOCK != 0 {
        let status = sys::status_flags(fd)?;
        sys::set_status_flags(fd, status | libc::O_NONBLOCK)?;
    }
    Ok(fd)
}

/// Waits for the daemon's word on a new connection.
fn verdict(fd: RawFd, wait: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let mut verdict = Verdict::new_zeroed();
    let bytes = socket::await_packet(fd, verdict.as_mut_bytes(), wait)?.bytes;
    match verdict {
        // The daemon ended, or is out of descriptors.
        _ if bytes == 0 => Err(Errno::ENODEV),
        Verdict { magic: MAGIC, version: VERSION, errno: 0 } if bytes == size_of::<Verdict>() => Ok(()),
        Verdict { magic: MAGIC, version: VERSION, errno } => Err(Errno(errno)),
        _ => Err(Errno::EIO),
    }
}

/// Which node `fd`, a socket, is connected to.
pub(crate) fn recognise(fd: RawFd) -> Option<Node> {
    let path = socket::peer_path(fd)?;
    let name = path.strip_prefix(settings()?.directory.as_slice())?.strip_prefix(b"/")?;
    [Node::Card, Node::Render].into_iter().find(|node| node.name().as_bytes() == name)
}
