//! The mailbox's end: turns effects into sends, and decides nothing.

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::Token;
use virgld_protocol::message::ctrlq::Furnished;
use virgld_protocol::message::resource::{Message, Notice, Request};
use virgld_protocol::message::{ctrlq, display, scheme, transport};
use virgld_runtime::{Actor, Cap, Fault, Restart, Turn, carry_out};

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
    /// Whom the step under way is to answer.
    serving: Option<Serving>,
}

/// Who waits for an answer.
enum Serving {
    Scheme(Token),
    Display(Token),
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
        Self {
            state: State::new(limits),
            effects,
            control,
            furnishing,
            regions,
            scheme,
            display,
            serving: None,
        }
    }
}

impl Actor for Resources {
    type Message = Message;

    fn handle(&mut self, _: Turn, message: Message) -> Result<(), Fault> {
        self.serving = Serving::of(&message);
        match message {
            Message::Scheme(request) => self.state.request(request, &mut self.effects),
            Message::Display(request) => self.state.display(request, &mut self.effects),
            Message::Control(event) => self.state.control(event, &mut self.effects),
            Message::Region(event) => self.state.region(event, &mut self.effects),
            Message::Report(respond) => respond.answer(self.state.report()),
        }
        let done = self.carry_out();
        self.serving = None;
        done
    }

    fn restart(&mut self, _: Restart) -> Result<(), Fault> {
        let errno = Errno::EIO;
        match self.serving.take() {
            Some(Serving::Scheme(token)) => {
                self.effects.push(Effect::Scheme(Notice::Refused { token, errno }))
            }
            Some(Serving::Display(token)) => {
                let read = display::ReadBack { token, result: Err(errno) };
                self.effects.push(Effect::Display(read));
            }
            None => {}
        }
        self.carry_out()
    }
}

impl Serving {
    fn of(message: &Message) -> Option<Self> {
        match message {
            Message::Scheme(
                Request::Create { token, .. } | Request::Isolate { token, .. } | Request::Move { token, .. },
            ) => Some(Self::Scheme(*token)),
            Message::Display(request) => Some(Self::Display(request.token)),
            _ => None,
        }
    }
}

impl Resources {
    fn carry_out(&mut self) -> Result<(), Fault> {
        let sent = carry_out(&mut self.effects, |effect| match effect {
            Effect::Control(command) => self.control.send(command),
            Effect::Furnished => self.furnishing.send(Furnished),
            Effect::Region(request) => self.regions.send(request),
            Effect::Scheme(notice) => self.scheme.send(notice),
            Effect::Display(read) => self.display.send(read),
        });
        sent.map_err(|dead| Fault::new(format!("the resource actor lost a peer: {dead}")))
    }
}
