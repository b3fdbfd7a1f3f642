//! The mailbox's end: turns effects into sends, and decides nothing.

use virgld_protocol::message::ctrlq::Furnished;
use virgld_protocol::message::resource::Message;
use virgld_protocol::message::{ctrlq, display, scheme, transport};
use virgld_runtime::{Actor, Cap, Fault, Turn};

use crate::state::{Effect, Limits, State};

/// The resource actor.
pub struct Resources {
    state: State,
    effects: Vec<Effect>,
    control: Cap<ctrlq::ResourceCommands>,
    furnishing: Cap<ctrlq::Furnishing>,
    regions: Cap<transport::Regions>,
    scheme: Cap<scheme::FromResource>,
    display: Cap<display::FromResource>,
}

impl Resources {
    /// An actor that makes resources through `control` in memory from `regions`, for `scheme`, fetches pixels for
    /// `display`, and says through `furnishing` when a device has all resources.
    pub fn new(
        limits: Limits,
        control: Cap<ctrlq::ResourceCommands>,
        furnishing: Cap<ctrlq::Furnishing>,
        regions: Cap<transport::Regions>,
        scheme: Cap<scheme::FromResource>,
        display: Cap<display::FromResource>,
    ) -> Self {
        let effects = Vec::new();
        Self { state: State::new(limits), effects, control, furnishing, regions, scheme, display }
    }
}

impl Actor for Resources {
    type Message = Message;

    fn handle(&mut self, _: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Scheme(request) => self.state.request(request, &mut self.effects),
            Message::Display(request) => self.state.display(request, &mut self.effects),
            Message::Control(event) => self.state.control(event, &mut self.effects),
            Message::Region(event) => self.state.region(event, &mut self.effects),
            Message::Report(respond) => respond.answer(self.state.report()),
        }
        for effect in self.effects.drain(..) {
            let sent = match effect {
                Effect::Control(command) => self.control.send(command),
                Effect::Furnished => self.furnishing.send(Furnished),
                Effect::Region(request) => self.regions.send(request),
                Effect::Scheme(notice) => self.scheme.send(notice),
                Effect::Display(read) => self.display.send(read),
            };
            sent.map_err(|dead| Fault::new(format!("the resource actor lost a peer: {dead}")))?;
        }
        Ok(())
    }
}
