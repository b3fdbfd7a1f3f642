//! The mailbox's end: turns effects into sends, and decides nothing.

use foldhash::HashMap;

use virgld_protocol::ids::FileId;
use virgld_protocol::message::door::Command;
use virgld_protocol::message::scheme::{DoorEvent, Message, Service};
use virgld_protocol::message::{context, display, door, resource};
use virgld_runtime::{Actor, Cap, Fault, Restart, Time, Turn, carry_out};

use crate::state::{Effect, Limits, State};

/// The authority over context actors.
pub struct Contexts {
    /// Starts that of a file and says how to speak to it.
    pub start: Box<dyn FnMut(FileId) -> Cap<context::FromScheme> + Send>,
    /// Ends that of a file, as if it had died: it has gone wrong.
    pub end: Box<dyn FnMut(FileId) + Send>,
}

/// The scheme actor.
pub struct Scheme {
    state: State,
    effects: Vec<Effect>,
    door: Cap<door::FromScheme>,
    resource: Cap<resource::FromScheme>,
    display: Cap<display::FromScheme>,
    authority: Contexts,
    contexts: HashMap<FileId, Cap<context::FromScheme>>,
    /// Whose the step under way is, and whether it is that file's end.
    serving: Option<(FileId, bool)>,
}

impl Scheme {
    /// An actor that answers through `door`.
    pub fn new(
        limits: Limits,
        door: Cap<door::FromScheme>,
        resource: Cap<resource::FromScheme>,
        display: Cap<display::FromScheme>,
        authority: Contexts,
    ) -> Self {
        let state = State::new(limits);
        Self {
            state,
            effects: Vec::new(),
            door,
            resource,
            display,
            authority,
            contexts: HashMap::default(),
            serving: None,
        }
    }

    fn carry_out(&mut self) -> Result<(), Fault> {
        let sent = carry_out(&mut self.effects, |effect| match effect {
            Effect::Door(command) => self.door.send(command),
            Effect::Resource(request) => self.resource.send(request),
            Effect::Display(request) => self.display.send(request),
            Effect::StartContext(file) => {
                self.contexts.insert(file, (self.authority.start)(file));
                Ok(())
            }
            Effect::Context(file, request) => {
                if let Some(context) = self.contexts.get(&file) {
                    // A context that died costs its own file alone, and the supervisor says so.
                    let _ = context.send(request);
                }
                Ok(())
            }
            Effect::EndContext(file) => {
                (self.authority.end)(file);
                Ok(())
            }
            Effect::ForgetContext(file) => {
                self.contexts.remove(&file);
                Ok(())
            }
        });
        sent.map_err(|dead| Fault::new(format!("the scheme lost a peer: {dead}")))
    }
}

impl Actor for Scheme {
    type Message = Message;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        let now = turn.now;
        let ends = matches!(message, Message::Door(DoorEvent::Closed { .. }));
        self.serving = self.state.whose(turn.badge, &message).map(|file| (file, ends));
        match message {
            Message::Door(event) => self.state.door(now, event, &mut self.effects),
            Message::Context(notice) => {
                self.state.context(FileId(turn.badge.0), notice, &mut self.effects);
            }
            Message::Display(notice) => self.state.display(now, notice, &mut self.effects),
            Message::Resource(notice) => self.state.resource(notice, &mut self.effects),
            Message::Service(Service::ContextDied { file }) => {
                self.state.context_died(file, &mut self.effects);
            }
            Message::Service(Service::Report(respond)) => respond.answer(self.state.report()),
        }
        let done = self.carry_out();
        self.serving = None;
        done
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        // What the step had come to is in the books already: a buffer that is not in them any more must be released.
        match self.serving.take() {
            // The door closes it, and with that all that is its ends as if its process had.
            Some((file, false)) => self.effects.push(Effect::Door(Command::Expel { file })),
            // The door has closed it already, and will not say so again.
            Some((file, true)) => self.state.door(restart.now, DoorEvent::Closed { file }, &mut self.effects),
            None => {}
        }
        self.carry_out()
    }

    fn deadline(&self) -> Option<Time> {
        self.state.deadline()
    }

    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        self.state.expire(now, &mut self.effects);
        self.carry_out()
    }
}
