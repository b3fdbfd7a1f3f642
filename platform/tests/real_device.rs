//! Against QEMU's vhost-user-gpu, which renders on the processor: no GPU and no virtual machine is needed.
#![allow(clippy::unwrap_used, reason = "clippy sees no test in the helpers of an integration test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rustix::event::{PollFd, PollFlags};
use virgld_platform::host::memory::SharedMemory;
use virgld_platform::host::process::{DeviceProcess, DeviceProgram, DeviceSocket};
use virgld_platform::host::reactor::Reactor;
use virgld_platform::host::vhost_user::{
    ConnectError, DeviceSetup, Request, VhostUserLink, connect, dial, gpu_feature,
};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::link::{Link, LinkEvent, QueueArea, Region, RegionId};
use virgld_runtime::memory::{Memory, full_barrier};

/// A device, and a loop that an actor would be run by.
struct Bench {
    process: DeviceProcess,
    reactor: Reactor,
    heard: Receiver<Ready>,
    link: VhostUserLink,
    events: Vec<LinkEvent>,
    avail: u16,
    regions: BTreeMap<RegionId, Region>,
}

impl Bench {
    fn new() -> Self {
        Self::with(&DeviceSetup::default())
    }

    fn with(setup: &DeviceSetup) -> Self {
        let (process, socket) = DeviceProcess::start(&DeviceProgram::qemu(None), DEADLINE)
            .unwrap_or_else(|error| panic!("these tests need QEMU's device: {error}"));
        let reactor = Reactor::new().unwrap();
        let (sender, heard) = unbounded();
        let mut sink = || -> ReadySink {
            let sender = sender.clone();
            Box::new(move |ready| sender.send(ready).is_ok())
        };
        let link = connect(socket, setup, &reactor.registrar(), &mut sink)
            .unwrap_or_else(|error| panic!("handshake: {error}"));
        Self { process, reactor, heard, link, events: Vec::new(), avail: 0, regions: BTreeMap::new() }
    }

    /// One turn of the loop; fails the test at the deadline.
    fn turn(&mut self, end: Instant) {
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing more came; so far: {:?}", self.events);
        self.reactor.wait(Some(left), || ()).unwrap();
        for ready in self.heard.try_iter() {
            self.link.ready(ready.0, &mut self.events);
        }
    }

    /// Runs the loop until an event is as wanted, and takes it out.
    fn until(&mut self, mut wanted: impl FnMut(&LinkEvent) -> bool) -> LinkEvent {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(place) = self.events.iter().position(&mut wanted) {
                return self.events.remove(place);
            }
            self.turn(end);
        }
    }

    fn opened(&mut self, id: u64) -> Region {
        let this = RegionId(id);
        let is = |event: &LinkEvent| matches!(event, LinkEvent::RegionOpened(region) if region.id == this);
        match self.until(is) {
            LinkEvent::RegionOpened(region) => {
                self.regions.insert(this, region.clone());
                region
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// Sends one command through the control queue and waits for its answer by the interrupt. Returns the
    /// answer and how long it took.
    fn command(&mut self, request: &[u8], answer_bytes: u32) -> (Vec<u8>, Duration) {
        let queue = self.link.queue(0).unwrap();
        let commands = self.link.commands();
        let (ask, answer) = (commands.offset, commands.offset + 4096);
        commands.memory.write(ask, request).unwrap();
        let length = u32::try_from(request.len()).unwrap();
        descriptor(&queue, 0, commands.address + ask as u64, length, 1, 1);
        descriptor(&queue, 1, commands.address + answer as u64, answer_bytes, 2, 0);
        let slot = queue.available + 4 + 2 * usize::from(self.avail % queue.size);
        queue.memory.store_u16(slot, 0).unwrap();
        // The interrupt for the entry to come.
        let event = queue.available + 4 + 2 * usize::from(queue.size);
        queue.memory.store_u16(event, self.avail).unwrap();
        self.avail = self.avail.wrapping_add(1);
        queue.memory.store_u16(queue.available + 2, self.avail).unwrap();
        full_barrier();
        let start = Instant::now();
        self.link.kick(0);
        while queue.memory.load_u16(queue.used + 2).unwrap() != self.avail {
            self.until(|event| matches!(event, LinkEvent::Interrupt { queue: 0 }));
        }
        let took = start.elapsed();
        let mut bytes = vec![0; answer_bytes as usize];
        commands.memory.read(answer, &mut bytes).unwrap();
        (bytes, took)
    }

    fn capset_info(&mut self, index: u32) -> (Vec<u32>, Duration) {
        let (bytes, took) = self.command(&words(&[0x108, 0, 0, 0, 0, 0, index, 0]), 40);
        (bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect(), took)
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn descriptor(queue: &QueueArea, index: usize, address: u64, length: u32, flags: u16, next: u16) {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    queue.memory.write(queue.descriptors + 16 * index, &bytes).unwrap();
}

fn median(mut durations: Vec<Duration>) -> (Duration, Duration) {
    durations.sort();
    (durations[durations.len() / 2], durations[durations.len() * 99 / 100])
}

#[test]
fn handshake_capsets_and_interrupts() {
    let mut bench = Bench::new();
    let features = bench.link.features();
    for bit in [0, 28, 29, 30, 32] {
        assert_ne!(features & 1 << bit, 0, "feature bit {bit} of {features:#x}");
    }
    assert_eq!(bench.link.configuration(), words(&[0, 0, 1, 2]));
    assert!(bench.link.queue(1).is_some() && bench.link.queue(2).is_none());
    assert!(bench.link.commands().size >= 24 << 20);
    let (info, _) = bench.capset_info(0);
    assert_eq!((info[0], &info[6..9]), (0x1102, &[1, 1, 308][..]));
    let (info, _) = bench.capset_info(1);
    assert_eq!((info[0], &info[6..9]), (0x1102, &[2, 2, 1376][..]));
    let times = (0..1000).map(|_| bench.capset_info(0).1).collect();
    println!("MEASURED command round trip by interrupt (median, p99): {:?}", median(times));
    let (info, _) = bench.command(&words(&[0x100, 0, 0, 0, 0, 0]), 408);
    assert_eq!(info[..4], words(&[0x1101]));
    assert_eq!(info[32..44], words(&[1280, 800, 1]), "the display that we told of");
    println!("MEASURED display {:?}", bench.link.display_counts());
}

#[test]
fn a_region_is_opened_used_and_closed() {
    let mut bench = Bench::new();
    bench.link.open_region(RegionId(1), 4 << 20, true);
    let region = bench.opened(1);
    assert_eq!(region.memory.size(), 4 << 20);
    let address = region.address.expect("a place in the device");
    // The device reads a command from it and writes the answer into it.
    let queue = bench.link.queue(0).unwrap();
    region.memory.write(0, &words(&[0x108, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    descriptor(&queue, 0, address, 32, 1, 1);
    descriptor(&queue, 1, address + (4 << 20) - 40, 40, 2, 0);
    queue.memory.store_u16(queue.available + 4, 0).unwrap();
    queue.memory.store_u16(queue.available + 2, 1).unwrap();
    bench.avail = 1;
    bench.link.kick(0);
    while queue.memory.load_u16(queue.used + 2).unwrap() != 1 {
        // One comes unasked when the queue is started.
        bench.until(|event| matches!(event, LinkEvent::Interrupt { queue: 0 }));
    }
    let mut answer = [0; 4];
    region.memory.read((4 << 20) - 40, &mut answer).unwrap();
    assert_eq!(answer.as_slice(), words(&[0x1102]));
    bench.link.close_region(RegionId(1));
    assert_eq!(bench.capset_info(0).0[0], 0x1102, "the queues are where they were");
}

#[test]
fn beyond_the_places_of_the_device_regions_have_no_address() {
    let mut bench = Bench::new();
    for id in 0..40 {
        bench.link.open_region(RegionId(id), 64 << 10, true);
    }
    let optional: Vec<bool> = (0..40).map(|id| bench.opened(id).address.is_some()).collect();
    assert_eq!(optional.iter().filter(|placed| **placed).count(), 27, "32 places, one taken, four kept back");
    for id in 40..45 {
        bench.link.open_region(RegionId(id), 64 << 10, false);
    }
    let needed: Vec<bool> = (40..45).map(|id| bench.opened(id).address.is_some()).collect();
    assert_eq!(needed, [true, true, true, true, false]);
    bench.link.close_region(RegionId(3));
    bench.link.open_region(RegionId(50), 64 << 10, false);
    assert!(bench.opened(50).address.is_some(), "a place that was given back");
    assert_eq!(bench.capset_info(0).0[0], 0x1102);
}

/// A region goes while another one backs a resource that is used before and after.
#[test]
fn closing_a_region_leaves_others_in_use_alone() {
    let mut bench = Bench::new();
    for id in 1..=3 {
        bench.link.open_region(RegionId(id), 1 << 20, true);
    }
    let regions: Vec<Region> = (1..=3).map(|id| bench.opened(id)).collect();
    let kept = regions[2].clone();
    let no_data = |bench: &mut Bench, request: &[u32]| {
        let answer = bench.command(&words(request), 24).0;
        assert_eq!(answer[..4], words(&[0x1100]), "answer to {:#x}", request[0]);
    };
    let address = kept.address.unwrap();
    let low = u32::try_from(address & u64::from(u32::MAX)).unwrap();
    let high = u32::try_from(address >> 32).unwrap();
    no_data(
        &mut bench,
        &[0x200, 0, 0, 0, 1, 0, 4, 0, 0x74736574, 0, 0, 0, 0, 0, 0, 0]
            .into_iter()
            .chain([0; 8])
            .collect::<Vec<u32>>(),
    );
    // RESOURCE_CREATE_3D: a buffer of 4096 bytes, format R8, bind vertex buffer.
    no_data(&mut bench, &[0x204, 0, 0, 0, 1, 0, 7, 0, 64, 16, 4096, 1, 1, 1, 0, 0, 0, 0]);
    no_data(&mut bench, &[0x106, 0, 0, 0, 0, 0, 7, 1, low, high, 4096, 0]);
    no_data(&mut bench, &[0x202, 0, 0, 0, 1, 0, 7, 0]);
    let transfer = |code| [code, 0, 0, 0, 1, 0, 0, 0, 0, 4096, 1, 1, 0, 0, 7, 0, 0, 0];
    for (round, id) in [(1, 1), (2, 2)] {
        kept.memory.write(0, &[round; 4096]).unwrap();
        no_data(&mut bench, &transfer(0x205));
        bench.link.close_region(RegionId(id));
        kept.memory.write(0, &[0; 4096]).unwrap();
        no_data(&mut bench, &transfer(0x206));
        let mut bytes = [9; 4096];
        kept.memory.read(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == round), "round {round}: {:?}", &bytes[..8]);
    }
}

#[test]
fn a_thousand_regions_one_after_another() {
    let mut bench = Bench::new();
    let mut open_times = Vec::new();
    for id in 0..1000 {
        let start = Instant::now();
        bench.link.open_region(RegionId(id), 4 << 20, true);
        let region = bench.opened(id);
        open_times.push(start.elapsed());
        assert!(region.address.is_some(), "region {id}");
        bench.link.close_region(RegionId(id));
    }
    println!("MEASURED open_region of 4 MiB to RegionOpened (median, p99): {:?}", median(open_times));
    assert_eq!(bench.capset_info(0).0[0], 0x1102);
}

#[test]
fn memory_outlives_its_device() {
    let memory = SharedMemory::new("survivor", 4096).unwrap();
    memory.write(0, b"kept").unwrap();
    // The first opened it; those that follow have it at the same place, and what they open themselves elsewhere.
    let region = Region { id: RegionId(9), memory: memory.clone(), address: Some(3 << 36) };
    for _ in 0..2 {
        let mut bench = Bench::new();
        bench.link.admit_region(region.clone());
        assert_eq!(bench.opened(9).address, region.address);
        bench.link.open_region(RegionId(10), 4096, false);
        assert_eq!(bench.opened(10).address, Some(4 << 36));
        bench.link.admit_region(Region { address: Some(12345), ..region.clone() });
        assert_eq!(bench.opened(9).address, None);
    }
    let mut bytes = [0; 4];
    memory.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
}

#[test]
fn a_killed_device_is_down_at_once_and_only_once() {
    let mut bench = Bench::new();
    let start = Instant::now();
    rustix::process::kill_process(bench.process.id(), rustix::process::Signal::KILL).unwrap();
    let down = bench.until(|event| matches!(event, LinkEvent::Down { .. }));
    println!("MEASURED kill to Down: {:?}, {down:?}", start.elapsed());
    // The sockets close before the process is gone.
    let end = bench.process.end();
    rustix::event::poll(&mut [PollFd::from_borrowed_fd((*end).as_fd(), PollFlags::IN)], None).unwrap();
    assert_eq!(bench.process.ended().unwrap(), "was killed by signal 9");
    // What was heard before it died.
    bench.events.clear();
    bench.link.kick(0);
    bench.link.open_region(RegionId(1), 4096, false);
    bench.link.close_region(RegionId(1));
    while bench.reactor.wait(Some(Duration::from_millis(20)), || ()).unwrap() > 0 {
        for ready in bench.heard.try_iter() {
            bench.link.ready(ready.0, &mut bench.events);
        }
    }
    assert!(bench.events.is_empty(), "{:?}", bench.events);
}

#[test]
fn a_mask_drops_features_and_bad_set_ups_are_refused() {
    let bench = Bench::with(&DeviceSetup { gpu_features: gpu_feature::VIRGL, ..DeviceSetup::default() });
    assert_eq!(bench.link.features() & gpu_feature::ALL, gpu_feature::VIRGL);
    let bad = DeviceSetup { control_entries: 100, ..DeviceSetup::default() };
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(matches!(attempt(ours, &bad), ConnectError::BadSetup { value: 100, .. }));
}

#[test]
fn a_device_without_3d_is_refused_with_the_remedy() {
    let mut program = DeviceProgram::qemu(None);
    program.arguments.clear();
    let (_process, socket) = DeviceProcess::start(&program, DEADLINE).unwrap();
    let error = attempt(socket, &DeviceSetup::default());
    assert!(matches!(error, ConnectError::Lacks { .. }), "{error}");
    assert!(error.to_string().contains("--virgl --render-node=/dev/null"), "{error}");
}

#[test]
fn a_device_that_cannot_render_is_told() {
    let mut program = DeviceProgram::qemu(None);
    program.arguments.truncate(1);
    let (_process, socket) = DeviceProcess::start(&program, DEADLINE).unwrap();
    let error = attempt(socket, &DeviceSetup::default());
    assert!(matches!(error, ConnectError::Closed { step: Request::SET_FEATURES }), "{error}");
}

#[test]
fn a_device_that_listens_at_a_path_is_reached_and_leaves_nothing() {
    let folder = std::env::temp_dir().join(format!("virgld-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("device.sock");
    drop(UnixListener::bind(&path).unwrap());
    let mut program = DeviceProgram::qemu(None);
    program.socket = DeviceSocket::Listening(path.clone());
    for _ in 0..2 {
        let (process, socket) = DeviceProcess::start(&program, DEADLINE).unwrap();
        let reactor = Reactor::new().unwrap();
        let mut sink = || -> ReadySink { Box::new(|_| true) };
        let link = connect(socket, &DeviceSetup::default(), &reactor.registrar(), &mut sink).unwrap();
        assert!(link.queue(0).is_some());
        drop(process);
        assert!(!path.exists());
    }
    std::fs::remove_dir(&folder).unwrap();
}

#[test]
fn a_path_where_nobody_listens_is_told() {
    let error = dial(Path::new("/nonexistent/device.sock")).unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/device.sock") && error.contains("vhost-user-gpu --virgl"),
        "{error}"
    );
}

#[test]
fn a_peer_that_says_nothing_is_left_at_the_deadline() {
    let setup = DeviceSetup { step_deadline: Duration::from_millis(50), ..DeviceSetup::default() };
    for said in [words(&[]), words(&[1, 5, 8]), words(&[1, 5, 8, 0])] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&said).unwrap();
        let start = Instant::now();
        let error = attempt(ours, &setup);
        assert!(matches!(error, ConnectError::Silent { step: Request::GET_FEATURES, .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_peer_that_closes_in_the_middle_is_told_with_the_step() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // All features, then half an answer to GET_PROTOCOL_FEATURES.
    theirs.write_all(&words(&[1, 5, 8, u32::MAX, 1, 15, 5, 8])).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let error = attempt(ours, &DeviceSetup::default());
    assert!(matches!(error, ConnectError::Closed { step: Request::GET_PROTOCOL_FEATURES }), "{error}");
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let error = attempt(ours, &DeviceSetup::default());
    assert!(matches!(error, ConnectError::Closed { step: Request::SET_OWNER }), "{error}");
}

#[test]
fn a_peer_that_babbles_is_refused() {
    for said in [[2, 5, 8, 0, 0], [1, 1, 8, 0, 0], [1, 5, 4, 0, 0], [1, 6, 8, 0, 0]] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&words(&said)).unwrap();
        let error = attempt(ours, &DeviceSetup::default());
        assert!(matches!(error, ConnectError::Malformed { step: Request::GET_FEATURES, .. }), "{error}");
    }
}

fn attempt(socket: UnixStream, setup: &DeviceSetup) -> ConnectError {
    let reactor = Reactor::new().unwrap();
    let mut sink = || -> ReadySink { Box::new(|_| true) };
    connect(socket, setup, &reactor.registrar(), &mut sink).err().expect("a refusal")
}

const DEADLINE: Duration = Duration::from_secs(30);
