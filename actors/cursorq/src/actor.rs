//! The mailbox's end: turns effects into sends, and decides nothing.

use virgld_protocol::message::cursorq::Message;
use virgld_protocol::message::transport;
use virgld_runtime::dma::DmaPool;
use virgld_runtime::{Actor, Cap, Fault, Restart, Turn, carry_out};

use crate::state::{Effect, State};

/// The cursor-queue actor.
pub struct CursorQueue {
    state: State,
    effects: Vec<Effect>,
    transport: Cap<transport::CursorQueue>,
}

impl CursorQueue {
    /// An actor that publishes through `transport`.
    pub fn new(pool: DmaPool, transport: Cap<transport::CursorQueue>) -> Self {
        Self { state: State::new(pool), effects: Vec::new(), transport }
    }
}

impl CursorQueue {
    fn carry_out(&mut self) -> Result<(), Fault> {
        let sent = carry_out(&mut self.effects, |Effect::Publish(publish)| self.transport.send(publish));
        sent.map_err(|dead| Fault::new(format!("the cursor queue lost a peer: {dead}")))
    }
}

impl Actor for CursorQueue {
    type Message = Message;

    fn handle(&mut self, _: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Display(request) => self.state.request(request, &mut self.effects),
            Message::Transport(event) => self.state.transport(&event, &mut self.effects),
        }
        self.carry_out()
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        if restart.doubt {
            self.state.restart(&mut self.effects);
        }
        self.carry_out()
    }
}
