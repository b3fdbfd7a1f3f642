//! A channel: one process's way into one file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use virgld_protocol::channel::{Attachment, Welcome};
use virgld_protocol::ids::FileId;
use zerocopy::{FromZeros, IntoBytes};

use super::config::Sinks;
use super::packet::{self, Packet};
use super::record::Broken;
use super::ring::Ring;
use super::token::Source;
use crate::host::reactor::{Interest, Registrar, Registration, Trigger};

/// One open channel.
pub(super) struct Channel {
    /// The file it belongs to.
    pub(super) file: FileId,
    /// Its memory.
    pub(super) ring: Ring,
    /// Whether the door looks at its ring.
    pub(super) attention: Attention,
    /// Its process is gone: once its ring is empty, so is it.
    pub(super) ending: bool,
    socket: Arc<OwnedFd>,
    _watches: [Registration; 2],
}

/// Whether the door looks at a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attention {
    /// No: the client rings the doorbell.
    Idle,
    /// In every turn.
    Active,
    /// Not before something retires.
    Starved,
}

impl Channel {
    /// Opens the channel `id` for whoever holds the other end of `socket`, and welcomes them. Nothing comes of it
    /// where the system has no room.
    pub(super) fn open(
        id: u64,
        file: FileId,
        socket: OwnedFd,
        welcome: &Welcome,
        registrar: &Registrar,
        sinks: &Sinks,
    ) -> Option<Self> {
        let ring = Ring::new().ok()?;
        let doorbell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?);
        let socket = Arc::new(socket);
        let watch = |source: Arc<OwnedFd>, token: Source| {
            registrar.register(source, Interest::Read, Trigger::Edge, token.pack(), sinks()).ok()
        };
        let watches =
            [watch(socket.clone(), Source::Channel(id))?, watch(doorbell.clone(), Source::Doorbell(id))?];
        packet::send(&*socket, welcome.as_bytes(), &[ring.memory().fd(), doorbell.as_fd()]).ok()?;
        let attention = Attention::Idle;
        Some(Self { file, ring, attention, ending: false, socket, _watches: watches })
    }

    /// Notices the end of its process. What was sent before that stays in the socket until its record is taken: a
    /// descriptor that no record asks for is never the daemon's.
    pub(super) fn notice_end(&mut self) {
        let mut entry = PollFd::new(&*self.socket, PollFlags::empty());
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Where polling fails nothing more can come either.
        self.ending |= poll(slice::from_mut(&mut entry), Some(&now)).is_err()
            || entry.revents().intersects(PollFlags::HUP | PollFlags::ERR);
    }

    /// The descriptors of the record `serial`: the next packet on the socket, which was sent before the record was
    /// written. There are fewer if the daemon may not have more.
    pub(super) fn descriptors(&mut self, serial: u64, count: u32) -> Result<Vec<OwnedFd>, Broken> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut attachment = Attachment::new_zeroed();
        match packet::receive(&*self.socket, attachment.as_mut_bytes()) {
            Packet::Data { bytes, descriptors, .. }
                if bytes == size_of::<Attachment>()
                    && attachment.serial == serial
                    && descriptors.len() <= count as usize =>
            {
                Ok(descriptors)
            }
            _ => Err(Broken::Descriptors),
        }
    }

    /// Passes descriptors to the client, for the answer to the record `serial`.
    pub(super) fn pass(&self, serial: u64, descriptors: &[BorrowedFd<'_>]) -> Result<(), rustix::io::Errno> {
        packet::send(&*self.socket, Attachment { serial }.as_bytes(), descriptors)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::host::reactor::Reactor;

    fn channel() -> (Channel, OwnedFd, Reactor) {
        let (flags, kind) = (SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let reactor = Reactor::new().unwrap();
        let sinks: Sinks = Box::new(|| Box::new(|_| true));
        let welcome = Welcome::new_zeroed();
        let channel = Channel::open(1, FileId(1), ours, &welcome, &reactor.registrar(), &sinks).unwrap();
        (channel, theirs, reactor)
    }

    fn send(theirs: &OwnedFd, serial: u64, count: usize) -> Result<(), Errno> {
        let given = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        packet::send(theirs, Attachment { serial }.as_bytes(), &vec![given.as_fd(); count])
    }

    #[test]
    fn a_record_gets_the_descriptors_that_were_sent_for_it_and_no_others() {
        let (mut channel, theirs, _reactor) = channel();
        for (serial, sent, count, given) in
            [(1, 1, 1, Some(1)), (2, 2, 2, Some(2)), (3, 1, 2, Some(1)), (4, 2, 1, None)]
        {
            send(&theirs, serial, sent).unwrap();
            let got = channel.descriptors(serial, count).ok().map(|got| got.len());
            assert_eq!(got, given, "{sent} for a record of {count}");
        }
        send(&theirs, 7, 1).unwrap();
        assert!(channel.descriptors(6, 1).is_err(), "another record's");
        assert!(channel.descriptors(8, 1).is_err(), "none was sent");
        assert!(channel.descriptors(9, 0).unwrap().is_empty());
    }

    #[test]
    fn a_flood_of_descriptors_that_no_record_asks_for_does_not_hide_the_end() {
        let (mut channel, theirs, _reactor) = channel();
        let sent = (0..1000).take_while(|serial| send(&theirs, *serial, 16).is_ok()).count();
        assert!(sent > 64, "{sent}");
        channel.notice_end();
        assert!(!channel.ending);
        drop(theirs);
        channel.notice_end();
        assert!(channel.ending);
    }
}
