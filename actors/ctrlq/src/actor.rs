//! The mailbox's end: turns effects into sends, and decides nothing.

use foldhash::HashMap;
use std::time::Duration;

use virgld_protocol::ids::ContextId;
use virgld_protocol::message::ctrlq::{ContextEvent, Message, Register};
use virgld_protocol::message::live::{Live, Owner};
use virgld_protocol::message::{context, display, resource, transport};
use virgld_runtime::dma::DmaPool;
use virgld_runtime::{Actor, Badge, Cap, Fault, Restart, Time, Turn, carry_out};

use crate::state::{Effect, State};

/// The control-queue actor.
pub struct ControlQueue {
    state: State,
    effects: Vec<Effect>,
    transport: Cap<transport::ControlQueue>,
    complaints: Cap<transport::Complaints>,
    resource: Cap<resource::FromControl>,
    display: Cap<display::FromControl>,
    contexts: HashMap<ContextId, Cap<context::FromControl>>,
}

impl ControlQueue {
    /// An actor that publishes through `transport`, tells it through `complaints` of a device that stalls, and reports
    /// to `resource` and `display`; contexts register as they come.
    pub fn new(
        pool: DmaPool,
        patience: Duration,
        transport: Cap<transport::ControlQueue>,
        complaints: Cap<transport::Complaints>,
        resource: Cap<resource::FromControl>,
        display: Cap<display::FromControl>,
    ) -> Self {
        let state = State::new(pool, patience);
        let effects = Vec::new();
        Self { state, effects, transport, complaints, resource, display, contexts: HashMap::default() }
    }

    fn carry_out(&mut self) -> Result<(), Fault> {
        let sent = carry_out(&mut self.effects, |effect| match effect {
            Effect::Publish(publish) => self.transport.send(publish),
            Effect::Resource(event) => self.resource.send(event),
            Effect::Display(event) => self.display.send(event),
            Effect::Complain(complaint) => self.complaints.send(complaint),
            Effect::Context(context, event) => {
                let last = matches!(event, ContextEvent::Destroyed);
                if let Some(cap) = self.contexts.get(&context) {
                    // A context that died is not there to hear of its commands: that is its matter alone.
                    let _ = cap.send(event);
                }
                if last {
                    self.contexts.remove(&context);
                }
                Ok(())
            }
        });
        sent.map_err(|dead| Fault::new(format!("the control queue lost a peer: {dead}")))
    }
}

/// The context that a badge stands for.
fn context_of(badge: Badge) -> ContextId {
    ContextId(u32::try_from(badge.0).unwrap_or(0))
}

impl Actor for ControlQueue {
    type Message = Message;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Context(command) => {
                self.state.context(turn.now, context_of(turn.badge), command, &mut self.effects);
            }
            Message::Resource(command) => self.state.resource(turn.now, command, &mut self.effects),
            Message::Display(command) => self.state.display(turn.now, command, &mut self.effects),
            Message::Furnished => self.state.furnished(turn.now, &mut self.effects),
            Message::Transport(event) => self.state.transport(turn.now, event, &mut self.effects),
            Message::Register(Register::Begin { context, events }) => {
                self.contexts.insert(context, events);
            }
            Message::Register(Register::Died { context }) => {
                if self.contexts.contains_key(&context) {
                    self.state.died(turn.now, context, &mut self.effects);
                }
            }
            Message::Report(respond) => {
                let mut report = self.state.report();
                report.contexts = self.contexts.len();
                report.live.extend(
                    self.contexts
                        .keys()
                        .map(|id| Live::new("GL context", u64::from(id.0), Owner::Context(*id))),
                );
                respond.answer(report);
            }
        }
        self.carry_out()
    }

    fn restart(&mut self, _: Restart) -> Result<(), Fault> {
        // A step that broke off may have forgotten what waits or is under way. The transport is started anew with this actor
        // and begins with another device, so that all of that is known anew: what is on its way fails, and everybody hears
        // of it.
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
