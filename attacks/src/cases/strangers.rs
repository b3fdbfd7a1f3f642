//! Another user of the system at every door of the daemon. Only root can become one.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use virgld_protocol::channel::{CARD, RENDER};

use super::{Case, must, must_refuse};
use crate::picture::Picture;
use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[("stranger-at-every-door", stranger)];

/// What is the owner's alone, whoever may open the nodes: what is on the screens, all clients' state, and faults.
const OWNERS: [&str; 3] = ["picture", "control", "faults"];
/// The number of `nobody`.
const NOBODY: u32 = 65534;

fn stranger(door: &Door, victim: &mut Victim) -> Outcome<String> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failed::NotTried("only root can become another user"));
    }
    // As soon as the policy names anybody, all users may enter the directory.
    let opened = metadata(&door.0).is_ok_and(|it| it.mode() & 0o011 == 0o011);
    let texels = victim.texels.clone();
    // Who a thread is, is its own: the rest of the program stays root.
    let tried = std::thread::scope(|scope| scope.spawn(|| as_nobody(door, opened, &texels)).join());
    tried.map_err(|_| Failed::Setup("the stranger panicked".into()))??;
    victim.check()?;
    Ok(match opened {
        true => {
            "the node that the policy gives them, and nothing else: not the screens, nor the daemon's state"
        }
        false => "they cannot even enter the directory",
    }
    .into())
}

fn as_nobody(door: &Door, opened: bool, texels: &[u8]) -> Outcome<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    for name in OWNERS {
        must_refuse(name, dial(door, name, SocketType::STREAM), Errno::ACCESS)?;
    }
    if !opened {
        for node in [CARD, RENDER] {
            must_refuse(node, dial(door, node, SocketType::SEQPACKET), Errno::ACCESS)?;
        }
        return must("a list of the directory", std::fs::read_dir(&door.0).is_err());
    }
    must_refuse(CARD, door.open_card().map(drop), Errno::ACCESS)?;
    // What they may do, works: otherwise the refusals above would show nothing.
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    own.upload(&mut client, texels)?;
    must("their own texture", own.download(&mut client)? == texels)
}

fn dial(door: &Door, name: &str, kind: SocketType) -> Outcome<()> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let address = SocketAddrUnix::new(door.0.join(name).as_path())?;
    connect(&socket, &address).map_err(|errno| Failed::Errno(errno.raw_os_error()))
}
