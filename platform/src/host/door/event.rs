//! Events: packets on the very connection that the file is, so that a program's `poll` and `read` need no help.
//!
//! Linux keeps 4096 bytes of events for a file and promises no more: a call that asks for one beyond that fails with
//! ENOMEM. Here the unread ones are in the connection's buffer, which the kernel charges with the memory that a packet
//! takes, not with its bytes. A connection counts as writable while unread packets take no more than a quarter of its
//! buffer; so the buffer is made such that a quarter holds as many events as Linux would keep, and the rest is for
//! those that were promised before.

use std::os::fd::OwnedFd;
use std::slice;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tracing::warn;
use virgld_protocol::ids::FileId;

use super::actor::Door;
use super::packet;

impl Door {
    /// Sends an event. One that finds the buffer full is lost: nobody waits for a client that does not read.
    pub(super) fn send_event(&mut self, id: FileId, bytes: &[u8]) {
        let Some(file) = self.files.get(&id) else { return };
        if let Err(error) = packet::send(&*file.socket, bytes, &[])
            && self.may_log_of(id)
        {
            warn!(file = id.0, %error, "an event was lost, because the client does not read its events");
        }
    }

    /// Whether the file may ask for another event: it has not too many that it did not read.
    pub(super) fn has_room_for_event(&self, id: FileId) -> bool {
        self.files.get(&id).is_none_or(|file| has_room(&file.socket))
    }
}

/// Sees to it that [`has_room`] means what it says.
pub(super) fn limit_unread(connection: &OwnedFd) {
    // The kernel doubles the figure. One that it does not grant makes the limit a little smaller.
    let _ = set_socket_send_buffer_size(connection, EVENTS * CHARGE * 4 / 2);
}

fn has_room(connection: &OwnedFd) -> bool {
    let mut entry = PollFd::new(connection, PollFlags::OUT);
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Where polling fails the connection is at its end, and so is whatever was asked.
    poll(slice::from_mut(&mut entry), Some(&now)).is_err() || entry.revents().contains(PollFlags::OUT)
}

/// Events of 32 bytes in 4096.
const EVENTS: usize = 128;
/// What the kernel charges for a packet of one event, on 64-bit machines.
const CHARGE: usize = 768;

#[cfg(test)]
mod tests {
    use rustix::io::read;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn room_is_used_up_by_what_is_not_read_and_comes_back() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        limit_unread(&ours);
        let fill = || {
            let sent = (0..10 * EVENTS).take_while(|_| has_room(&ours));
            sent.map(|_| packet::send(&ours, &[7; 32], &[]).unwrap()).count()
        };
        let first = fill();
        assert!((EVENTS / 2..=2 * EVENTS).contains(&first), "{first} events");
        for _ in 0..EVENTS / 2 {
            packet::send(&ours, &[8; 32], &[]).expect("those promised before find room");
        }
        let mut event = [0; 1024];
        let drain = |event: &mut [u8]| (0..).take_while(|_| read(&theirs, &mut *event) == Ok(32)).count();
        assert_eq!(drain(&mut event), first + EVENTS / 2);
        assert_eq!(fill(), first, "as much as before");
    }
}
