//! The mailbox's end: turns effects into calls, and decides nothing.

use virgld_protocol::message::keeper::{Attempt, Message, StartFailed};
use virgld_protocol::message::transport::DeviceEvent;
use virgld_runtime::{Actor, Fault, Intensity, Restart, Time, Turn, carry_out};

use crate::state::{Effect, State};

/// Begins to start a device in place of the one before. It must not wait: the device comes to the transport, or the
/// keeper hears that this attempt has failed.
pub type StartDevice = Box<dyn FnMut(Attempt) + Send>;

/// The device-keeper actor.
pub struct Keeper {
    state: State,
    effects: Vec<Effect>,
    start: StartDevice,
    /// What the step under way is about.
    heard: Option<Heard>,
    /// It has given up: there is nothing to be started anew.
    hopeless: bool,
}

/// What must not get lost with a step.
enum Heard {
    Transport(DeviceEvent),
    Failed(StartFailed),
}

impl Keeper {
    /// An actor that has devices started by `start`, so often and no oftener.
    pub fn new(intensity: Intensity, start: StartDevice) -> Self {
        Self { state: State::new(intensity), effects: Vec::new(), start, heard: None, hopeless: false }
    }

    fn hear(&mut self, now: Time, heard: Heard) {
        let effects = &mut self.effects;
        match self.heard.insert(heard) {
            Heard::Transport(event) => self.state.transport(now, event.clone(), effects),
            Heard::Failed(it) => self.state.failed(now, it.attempt, it.reason.clone(), effects),
        }
    }

    fn carry_out(&mut self) -> Result<(), Fault> {
        let done = carry_out(&mut self.effects, |effect| match effect {
            Effect::Start { attempt } => {
                (self.start)(attempt);
                Ok(())
            }
            // The daemon above ends with what is said here: that is the escalation.
            Effect::GiveUp { reason } => {
                self.hopeless = true;
                Err(Fault::new(reason))
            }
        });
        self.heard = None;
        done
    }
}

impl Actor for Keeper {
    type Message = Message;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Transport(event) => self.hear(turn.now, Heard::Transport(event)),
            Message::Failed(failed) => self.hear(turn.now, Heard::Failed(failed)),
            Message::Report(respond) => respond.answer(self.state.report()),
        }
        self.carry_out()
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        if self.hopeless {
            return Err(Fault::new("it has given up"));
        }
        if let Some(heard) = self.heard.take() {
            self.hear(restart.now, heard);
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
