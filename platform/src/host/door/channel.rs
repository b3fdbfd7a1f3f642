//! A channel: one process's way into one file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use virgld_protocol::channel::{Attachment, Welcome};
use virgld_protocol::ids::FileId;
use virgld_runtime::Time;
use zerocopy::{FromZeros, IntoBytes};

use super::access::Peer;
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
    /// For how many turns it has had nothing.
    pub(super) quiet: u16,
    /// Since when its process is gone: once its ring is empty, so is it.
    pub(super) ending: Option<Time>,
    socket: Arc<OwnedFd>,
    _watches: [Registration; 2],
    /// Absent where the kernel does not tell which process it is.
    _process: Option<Registration>,
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
        let process = match maker_of(&socket)? {
            Some(process) => Some(watch(Arc::new(process), Source::Process(id))?),
            None => None,
        };
        packet::send(&*socket, welcome.as_bytes(), &[ring.memory().fd(), doorbell.as_fd()]).ok()?;
        let (attention, quiet) = (Attention::Idle, 0);
        Some(Self {
            file,
            ring,
            attention,
            quiet,
            ending: None,
            socket,
            _watches: watches,
            _process: process,
        })
    }

    /// Notices the end of its process. What was sent before that stays in the socket until its record is taken: a
    /// descriptor that no record asks for is never the daemon's.
    pub(super) fn notice_end(&mut self, now: Time) {
        let mut entry = PollFd::new(&*self.socket, PollFlags::empty());
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Where polling fails nothing more can come either.
        let over = poll(slice::from_mut(&mut entry), Some(&at_once)).is_err()
            || entry.revents().intersects(PollFlags::HUP | PollFlags::ERR);
        if over {
            self.ending.get_or_insert(now);
        }
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

/// The process that made this pair of sockets, to be watched: its end is the channel's, also where the other socket is not
/// closed by it, because it is on its way somewhere: in the queue of this very one, say. Nothing if it has ended, or there is
/// no room. `Some(None)` if the kernel does not say.
fn maker_of(socket: &OwnedFd) -> Option<Option<OwnedFd>> {
    let Ok(peer) = Peer::of(socket) else { return Some(None) };
    // A process outside of our namespace has no number.
    let Some(pid) = Pid::from_raw(peer.credentials.pid.cast_signed()) else { return Some(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Some(Some(process)),
        Err(Errno::NOSYS | Errno::PERM) => Some(None),
        Err(_) => None,
    }
}

#[cfg(test)]
pub(super) mod tests_support {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    /// A channel of number 1 to file 1, of which nobody hears, and the client's end.
    pub(in super::super) fn open(registrar: &Registrar) -> (Channel, OwnedFd) {
        let (flags, kind) = (SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let sinks: Sinks = Box::new(|| Box::new(|_| true));
        let channel = Channel::open(1, FileId(1), ours, &Welcome::new_zeroed(), registrar, &sinks).unwrap();
        (channel, theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::tests_support::open;
    use super::*;
    use crate::host::reactor::Reactor;

    fn channel() -> (Channel, OwnedFd, Reactor) {
        let reactor = Reactor::new().unwrap();
        let (channel, theirs) = open(&reactor.registrar());
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
        channel.notice_end(Time::default());
        assert!(channel.ending.is_none());
        drop(theirs);
        channel.notice_end(Time::default());
        assert!(channel.ending.is_some());
    }
}
