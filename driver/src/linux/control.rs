//! The control socket: who connects is told the state of the daemon, as JSON, and nothing else.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use virgld_context::Budget;
use virgld_platform::host::reactor::{Interest, Registrar, Registration, Trigger};
use virgld_protocol::ids::{ContextId, FileId};
use virgld_protocol::message::{ctrlq, display, keeper, resource, scheme, transport};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::{Actor, Cap, Dead, Fault, Interface, Respond, Restart, Spawner, Time, Turn, words};

use super::Error;
use super::report::{Accounts, Part, Report, Supervisor};

/// Everything the actor hears.
pub(crate) enum Message {
    /// Somebody connects.
    Ready,
    /// An actor's account of itself, for one who connected.
    Part(u64, Part),
}

words!(Message {
    "Ready" => Self::Ready,
    "Part" => Self::Part(..),
});

/// Whom to ask for the state of the whole.
pub(crate) struct Parts {
    pub(crate) transport: Cap<transport::FromDaemon>,
    pub(crate) control: Cap<ctrlq::FromDaemon>,
    pub(crate) resource: Cap<resource::FromDaemon>,
    pub(crate) scheme: Cap<scheme::FromDaemon>,
    pub(crate) keeper: Cap<keeper::FromDaemon>,
    pub(crate) display: Cap<display::FromDaemon>,
    /// Whose each context is.
    pub(crate) contexts: Contexts,
    /// What the supervisors have done.
    pub(crate) supervisors: Spawner,
    /// What the journals hold, if contexts are to outlive their device.
    pub(crate) journals: Option<Budget>,
}

impl Parts {
    /// Has every actor give its account to `tell`.
    pub(crate) fn ask(&self, tell: impl Fn(Part) + Send + Sync + 'static) -> Result<(), Dead> {
        let tell = Arc::new(tell);
        self.transport.send(respond(&tell, Part::Transport))?;
        self.control.send(respond(&tell, Part::Control))?;
        self.resource.send(respond(&tell, Part::Resource))?;
        self.keeper.send(respond(&tell, Part::Keeper))?;
        self.display.send(respond(&tell, Part::Display))?;
        self.scheme.send(scheme::Service::Report(respond(&tell, Part::Scheme)))
    }

    /// The state of the whole, once all have given theirs.
    pub(crate) fn complete(&self, accounts: &Accounts) -> Option<Report> {
        let supervisors = self.supervisors.supervisors().iter().map(Supervisor::of).collect();
        accounts.complete(&(self.contexts)(), self.journals.as_ref(), supervisors)
    }
}

fn respond<T: Send + 'static>(
    tell: &Arc<impl Fn(Part) + Send + Sync + 'static>,
    part: fn(T) -> Part,
) -> Respond<T> {
    let tell = Arc::clone(tell);
    Respond::new(move |report| tell(part(report)))
}

/// Tells whose each context is.
pub(crate) type Contexts = Box<dyn Fn() -> HashMap<ContextId, FileId> + Send>;

/// The actor behind the control socket.
pub(crate) struct Control {
    listener: Arc<UnixListener>,
    _watch: Registration,
    parts: Parts,
    own: Cap<Accounting>,
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
        own: Cap<Accounting>,
    ) -> Result<Self, Error> {
        // The door holds the directory by now, so a socket that is there is a dead daemon's.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        // For the daemon's owner, also where others may enter the directory.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = Arc::new(listener);
        let watch = registrar.register(listener.clone(), Interest::Read, Trigger::Edge, 0, sink)?;
        Ok(Self { listener, _watch: watch, parts, own, asking: HashMap::new(), next: 0, accept_again: None })
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
        let (own, id) = (self.own.grant(), self.next);
        let asked = self.parts.ask(move |part| {
            // If this actor is gone, nobody waits for the answer.
            let _ = own.send((id, part));
        });
        asked.map_err(|dead| Fault::new(format!("the control socket lost a peer: {dead}")))
    }

    fn part(&mut self, id: u64, part: Part) {
        let Some((_, accounts)) = self.asking.get_mut(&id) else { return };
        accounts.take(part);
        let Some(report) = self.parts.complete(accounts) else { return };
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

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        // Those who were being answered are not: they may ask again.
        self.asking.clear();
        self.accept(restart.now)
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
