//! Letting clients in: connections become files, greetings become channels.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with};
use tracing::{debug, warn};
use virgld_protocol::channel::{Hello, MAGIC, VERSION, Verdict, Welcome};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::scheme::{DoorEvent, Node};
use virgld_runtime::Fault;
use zerocopy::{FromZeros, IntoBytes};

use super::access::Peer;
use super::actor::Door;
use super::channel::Channel;
use super::config::{DoorError, Sinks};
use super::event::limit_unread;
use super::file::File;
use super::packet::{self, Packet};
use super::record::Broken;
use super::token::Source;
use crate::host::reactor::{Interest, Registrar, Registration, Trigger};

/// A listening socket.
pub(super) struct Listener {
    node: Node,
    socket: Arc<OwnedFd>,
    _watch: Registration,
}

impl Listener {
    /// Listens for clients of `node` at `socket`.
    pub(super) fn watch(
        node: Node,
        socket: OwnedFd,
        registrar: &Registrar,
        sinks: &Sinks,
        token: Source,
    ) -> Result<Self, DoorError> {
        let socket = Arc::new(socket);
        let watch = registrar
            .register(socket.clone(), Interest::Read, Trigger::Edge, token.pack(), sinks())
            .map_err(|error| DoorError::Watch(error.into()))?;
        Ok(Self { node, socket, _watch: watch })
    }
}

impl Door {
    /// Lets in whoever waits at either socket.
    pub(super) fn accept(&mut self) -> Result<(), Fault> {
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
        for index in 0..self.listeners.len() {
            if self.accept_some(index)? {
                self.leave_unfinished(Source::Listener(index as u64));
            }
        }
        Ok(())
    }

    /// Lets a bounded number in at one socket. Says whether more may wait.
    fn accept_some(&mut self, index: usize) -> Result<bool, Fault> {
        for _ in 0..MOST_AT_ONCE {
            let Listener { node, socket, .. } = &self.listeners[index];
            let node = *node;
            match accept_with(&**socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(connection) => self.admit(node, connection)?,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::MFILE | Errno::NFILE) if self.make_room(None)? || self.turn_away(index) => {}
                Err(error) => {
                    // Out of descriptors or memory. The edge is spent: nothing will tell when there are some.
                    warn!(%error, "cannot let a client in; trying again shortly");
                    self.accept_again = Some(self.now.after(ACCEPT_AGAIN));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// A socket is left though more may wait there. The edge is spent, so it is gone on with when all others had a turn.
    fn leave_unfinished(&mut self, source: Source) {
        if !self.unfinished.contains(&source) {
            self.unfinished.push(source);
        }
    }

    /// Out of descriptors: the one that is kept for this lets a client in, to be told so. Says whether that came off.
    fn turn_away(&mut self, index: usize) -> bool {
        if self.reserve.take().is_none() {
            return false;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let turned_away = accept_with(&*self.listeners[index].socket, flags)
            .map(|connection| announce(&connection, Errno::NFILE.raw_os_error()));
        self.reserve = reserve();
        turned_away.is_ok() && self.reserve.is_some()
    }

    fn admit(&mut self, node: Node, connection: OwnedFd) -> Result<(), Fault> {
        let Ok(peer) = Peer::of(&connection) else { return Ok(()) };
        let credentials = peer.credentials;
        if !self.access.allows(node, &peer) {
            if self.may_log(credentials) {
                let (uid, pid) = (credentials.uid, credentials.pid);
                warn!(uid, pid, ?node, "the policy lets this user not open it");
            }
            announce(&connection, Errno::ACCESS.raw_os_error());
            return Ok(());
        }
        let is_full = self.load_of(credentials.uid).files >= self.limits.user.files;
        if is_full && !self.make_room(Some(credentials.uid))? {
            if self.may_log(credentials) {
                warn!(uid = credentials.uid, "a user has too many files open; one more is refused");
            }
            announce(&connection, Errno::MFILE.raw_os_error());
            return Ok(());
        }
        let file = FileId(self.fresh_number());
        limit_unread(&connection);
        let connection = Arc::new(connection);
        let token = Source::File(file.0).pack();
        let watched =
            self.registrar.register(connection.clone(), Interest::Read, Trigger::Edge, token, (self.sinks)());
        let Ok(watch) = watched else {
            announce(&connection, Errno::NFILE.raw_os_error());
            return Ok(());
        };
        announce(&connection, 0);
        self.load(credentials.uid);
        self.files.insert(file, File::new(credentials, connection, watch, self.now));
        debug!(file = file.0, ?node, pid = credentials.pid, "opened");
        self.tell(DoorEvent::Opened { file, node, credentials })
    }

    /// Something came on a file's connection: a greeting, or its end.
    pub(super) fn hello(&mut self, id: FileId) -> Result<(), Fault> {
        for _ in 0..MOST_AT_ONCE {
            let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
            let mut hello = Hello::new_zeroed();
            match packet::receive(&*file.socket, hello.as_mut_bytes()) {
                Packet::None => return Ok(()),
                Packet::End => {
                    file.closing.get_or_insert(self.now);
                    // A client that was killed may have written what it rang no doorbell for.
                    file.channels.clone().into_iter().for_each(|channel| self.activate(channel));
                    return self.close_if_over(id);
                }
                Packet::Data { bytes, descriptors, truncated } => {
                    let greeted =
                        bytes == size_of::<Hello>() && hello == Hello { magic: MAGIC, version: VERSION };
                    if !greeted {
                        return self.expel(id, Broken::Head);
                    }
                    match <[OwnedFd; 1]>::try_from(descriptors) {
                        Ok([socket]) if !truncated && is_line(&socket) => self.open_channel(id, socket),
                        // The daemon may have no more descriptors: whoever greeted finds their socket closed.
                        Err(few) if truncated && few.is_empty() => {}
                        _ => return self.expel(id, Broken::Descriptors),
                    }
                }
            }
        }
        self.leave_unfinished(Source::File(id.0));
        Ok(())
    }

    /// Opens a channel. Where that cannot be, the client finds its socket closed.
    fn open_channel(&mut self, id: FileId, socket: OwnedFd) {
        let number = self.fresh_number();
        let welcome = Welcome {
            magic: MAGIC,
            version: VERSION,
            largest_bulk: u32::try_from(self.largest_stream()).unwrap_or(u32::MAX),
            stock_buffers: self.limits.file.buffers_in_stock,
            stock_bytes: self.limits.file.bytes_in_stock,
        };
        let Some(file) = self.files.get_mut(&id) else { return };
        if file.channels.len() >= self.limits.file.processes {
            if self.may_log_of(id) {
                warn!(file = id.0, "too many processes use one file; one more is refused");
            }
            return;
        }
        let Some(channel) = Channel::open(number, id, socket, &welcome, &self.registrar, &self.sinks) else {
            if self.may_log_of(id) {
                warn!(file = id.0, "no room for a channel");
            }
            return;
        };
        file.channels.push(number);
        file.silent_since = None;
        self.channels.insert(number, channel);
        if file.channels.len() > 1 {
            // For good: what a process did that is gone may still be under way.
            file.channels
                .iter()
                .filter_map(|id| self.channels.get(id))
                .for_each(|one| one.ring.mark_shared());
        }
    }
}

/// Whether a channel can be spoken over it.
fn is_line(descriptor: &OwnedFd) -> bool {
    socket_domain(descriptor) == Ok(AddressFamily::UNIX)
        && socket_type(descriptor) == Ok(SocketType::SEQPACKET)
}

/// A descriptor to give up when there are no others.
pub(super) fn reserve() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}

/// Tells whoever connected whether the file is open. A client that is gone already is noticed later.
fn announce(connection: &OwnedFd, errno: i32) {
    let verdict = Verdict { magic: MAGIC, version: VERSION, errno };
    if let Err(error) = packet::send(connection, verdict.as_bytes(), &[]) {
        debug!(%error, "a client left before it was let in");
    }
}

/// Clients that are let in at one socket, or greetings that are heard on one connection, before others have their turn.
const MOST_AT_ONCE: usize = 16;
const ACCEPT_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);
