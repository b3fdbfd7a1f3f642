//! Against a scripted device that does what real ones rarely do: refuse, lie, fall silent, die in parts.
#![allow(clippy::unwrap_used, reason = "clippy sees no test in the helpers of an integration test")]

use std::collections::HashMap;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use virgld_platform::host::reactor::Reactor;
use virgld_platform::host::vhost_user::{ConnectError, DeviceSetup, Request, VhostUserLink, connect};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::link::{Link, LinkEvent, Region, RegionId};

/// The device's side, after the handshake.
struct Device {
    socket: UnixStream,
    /// The descriptors it was given, by request and queue.
    files: HashMap<(u32, u8), OwnedFd>,
}

/// What the device is to be like.
#[derive(Clone, Copy)]
struct Manners {
    protocol: u64,
    slots: u64,
    refuses: Option<Request>,
}

const POLITE: Manners = Manners { protocol: 0x8209, slots: 32, refuses: None };

impl Device {
    /// Serves messages until `until` has been answered or the connection ends.
    fn serve(socket: UnixStream, manners: Manners, until: (Request, u8)) -> Self {
        let mut device = Self { socket, files: HashMap::new() };
        while let Some((request, flags, payload)) = device.message() {
            device.answer(manners, request, flags, &payload);
            let first = payload.first().copied().unwrap_or_default();
            if (Request(request), first) == until {
                break;
            }
        }
        device
    }

    fn message(&mut self) -> Option<(u32, u32, Vec<u8>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut header = [0; 12];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
        let got = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut header)], &mut control, flags).ok()?;
        if got.bytes < header.len() {
            return None;
        }
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(8) as usize];
        self.socket.read_exact(&mut payload).ok()?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                let which = payload.first().copied().unwrap_or_default();
                self.files.extend(files.map(|file| ((word(0), which), file)));
            }
        }
        Some((word(0), word(4), payload))
    }

    fn answer(&mut self, manners: Manners, request: u32, flags: u32, payload: &[u8]) {
        let code = match Request(request) {
            Request::GET_FEATURES => 0x1_7000_0001,
            Request::GET_PROTOCOL_FEATURES => manners.protocol,
            Request::GET_QUEUE_NUM => 2,
            Request::GET_MAX_MEM_SLOTS => manners.slots,
            Request::GET_CONFIG => return self.say(request, payload),
            _ if flags & 8 == 0 => return,
            request => u64::from(manners.refuses == Some(request)),
        };
        self.say(request, &code.to_ne_bytes());
    }

    fn say(&mut self, request: u32, payload: &[u8]) {
        let size = u32::try_from(payload.len()).unwrap();
        let header = [request, 5, size].map(u32::to_ne_bytes).concat();
        // The other side may have had enough of us.
        let _ = self.socket.write_all(&[&header, payload].concat());
    }

    fn confirm_all(&mut self, manners: Manners, count: usize) {
        for _ in 0..count {
            let (request, flags, payload) = self.message().unwrap();
            self.answer(manners, request, flags, &payload);
        }
    }
}

struct Bench {
    reactor: Reactor,
    heard: Receiver<Ready>,
    link: VhostUserLink,
    events: Vec<LinkEvent>,
}

impl Bench {
    fn new(manners: Manners) -> (Self, Device) {
        let (bench, device) = Self::attempt(manners);
        (bench.unwrap_or_else(|error| panic!("handshake: {error}")), device)
    }

    fn attempt(manners: Manners) -> (Result<Self, ConnectError>, Device) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let device: JoinHandle<Device> =
            std::thread::spawn(move || Device::serve(theirs, manners, (Request::SET_VRING_ENABLE, 1)));
        let reactor = Reactor::new().unwrap();
        let (sender, heard) = unbounded();
        let mut sink = || -> ReadySink {
            let sender = sender.clone();
            Box::new(move |ready| sender.send(ready).is_ok())
        };
        let setup = DeviceSetup { command_bytes: 4096, ..DeviceSetup::default() };
        let link = connect(ours, &setup, &reactor.registrar(), &mut sink);
        let bench = link.map(|link| Self { reactor, heard, link, events: Vec::new() });
        (bench, device.join().unwrap())
    }

    /// Runs the loop until there are `count` events.
    fn events(&mut self, count: usize) -> Vec<LinkEvent> {
        let end = Instant::now() + Duration::from_secs(20);
        while self.events.len() < count {
            assert!(Instant::now() < end, "no more than {:?}", self.events);
            self.reactor.wait(Some(Duration::from_millis(100)), || ()).unwrap();
            for ready in self.heard.try_iter() {
                self.link.ready(ready.0, &mut self.events);
            }
        }
        std::mem::take(&mut self.events)
    }

    fn down(&mut self, word: &str) {
        match self.events(1).as_slice() {
            [LinkEvent::Down { reason }] => assert!(reason.contains(word), "{reason}"),
            other => panic!("expected Down, not {other:?}"),
        }
    }

    fn addresses(&mut self, count: usize) -> Vec<Option<u64>> {
        let region = |event| match event {
            LinkEvent::RegionOpened(Region { address, .. }) => address,
            other => panic!("expected a region, not {other:?}"),
        };
        self.events(count).into_iter().map(region).collect()
    }
}

#[test]
fn without_slots_or_confirmations_regions_have_no_address() {
    for protocol in [0x209, 0x201, 0x8201, 0x200] {
        let (mut bench, _device) = Bench::new(Manners { protocol, ..POLITE });
        bench.link.open_region(RegionId(1), 4096, false);
        assert_eq!(bench.addresses(1), [None]);
        bench.link.close_region(RegionId(1));
    }
}

#[test]
fn every_confirmed_step_can_be_refused() {
    let steps = [
        Request::SET_FEATURES,
        Request::SET_MEM_TABLE,
        Request::SET_VRING_NUM,
        Request::SET_VRING_ADDR,
        Request::SET_VRING_KICK,
        Request::SET_VRING_ENABLE,
    ];
    for step in steps {
        let (outcome, _) = Bench::attempt(Manners { refuses: Some(step), ..POLITE });
        match outcome.err().unwrap() {
            ConnectError::Refused { step: refused, code: 1 } => assert_eq!(refused, step),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn regions_are_answered_in_order_and_a_refused_one_has_no_address() {
    let (mut bench, mut device) = Bench::new(POLITE);
    for id in 1..=3 {
        bench.link.open_region(RegionId(id), 4096, false);
    }
    device.confirm_all(POLITE, 1);
    device.confirm_all(Manners { refuses: Some(Request::ADD_MEM_REG), ..POLITE }, 1);
    device.confirm_all(POLITE, 1);
    assert_eq!(bench.addresses(3), [Some(2 << 36), None, Some(4 << 36)]);
    // The refused one is not removed; a removal that is refused harms nobody.
    for id in 1..=3 {
        bench.link.close_region(RegionId(id));
    }
    device.confirm_all(Manners { refuses: Some(Request::REM_MEM_REG), ..POLITE }, 2);
    bench.link.open_region(RegionId(4), 4096, false);
    device.confirm_all(POLITE, 1);
    assert_eq!(bench.addresses(1), [Some(5 << 36)], "no address is used twice");
}

#[test]
fn a_device_that_does_not_answer_blocks_nothing_and_catches_up() {
    let (mut bench, mut device) = Bench::new(Manners { slots: 10_000, ..POLITE });
    let start = Instant::now();
    for id in 0..500 {
        bench.link.open_region(RegionId(id), 4096, false);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let device = std::thread::spawn(move || {
        device.confirm_all(POLITE, 500);
        device
    });
    assert!(bench.addresses(500).iter().all(Option::is_some));
    device.join().unwrap();
}

#[test]
fn the_end_of_the_main_socket_is_down() {
    let (mut bench, device) = Bench::new(POLITE);
    device.socket.shutdown(std::net::Shutdown::Both).unwrap();
    bench.down("closed the connection");
}

#[test]
fn the_end_of_the_display_socket_alone_is_down() {
    let (mut bench, mut device) = Bench::new(POLITE);
    assert!(device.files.remove(&(Request::GPU_SET_SOCKET.0, 0)).is_some());
    bench.down("display socket");
}

#[test]
fn a_broken_queue_is_down() {
    let (mut bench, device) = Bench::new(POLITE);
    let error = &device.files[&(Request::SET_VRING_ERR.0, 1)];
    rustix::io::write(error, &1_u64.to_ne_bytes()).unwrap();
    bench.down("queue 1");
}

#[test]
fn answers_that_nobody_asked_for_and_wrong_ones_are_down() {
    let (mut bench, mut device) = Bench::new(POLITE);
    device.say(Request::ADD_MEM_REG.0, &[0; 8]);
    bench.down("unasked");
    for (request, payload) in [(Request::REM_MEM_REG, 8), (Request::ADD_MEM_REG, 16), (Request(999), 8)] {
        let (mut bench, mut device) = Bench::new(POLITE);
        bench.link.open_region(RegionId(1), 4096, false);
        device.say(request.0, &vec![0; payload]);
        bench.down("malformed");
    }
}

#[test]
fn each_interrupt_is_told_with_its_queue() {
    let (mut bench, device) = Bench::new(POLITE);
    for which in [1, 0, 1] {
        let call = &device.files[&(Request::SET_VRING_CALL.0, which)];
        rustix::io::write(call, &1_u64.to_ne_bytes()).unwrap();
        let queue = u16::from(which);
        match bench.events(1).as_slice() {
            [LinkEvent::Interrupt { queue: told }] => assert_eq!(*told, queue),
            other => panic!("expected an interrupt, not {other:?}"),
        }
    }
    bench.link.kick(1);
    let mut count = [0; 8];
    rustix::io::read(&device.files[&(Request::SET_VRING_KICK.0, 1)], &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
}

#[test]
fn memory_that_the_system_cannot_give_is_refused() {
    let (mut bench, _device) = Bench::new(POLITE);
    bench.link.open_region(RegionId(1), usize::MAX, false);
    assert!(matches!(bench.events(1).as_slice(), [LinkEvent::RegionRefused { id: RegionId(1), .. }]));
}
