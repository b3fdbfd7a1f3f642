//! The mailbox's end: turns effects into sends, and decides nothing.

use std::collections::HashMap;

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::Token;
use virgld_protocol::message::display::{Message, Notice, Picture, Request};
use virgld_protocol::message::{ctrlq, cursorq, resource, scheme};
use virgld_runtime::{Actor, Cap, Fault, Respond, Restart, Time, Turn, carry_out};

use crate::state::{Effect, Presentation, State};

/// The display actor.
pub struct Display {
    state: State,
    effects: Vec<Effect>,
    scheme: Cap<scheme::FromDisplay>,
    control: Cap<ctrlq::DisplayCommands>,
    cursors: Cap<cursorq::FromDisplay>,
    resource: Cap<resource::FromDisplay>,
    looking: HashMap<Token, Respond<Result<Picture, Errno>>>,
    looks: u64,
    /// The call that the step under way is to answer.
    serving: Option<Token>,
}

impl Display {
    /// An actor that answers `scheme`, shows through `control` and `cursors`, and fetches pixels by `resource`.
    pub fn new(
        presentation: Presentation,
        scheme: Cap<scheme::FromDisplay>,
        control: Cap<ctrlq::DisplayCommands>,
        cursors: Cap<cursorq::FromDisplay>,
        resource: Cap<resource::FromDisplay>,
    ) -> Self {
        let (state, effects, looking) = (State::new(presentation), Vec::new(), HashMap::new());
        Self { state, effects, scheme, control, cursors, resource, looking, looks: 0, serving: None }
    }

    fn carry_out(&mut self) -> Result<(), Fault> {
        let sent = carry_out(&mut self.effects, |effect| match effect {
            Effect::Scheme(notice) => self.scheme.send(notice),
            Effect::Control(command) => self.control.send(command),
            Effect::Cursor(request) => self.cursors.send(request),
            Effect::ReadBack { token, resource } => {
                self.resource.send(resource::ReadBack { token, resource })
            }
            Effect::Show { look, picture } => {
                if let Some(respond) = self.looking.remove(&look) {
                    respond.answer(picture);
                }
                Ok(())
            }
        });
        sent.map_err(|dead| Fault::new(format!("the display lost a peer: {dead}")))
    }
}

impl Actor for Display {
    type Message = Message;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        self.serving = match &message {
            Message::Scheme(Request::Call { token, .. }) => Some(*token),
            _ => None,
        };
        match message {
            Message::Scheme(request) => self.state.request(turn.now, request, &mut self.effects),
            Message::Control(event) => self.state.control(turn.now, event, &mut self.effects),
            Message::Resource(read) => self.state.read_back(read, &mut self.effects),
            Message::Look(look) => {
                self.looks += 1;
                let token = Token(self.looks);
                self.looking.insert(token, look.respond);
                self.state.look(token, look.scanout, &mut self.effects);
            }
            Message::Report(respond) => respond.answer(self.state.report()),
        }
        let done = self.carry_out();
        self.serving = None;
        done
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        // What the step had come to is in the books already, and others wait for it.
        let answers = |effect: &Effect, of| matches!(effect, Effect::Scheme(Notice::Answered { token, .. }) if *token == of);
        if let Some(token) = self.serving.take()
            && !self.effects.iter().any(|effect| answers(effect, token))
        {
            let result = Err(Refusal::new(Errno::EIO, "the display failed at it"));
            self.effects.push(Effect::Scheme(Notice::Answered { token, result }));
        }
        self.state.restart(restart.now, &mut self.effects);
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
