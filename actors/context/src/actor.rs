//! The mailbox's end: turns effects into sends, and decides nothing.

use virgld_protocol::message::context::Message;
use virgld_protocol::message::{ctrlq, scheme};
use virgld_runtime::{Actor, Cap, Fault, Time, Turn, carry_out};

use crate::budget::Budget;
use crate::state::{Effect, State};

/// A context actor.
pub struct Context {
    state: State,
    effects: Vec<Effect>,
    control: Cap<ctrlq::ContextCommands>,
    scheme: Cap<scheme::FromContext>,
    finish: Option<Box<dyn FnOnce() + Send>>,
}

impl Context {
    /// An actor for the context that `control` is badged for. `finish` is called when its work is over. With memory for a
    /// `journal` the context is made anew when the device is lost.
    pub fn new(
        control: Cap<ctrlq::ContextCommands>,
        scheme: Cap<scheme::FromContext>,
        journal: Option<Budget>,
        finish: Box<dyn FnOnce() + Send>,
    ) -> Self {
        let state = journal.map_or_else(State::default, State::journaled);
        Self { state, effects: Vec::new(), control, scheme, finish: Some(finish) }
    }

    fn carry_out(&mut self) -> Result<(), Fault> {
        let sent = carry_out(&mut self.effects, |effect| match effect {
            Effect::Control(command) => self.control.send(command),
            Effect::Scheme(notice) => self.scheme.send(notice),
            Effect::Finish => {
                if let Some(finish) = self.finish.take() {
                    finish();
                }
                Ok(())
            }
        });
        sent.map_err(|dead| Fault::new(format!("a context lost a peer: {dead}")))
    }
}

impl Actor for Context {
    type Message = Message;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Scheme(request) => self.state.request(turn.now, request, &mut self.effects),
            Message::Control(event) => self.state.control(turn.now, event, &mut self.effects),
        }
        self.carry_out()
    }

    fn deadline(&self) -> Option<Time> {
        self.state.deadline()
    }

    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        self.state.wake(now, &mut self.effects);
        self.carry_out()
    }
}
