//! Whatever an actor's step leads to is carried out, also where one of those concerned is gone: the others wait for it.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use virgld_context::Context;
use virgld_ctrlq::ControlQueue;
use virgld_display::{Display, Presentation};
use virgld_protocol::device::Feature;
use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::ctrlq::{DebugName, ResourceEvent};
use virgld_protocol::message::display::{
    Call, ControlEvent, Image, NewFramebuffer, Pixels, Request, SetCrtc,
};
use virgld_protocol::message::resource::Backing;
use virgld_protocol::message::scheme::{Credentials, DoorEvent, Node};
use virgld_protocol::message::transport::{Event, NewLink};
use virgld_protocol::message::{context, ctrlq, cursorq, display, door, keeper, resource, scheme, transport};
use virgld_resource::Resources;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::link::{Region, RegionId};
use virgld_runtime::memory::HeapMemory;
use virgld_runtime::{
    Actor, Badge, Cap, Fault, Interface, Mailbox, SlotId, Spawner, Stage, Time, Turn, Wake, Words,
};
use virgld_scheme::{Contexts, Scheme};
use virgld_testkit::common::mode;
use virgld_testkit::link::{FakeLink, LinkConfig};
use virgld_testkit::system::SystemConfig;
use virgld_transport::Transport;

/// Writes down what it hears.
struct Ear<M> {
    heard: Sender<&'static str>,
    messages: std::marker::PhantomData<fn(M)>,
}

impl<M: Words> Actor for Ear<M> {
    type Message = M;

    fn handle(&mut self, _: Turn, message: M) -> Result<(), Fault> {
        let _ = self.heard.send(message.word());
        Ok(())
    }
}

struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// An actor's peers, of which one may go.
struct Peers {
    stage: Stage,
    spawner: Spawner,
    seats: Vec<(SlotId, Receiver<&'static str>)>,
}

impl Peers {
    /// Somebody who hears this.
    fn seat<M: Words>(&mut self) -> Seat<M> {
        let mailbox = self.spawner.mailbox();
        Seat { mailbox }
    }

    fn sit<M: Words>(&mut self, seat: Seat<M>) {
        let (heard, ear) = channel();
        let slot = self.spawner.start("ear", seat.mailbox, Ear { heard, messages: std::marker::PhantomData });
        self.seats.push((slot, ear));
    }
}

struct Seat<M> {
    mailbox: Mailbox<M>,
}

impl<M: Words> Seat<M> {
    fn cap<I: Interface<Whole = M>>(&self) -> Cap<I> {
        self.mailbox.open(Badge(0))
    }
}

/// Has an actor take messages, the last of them without one of its peers: each of the others hears what it would hear if
/// all were there. `begin` starts the actor among its peers, and gives what sends it its messages, one after the other.
fn each_may_go(begin: impl Fn(&mut Peers) -> Vec<Box<dyn FnOnce()>>) {
    let run = |gone: Option<usize>| {
        let stage = Stage::new(Arc::new(Quiet));
        let spawner = stage.spawner();
        let mut peers = Peers { stage, spawner, seats: Vec::new() };
        let mut sends = begin(&mut peers);
        peers.stage.run(Time(1));
        let last = sends.pop().unwrap();
        for (seconds, send) in (1..).zip(sends) {
            send();
            peers.stage.run(Time(seconds * SECOND));
            peers.stage.run(Time(seconds * SECOND + SECOND / 2));
        }
        peers.seats.iter().for_each(|(_, ear)| ear.try_iter().for_each(drop));
        if let Some((slot, _)) = gone.and_then(|gone| peers.seats.get(gone)) {
            peers.stage.stop(*slot);
        }
        last();
        peers.stage.run(Time(9 * SECOND));
        let fault = peers.stage.casualties().pop().map(|it| it.fault.what);
        let heard = peers.seats.iter().map(|(_, ear)| ear.try_iter().collect()).collect();
        (heard, fault)
    };
    let (all, fault): (Vec<Vec<&str>>, Option<String>) = run(None);
    assert_eq!(fault, None);
    let concerned = all.iter().filter(|heard| !heard.is_empty()).count();
    assert!(concerned > 1, "nobody could lose anything: {all:?}");
    for gone in 0..all.len() {
        let (heard, fault) = run(Some(gone));
        assert_eq!(fault.is_some(), !all[gone].is_empty(), "{gone} of {all:?} is missed: {fault:?}");
        for other in (0..all.len()).filter(|other| *other != gone) {
            assert_eq!(heard[other], all[other], "{other} without {gone} of {all:?}");
        }
    }
}

const SECOND: u64 = 1_000_000_000;

/// Sends a message to an actor that runs on this stage.
fn to<I: Interface>(cap: Cap<I>, message: I::Message) -> Box<dyn FnOnce()> {
    Box::new(move || cap.send(message).unwrap())
}

fn pool() -> DmaPool {
    let classes = [SizeClass { size: 512, count: 8 }];
    DmaPool::new(HeapMemory::new(DmaPool::bytes(&classes)), 0x1000, 0, &classes).unwrap()
}

#[test]
fn the_transport_tells_everybody_else() {
    each_may_go(|peers| {
        let (control, cursor, resource, keeper) = (peers.seat(), peers.seat(), peers.seat(), peers.seat());
        let own: Mailbox<transport::Message> = peers.spawner.mailbox();
        let sends = to(
            own.open::<transport::Devices>(Badge(0)),
            NewLink(Box::new(FakeLink::new(LinkConfig::default(), Box::new(|_| true)))),
        );
        let actor = Transport::new(control.cap(), cursor.cap(), resource.cap(), keeper.cap());
        peers.spawner.start("transport", own, actor);
        peers.sit::<ctrlq::Message>(control);
        peers.sit::<cursorq::Message>(cursor);
        peers.sit::<resource::Message>(resource);
        peers.sit::<keeper::Message>(keeper);
        vec![sends]
    });
}

#[test]
fn the_control_queue_tells_everybody_else() {
    each_may_go(|peers| {
        let (transport, resource, display) = (peers.seat(), peers.seat(), peers.seat());
        let own: Mailbox<ctrlq::Message> = peers.spawner.mailbox();
        let up = Event::Up { features: 0, configuration: Vec::new() };
        let sends = to(own.open::<ctrlq::FromTransport>(Badge(0)), up);
        let (commands, complaints) = (transport.cap(), transport.cap());
        let patience = Duration::from_secs(1);
        let actor = ControlQueue::new(pool(), patience, commands, complaints, resource.cap(), display.cap());
        peers.spawner.start("control queue", own, actor);
        peers.sit::<transport::Message>(transport);
        peers.sit::<resource::Message>(resource);
        peers.sit::<display::Message>(display);
        vec![sends]
    });
}

#[test]
fn a_context_tells_everybody_else() {
    each_may_go(|peers| {
        let (control, scheme) = (peers.seat(), peers.seat());
        let own: Mailbox<context::Message> = peers.spawner.mailbox();
        let request = || own.open::<context::FromScheme>(Badge(0));
        let name = DebugName::new("test");
        let sends = vec![
            to(request(), context::Request::Open { name, capset: 0 }),
            to(request(), context::Request::Close),
        ];
        let finish = Box::new(|| ());
        peers.spawner.start("context", own, Context::new(control.cap(), scheme.cap(), None, finish));
        peers.sit::<ctrlq::Message>(control);
        peers.sit::<scheme::Message>(scheme);
        sends
    });
}

#[test]
fn the_resource_actor_tells_everybody_else() {
    each_may_go(|peers| {
        let (control, transport) = (peers.seat(), peers.seat());
        let (scheme, display) = (peers.seat(), peers.seat());
        let own: Mailbox<resource::Message> = peers.spawner.mailbox();
        let up = ResourceEvent::Up { features: Feature::VIRGL, capsets: 0 };
        let sends = to(own.open::<resource::FromControl>(Badge(0)), up);
        let actor = Resources::new(
            SystemConfig::default().resources,
            control.cap(),
            control.cap(),
            transport.cap(),
            scheme.cap(),
            display.cap(),
        );
        peers.spawner.start("resource", own, actor);
        peers.sit::<ctrlq::Message>(control);
        peers.sit::<transport::Message>(transport);
        peers.sit::<scheme::Message>(scheme);
        peers.sit::<display::Message>(display);
        vec![sends]
    });
}

#[test]
fn the_display_tells_everybody_else() {
    each_may_go(|peers| {
        let (scheme, control) = (peers.seat(), peers.seat());
        let (cursor, resource) = (peers.seat(), peers.seat());
        let own: Mailbox<display::Message> = peers.spawner.mailbox();
        let control_says = |event| to(own.open::<display::FromControl>(Badge(0)), event);
        let scheme_says = |request| to(own.open::<display::FromScheme>(Badge(0)), request);
        let (file, token) = (FileId(1), Token(1));
        let call = |call| scheme_says(Request::Call { file, token, call });
        let connectors = vec![44];
        let show = SetCrtc { crtc: 40, framebuffer: 256, position: (0, 0), connectors, mode: Some(mode()) };
        let sends = vec![
            control_says(ControlEvent::Up { features: 0, scanouts: 1 }),
            scheme_says(Request::Opened { file, privileged: false }),
            call(Call::AddFramebuffer(framebuffer())),
            call(Call::SetCrtc(show)),
            // The device has shown it: what it is asked is numbered.
            control_says(ControlEvent::Transferred { token: Token(1), result: Ok(()) }),
            control_says(ControlEvent::Flushed { token: Token(2), result: Ok(()) }),
            scheme_says(Request::Closed { file }),
        ];
        let actor =
            Display::new(Presentation::Scanout, scheme.cap(), control.cap(), cursor.cap(), resource.cap());
        peers.spawner.start("display", own, actor);
        peers.sit::<scheme::Message>(scheme);
        peers.sit::<ctrlq::Message>(control);
        peers.sit::<cursorq::Message>(cursor);
        peers.sit::<resource::Message>(resource);
        sends
    });
}

/// 64 by 64 pixels of a dumb buffer.
fn framebuffer() -> NewFramebuffer {
    let bytes = 64 * 64 * 4;
    let region = Region { id: RegionId(1), memory: HeapMemory::new(bytes), address: Some(0x1000) };
    let length = bytes as u64;
    let backing = Backing { region, offset: 0, length, isolated: true, device: None };
    let image = Some(Image { resource: ResourceId(1), bytes: length, pixels: Pixels::Memory(backing) });
    let format = u32::from_le_bytes(*b"XR24");
    NewFramebuffer {
        width: 64,
        height: 64,
        format,
        flags: 0,
        pitch: 256,
        offset: 0,
        modifiers: [0; 4],
        image,
    }
}

#[test]
fn the_scheme_tells_everybody_else() {
    each_may_go(|peers| {
        let (door, resource, display) = (peers.seat(), peers.seat(), peers.seat());
        let own: Mailbox<scheme::Message> = peers.spawner.mailbox();
        let file = FileId(1);
        let (node, credentials) = (Node::Card, Credentials { pid: 1, uid: 1, gid: 1 });
        let door_says = |event| to(own.open::<scheme::FromDoor>(Badge(0)), event);
        let sends = vec![
            door_says(DoorEvent::Opened { file, node, credentials }),
            door_says(DoorEvent::Closed { file }),
        ];
        let contexts = Contexts { start: Box::new(|_| unreachable!()), end: Box::new(|_| unreachable!()) };
        let limits = SystemConfig::default().scheme;
        let actor = Scheme::new(limits, door.cap(), resource.cap(), display.cap(), contexts);
        peers.spawner.start("scheme", own, actor);
        peers.sit::<door::Message>(door);
        peers.sit::<resource::Message>(resource);
        peers.sit::<display::Message>(display);
        sends
    });
}
