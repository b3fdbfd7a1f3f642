//! A control queue whose device is the test.

use std::time::Duration;

use virgld_ctrlq::{Effect, State};
use virgld_protocol::device::{CONTROL_FLAG_FENCE, Code, Configuration, ControlHeader};
use virgld_protocol::ids::{ContextId, FenceId, ResourceId, Serial};
use virgld_protocol::message::ctrlq::{
    ContextCommand, ContextEvent, DebugName, ResourceCommand, ResourceEvent,
};
use virgld_protocol::message::display::ControlEvent;
use virgld_protocol::message::transport::{Event, Publish};
use virgld_runtime::Time;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::memory::HeapMemory;
use zerocopy::{FromBytes, IntoBytes};

/// How long a command may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Desk {
    pub(crate) state: State,
    pub(crate) now: Time,
    effects: Vec<Effect>,
}

impl Desk {
    /// A queue with memory for so many commands, and a device.
    pub(crate) fn new(commands: usize) -> Self {
        Self::of(State::new(pool(commands), PATIENCE))
    }

    /// The same with the number of the next fence.
    pub(crate) fn numbering_from(commands: usize, fence: u32) -> Self {
        Self::of(State::new(pool(commands), PATIENCE).numbering_from(FenceId(fence)))
    }

    fn of(state: State) -> Self {
        let mut desk = Self { state, now: Time(0), effects: Vec::new() };
        let configuration = Configuration { num_scanouts: 2, num_capsets: 3, ..Configuration::default() };
        desk.tell(Event::Up { features: 1, configuration: configuration.as_bytes().to_vec() });
        let [
            Effect::Resource(ResourceEvent::Up { features: 1, capsets: 3 }),
            Effect::Display(ControlEvent::Up { features: 1, scanouts: 2 }),
        ] = desk.effects[..]
        else {
            panic!("{:?}", desk.effects)
        };
        desk.effects.clear();
        desk.state.furnished(desk.now, &mut desk.effects);
        desk
    }

    /// A context that the device has made.
    pub(crate) fn made(mut self, context: u32) -> Self {
        self.context(context, ContextCommand::Create { name: DebugName::new("test"), capset: 0 });
        let publish = self.published().remove(0);
        self.answer(publish, Code::OK_NO_DATA);
        assert!(self.told().is_empty());
        self
    }

    /// Another device comes up; it is to be furnished yet.
    pub(crate) fn come_up(&mut self) {
        let configuration = Configuration::default().as_bytes().to_vec();
        self.tell(Event::Up { features: 1, configuration });
        self.told();
    }

    pub(crate) fn furnished(&mut self) {
        self.state.furnished(self.now, &mut self.effects);
    }

    pub(crate) fn context(&mut self, context: u32, command: ContextCommand) {
        self.state.context(self.now, ContextId(context), command, &mut self.effects);
    }

    pub(crate) fn resource(&mut self, command: ResourceCommand) {
        self.state.resource(self.now, command, &mut self.effects);
    }

    pub(crate) fn submit(&mut self, context: u32, serial: u64) {
        let serial = Serial(serial);
        self.context(
            context,
            ContextCommand::Submit { stream: None, length: 0, ring: None, fenced: true, serial },
        );
    }

    pub(crate) fn unreference(&mut self, resource: u32) {
        self.resource(ResourceCommand::Unreference { resource: ResourceId(resource) });
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.state.transport(self.now, event, &mut self.effects);
    }

    pub(crate) fn wait(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.state.expire(self.now, &mut self.effects);
    }

    /// What went to the device since this was last asked.
    pub(crate) fn published(&mut self) -> Vec<Publish> {
        let published = self.effects.extract_if(.., |effect| matches!(effect, Effect::Publish(_)));
        published.map(|effect| if let Effect::Publish(it) = effect { it } else { unreachable!() }).collect()
    }

    /// What actors were told since this was last asked, in words.
    pub(crate) fn told(&mut self) -> Vec<String> {
        self.effects
            .extract_if(.., |effect| !matches!(effect, Effect::Publish(_)))
            .map(|it| words(&it))
            .collect()
    }

    /// Answers as the device does.
    pub(crate) fn answer(&mut self, publish: Publish, code: Code) {
        let flags = header(&publish).flags & CONTROL_FLAG_FENCE;
        self.answer_with(publish, &ControlHeader { code, flags, ..ControlHeader::default() }, &[]);
    }

    /// Answers with any header and body, all of which are said to be written.
    pub(crate) fn answer_with(&mut self, publish: Publish, header: &ControlHeader, body: &[u8]) {
        let bytes = [header.as_bytes(), body].concat();
        let written = u32::try_from(bytes.len()).unwrap();
        self.return_with(publish, &bytes, written);
    }

    pub(crate) fn return_with(&mut self, publish: Publish, bytes: &[u8], written: u32) {
        let Publish { cookie, slice, response, .. } = publish;
        slice.write(response.0 as usize, bytes).unwrap();
        self.tell(Event::Returned { cookie, slice, written });
    }
}

/// The bytes of a request as the device reads them.
pub(crate) fn request(publish: &Publish) -> Vec<u8> {
    let mut bytes = vec![0; publish.request.1 as usize];
    publish.slice.read(publish.request.0 as usize, &mut bytes).unwrap();
    bytes
}

pub(crate) fn header(publish: &Publish) -> ControlHeader {
    ControlHeader::read_from_prefix(&request(publish)).unwrap().0
}

fn pool(commands: usize) -> DmaPool {
    let classes = [SizeClass { size: 512, count: commands }];
    DmaPool::new(HeapMemory::new(DmaPool::bytes(&classes)), 0x1000, 0, &classes).unwrap()
}

fn words(effect: &Effect) -> String {
    let errno = |result: &Result<(), _>| result.map_or_else(|errno| format!("{errno:?}"), |()| "well".into());
    match effect {
        Effect::Context(context, ContextEvent::Completed { serial, result }) => {
            format!("context {}: {} ended {}", context.0, serial.0, errno(result))
        }
        Effect::Context(context, event) => format!("context {}: {event:?}", context.0),
        Effect::Resource(ResourceEvent::Failed { resource, errno }) => {
            format!("resource {}: failed {errno:?}", resource.0)
        }
        Effect::Resource(ResourceEvent::Unreferenced { resource }) => {
            format!("resource {}: unreferenced", resource.0)
        }
        Effect::Resource(event) => format!("{event:?}"),
        Effect::Complain(complaint) => complaint.reason.clone(),
        Effect::Display(event) => format!("display {event:?}"),
        Effect::Publish(_) => unreachable!(),
    }
}
