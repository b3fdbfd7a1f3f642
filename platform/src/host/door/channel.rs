//! A channel: one process's way into one file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
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
    stash: Vec<(u64, Vec<OwnedFd>)>,
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
        let stash = Vec::new();
        Some(Self { file, ring, attention, ending: false, socket, stash, _watches: watches })
    }

    /// Receives descriptors that wait, up to a bound, and notices the end.
    pub(super) fn pull(&mut self) {
        while self.stash.len() < MOST_STASHED {
            let mut attachment = Attachment::new_zeroed();
            match packet::receive(&*self.socket, attachment.as_mut_bytes()) {
                Packet::Data(_, descriptors) => self.stash.push((attachment.serial, descriptors)),
                Packet::None => return,
                Packet::End => {
                    self.ending = true;
                    return;
                }
            }
        }
    }

    /// The descriptors of the record `serial`, which were sent before it was written. There are fewer if the
    /// daemon may not have more.
    pub(super) fn descriptors(&mut self, serial: u64, count: u32) -> Result<Vec<OwnedFd>, Broken> {
        if count == 0 {
            return Ok(Vec::new());
        }
        self.pull();
        let index = self.stash.iter().position(|(other, _)| *other == serial).ok_or(Broken::Descriptors)?;
        let descriptors = self.stash.swap_remove(index).1;
        if descriptors.len() > count as usize { Err(Broken::Descriptors) } else { Ok(descriptors) }
    }

    /// Passes descriptors to the client, for the answer to the record `serial`.
    pub(super) fn pass(&self, serial: u64, descriptors: &[BorrowedFd<'_>]) -> Result<(), rustix::io::Errno> {
        packet::send(&*self.socket, Attachment { serial }.as_bytes(), descriptors)
    }
}

/// Packets of descriptors that are kept for records to come.
const MOST_STASHED: usize = 64;
