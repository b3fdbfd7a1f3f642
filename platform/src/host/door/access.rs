//! Who may open a node: decided by what the kernel says of the connection's other end, never by what that says.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use virgld_protocol::message::scheme::{Credentials, Node};

/// Who may open one node, besides root and the user that runs the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Users.
    pub users: Vec<u32>,
    /// Groups: primary or supplementary.
    pub groups: Vec<u32>,
}

/// Who may open which node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `card0`.
    pub card: Admission,
    /// `renderD128`.
    pub render: Admission,
}

impl Access {
    /// Whether nobody but root and the daemon's own user may open anything.
    pub fn is_private(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `peer` may open `node`.
    pub(super) fn allows(&self, node: Node, peer: &Peer) -> bool {
        let admission = match node {
            Node::Card => &self.card,
            Node::Render => &self.render,
        };
        let uid = peer.credentials.uid;
        uid == 0
            || uid == geteuid().as_raw()
            || admission.users.contains(&uid)
            || admission.groups.iter().any(|group| peer.groups.contains(group))
    }
}

/// Who is at the other end of a connection.
pub(super) struct Peer {
    pub(super) credentials: Credentials,
    /// All groups of the process, as they were when it connected.
    groups: Vec<u32>,
}

impl Peer {
    /// Asks the kernel.
    pub(super) fn of(connection: impl AsFd) -> Result<Self, Errno> {
        let peer = socket_peercred(&connection)?;
        let credentials = Credentials {
            pid: peer.pid.as_raw_pid().unsigned_abs(),
            uid: peer.uid.as_raw(),
            gid: peer.gid.as_raw(),
        };
        let mut groups = supplementary_groups(connection)?;
        groups.push(credentials.gid);
        Ok(Self { credentials, groups })
    }
}

fn supplementary_groups(connection: impl AsFd) -> Result<Vec<u32>, Errno> {
    let mut groups = vec![0_u32; FEW_GROUPS];
    loop {
        let mut length = libc::socklen_t::try_from(size_of_val(&*groups)).map_err(|_| Errno::INVAL)?;
        // SAFETY: the room is ours and its size in bytes is told; the kernel writes whole numbers into it.
        let answer = unsafe {
            libc::getsockopt(
                connection.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if answer == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        match std::io::Error::last_os_error().raw_os_error().map(Errno::from_raw_os_error) {
            // It says how many there are.
            Some(Errno::RANGE) if count > groups.len() => groups.resize(count, 0),
            error => return Err(error.unwrap_or(Errno::INVAL)),
        }
    }
}

const FEW_GROUPS: usize = 32;

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        let gid = groups.first().copied().unwrap_or(70_000);
        Peer { credentials: Credentials { pid: 1, uid, gid }, groups: groups.to_vec() }
    }

    #[test]
    fn only_who_is_named_may_open_a_node_and_that_node_alone() {
        let stranger = geteuid().as_raw() + 70_001;
        let mut access = Access::default();
        assert!(access.is_private());
        for node in [Node::Card, Node::Render] {
            assert!(access.allows(node, &peer(geteuid().as_raw(), &[])));
            assert!(access.allows(node, &peer(0, &[])));
            assert!(!access.allows(node, &peer(stranger, &[70_002])));
        }
        access.render.users.push(stranger);
        access.card.groups.push(70_002);
        assert!(access.allows(Node::Render, &peer(stranger, &[])) && !access.is_private());
        assert!(!access.allows(Node::Card, &peer(stranger, &[])));
        assert!(access.allows(Node::Card, &peer(stranger, &[70_003, 70_002])), "a supplementary group");
    }

    #[test]
    fn the_kernel_tells_who_connects() {
        let kind = SocketType::SEQPACKET;
        let (one, _other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.credentials.uid, geteuid().as_raw());
        assert_eq!(peer.credentials.pid, std::process::id());
        assert!(peer.groups.contains(&peer.credentials.gid));
    }
}
