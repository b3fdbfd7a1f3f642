//! The control socket: who connects is told the state of the daemon, as JSON, and nothing else.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use virgld_platform::host::reactor::{Interest, Registrar, Registration, Trigger};
use virgld_protocol::message::{ctrlq, keeper, resource, scheme, transport};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::{Actor, Cap, Fault, Interface, Respond, Time, Turn};

use super::Error;
use super::report::Accounts;

/// Everything the actor hears.
pub(crate) enum Message {
    /// Somebody connects.
    Ready,
    /// An actor's account of itself, for one who connected.
    Part(u64, Part),
}

/// An actor's account of itself.
pub(crate) enum Part {
    Transport(transport::Report),
    Control(ctrlq::Report),
    Resource(resource::Report),
    Scheme(scheme::Report),
    Keeper(keeper::Report),
}

/// Whom it may ask.
pub(crate) struct Parts {
    pub(crate) transport: Cap<transport::FromDaemon>,
    pub(crate) control: Cap<ctrlq::FromDaemon>,
    pub(crate) resource: Cap<resource::FromDaemon>,
    pub(crate) scheme: Cap<scheme::FromDaemon>,
    pub(crate) keeper: Cap<keeper::FromDaemon>,
    pub(crate) own: Cap<Accounting>,
}

/// The actor behind the control socket.
pub(crate) struct Control {
    listener: Arc<UnixListener>,
    _watch: Registration,
    parts: Parts,
    asking: HashMap<u64, (UnixStream, Accounts)>,
    next: u64,
    /// When to try again to let askers in, after the process was out of descriptors.
    accept_again: Option<Time>,
}

impl Control {
    pub(crate) fn new(
        path: &Path,
        registrar: &Registrar,
        sink: ReadySink,
        parts: Parts,
    ) -> Result<Self, Error> {
        // The door holds the directory by now, so a socket that is there is a dead daemon's.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        // For the daemon's owner, also where others may enter the directory.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = Arc::new(listener);
        let watch = registrar.register(listener.clone(), Interest::Read, Trigger::Edge, 0, sink)?;
        Ok(Self { listener, _watch: watch, parts, asking: HashMap::new(), next: 0, accept_again: None })
    }

    fn accept(&mut self, now: Time) -> Result<(), Fault> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream)?,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        // Out of descriptors or memory. The edge is spent: nothing will tell when there are some.
                        tracing::warn!(%error, "cannot answer on the control socket; trying again shortly");
                        self.accept_again = Some(now.after(ACCEPT_AGAIN));
                        return Ok(());
                    }
                },
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) -> Result<(), Fault> {
        // Whoever asks and does not read holds nobody up.
        if stream.set_nonblocking(true).is_err() {
            return Ok(());
        }
        self.next += 1;
        self.asking.insert(self.next, (stream, Accounts::default()));
        self.ask(self.next).map_err(|dead| Fault::new(format!("the control socket lost a peer: {dead}")))
    }

    fn ask(&self, id: u64) -> Result<(), virgld_runtime::Dead> {
        self.parts.transport.send(self.respond(id, Part::Transport))?;
        self.parts.control.send(self.respond(id, Part::Control))?;
        self.parts.resource.send(self.respond(id, Part::Resource))?;
        self.parts.keeper.send(self.respond(id, Part::Keeper))?;
        self.parts.scheme.send(scheme::Service::Report(self.respond(id, Part::Scheme)))
    }

    fn respond<T: Send + 'static>(&self, id: u64, part: fn(T) -> Part) -> Respond<T> {
        let own = self.parts.own.grant();
        Respond::new(move |report| {
            // If this actor is gone, nobody waits for the answer.
            let _ = own.send((id, part(report)));
        })
    }

    fn part(&mut self, id: u64, part: Part) {
        let Some((_, accounts)) = self.asking.get_mut(&id) else { return };
        match part {
            Part::Transport(report) => accounts.transport = Some(report),
            Part::Control(report) => accounts.control = Some(report),
            Part::Resource(report) => accounts.resource = Some(report),
            Part::Scheme(report) => accounts.scheme = Some(report),
            Part::Keeper(report) => accounts.keeper = Some(report),
        }
        let Some(report) = accounts.complete() else { return };
        if let (Some((mut stream, _)), Ok(text)) = (self.asking.remove(&id), serde_json::to_vec(&report)) {
            // Once: the socket's buffer takes it, and what it does not take is dropped. Whoever asked may have left.
            let _ = stream.write(&text);
        }
    }
}

impl Actor for Control {
    type Message = Message;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Ready => self.accept(turn.now),
            Message::Part(id, part) => {
                self.part(id, part);
                Ok(())
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.accept_again
    }

    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        self.accept_again = None;
        self.accept(now)
    }
}

/// How the reactor reports that somebody connects.
pub(crate) struct FromReactor;

impl Interface for FromReactor {
    type Message = Ready;
    type Whole = Message;
    const NAME: &'static str = "control::FromReactor";

    fn widen(_: Ready) -> Message {
        Message::Ready
    }
}

/// How accounts come back.
pub(crate) struct Accounting;

impl Interface for Accounting {
    type Message = (u64, Part);
    type Whole = Message;
    const NAME: &'static str = "control::Accounting";

    fn widen((id, part): (u64, Part)) -> Message {
        Message::Part(id, part)
    }
}

const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
