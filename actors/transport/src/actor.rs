//! The mailbox's end: turns effects into sends, and decides nothing.

use virgld_protocol::message::transport::{CONTROL_QUEUE, Message};
use virgld_protocol::message::{ctrlq, cursorq, keeper, resource};
use virgld_runtime::{Actor, Cap, Fault, Restart, Time, Turn, carry_out};

use crate::state::{Effect, State};

/// The transport actor.
pub struct Transport {
    state: State,
    effects: Vec<Effect>,
    control: Cap<ctrlq::FromTransport>,
    cursor: Cap<cursorq::FromTransport>,
    resource: Cap<resource::FromTransport>,
    keeper: Cap<keeper::FromTransport>,
}

impl Transport {
    /// An actor without a device; one comes as a message.
    pub fn new(
        control: Cap<ctrlq::FromTransport>,
        cursor: Cap<cursorq::FromTransport>,
        resource: Cap<resource::FromTransport>,
        keeper: Cap<keeper::FromTransport>,
    ) -> Self {
        Self { state: State::default(), effects: Vec::new(), control, cursor, resource, keeper }
    }

    fn carry_out(&mut self) -> Result<(), Fault> {
        let sent = carry_out(&mut self.effects, |effect| match effect {
            Effect::Queue(CONTROL_QUEUE, event) => self.control.send(event),
            Effect::Queue(_, event) => self.cursor.send(event),
            Effect::Region(event) => self.resource.send(event),
            Effect::Device(event) => self.keeper.send(event),
        });
        sent.map_err(|dead| Fault::new(format!("the transport lost a peer: {dead}")))
    }
}

impl Actor for Transport {
    type Message = Message;
    const SETTLES: bool = true;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Publish(publish) => self.state.publish(publish, &mut self.effects),
            Message::Region(request) => self.state.region(request),
            Message::Condemn(complaint) => self.state.condemn(&complaint.reason, &mut self.effects),
            Message::Ready(ready) => self.state.ready(ready, &mut self.effects),
            Message::Attach(link) => self.state.attach(link.0, &mut self.effects),
            Message::Report(respond) => respond.answer(self.state.report()),
        }
        self.state.plan(turn.now);
        self.carry_out()
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        // What a step found out is passed on; but the queues, or the book of what is on them, may be out of step with the
        // device now. Everything begins anew with another.
        if restart.doubt {
            let reason =
                "the transport, or the control queue, failed in a step: nobody knows what the device has";
            self.state.condemn(reason, &mut self.effects);
        }
        self.carry_out()
    }

    fn deadline(&self) -> Option<Time> {
        self.state.deadline()
    }

    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        self.state.wake(now, &mut self.effects);
        self.state.plan(now);
        self.carry_out()
    }

    fn settle(&mut self, now: Time) -> Result<(), Fault> {
        self.state.look(&mut self.effects);
        self.state.flush(&mut self.effects);
        self.state.plan(now);
        self.carry_out()
    }

    fn glance(&self) -> bool {
        self.state.sees_used()
    }

    fn doze(&mut self, now: Time) -> Result<(), Fault> {
        self.state.arm(&mut self.effects);
        self.state.plan(now);
        self.carry_out()
    }
}
