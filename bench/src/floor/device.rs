//! A device process and its queues, driven from one thread.

use std::fmt;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use virgld_platform::host::process::{DeviceProcess, DeviceProgram};
use virgld_platform::host::reactor::Reactor;
use virgld_platform::host::vhost_user::{DeviceSetup, VhostUserLink, connect, gpu_feature};
use virgld_programs::stop::{Stop, Verdict, ensure};
use virgld_protocol::device::{CONTROL_FLAG_FENCE, Code, Command, ControlHeader, UpdateCursor};
use virgld_protocol::message::transport::{CONTROL_QUEUE, CURSOR_QUEUE};
use virgld_runtime::dma::{DmaPool, DmaSlice, SizeClass};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::link::{Link, LinkEvent, RegionId};
use virgld_transport::ring::{Chain, Ring, RingFeatures, Segment, Table};
use zerocopy::IntoBytes;

use crate::case::DEPTH;

/// A running device.
pub(super) struct Device {
    // Before the process: it ends by itself when the connection does.
    link: VhostUserLink,
    control: Lane,
    cursor: Lane,
    reactor: Reactor,
    ready: Receiver<Ready>,
    events: Vec<LinkEvent>,
    fence: u64,
    opened: Option<u64>,
    _process: DeviceProcess,
}

/// A queue, and the memory for what is in it.
struct Lane {
    ring: Ring,
    /// One for each command that can be in flight; the device may write one until it has given it back.
    slots: Vec<DmaSlice>,
    free: Vec<u32>,
    queue: u16,
}

impl Device {
    /// Starts a process of the kind that virgld starts, and connects as virgld does.
    pub(super) fn start() -> Verdict<Self> {
        Self::start_as(&DeviceProgram::qemu(None), &DeviceSetup::default())
    }

    /// The same without 3D: it sends the pixels that it shows.
    pub(super) fn start_without_3d() -> Verdict<Self> {
        let setup = DeviceSetup { gpu_features: gpu_feature::EDID, ..DeviceSetup::default() };
        Self::start_as(&DeviceProgram::qemu_without_3d(), &setup)
    }

    fn start_as(program: &DeviceProgram, setup: &DeviceSetup) -> Verdict<Self> {
        let (process, socket) = DeviceProcess::start(program, PATIENCE).map_err(failed)?;
        let reactor = Reactor::new()?;
        let (sender, ready) = mpsc::channel();
        let mut sink = || -> ReadySink {
            let sender = sender.clone();
            Box::new(move |ready| sender.send(ready).is_ok())
        };
        let link = connect(socket, setup, &reactor.registrar(), &mut sink).map_err(failed)?;
        let commands = link.commands();
        let classes = [SizeClass { size: SLOT, count: DEPTH + CURSOR_DEPTH }];
        let mut pool =
            DmaPool::new(commands.memory, commands.address, commands.offset, &classes).map_err(failed)?;
        let control = Lane::new(&link, CONTROL_QUEUE, &mut pool, DEPTH)?;
        let cursor = Lane::new(&link, CURSOR_QUEUE, &mut pool, CURSOR_DEPTH)?;
        let events = Vec::new();
        Ok(Self { link, control, cursor, reactor, ready, events, fence: 0, opened: None, _process: process })
    }

    /// What it is.
    pub(super) fn about(&self) -> String {
        format!("vhost-user-gpu, features {:#x}", self.link.features())
    }

    /// Memory that the device can reach. The answer is where it sees it.
    pub(super) fn open_region(&mut self, bytes: usize) -> Verdict<u64> {
        self.link.open_region(RegionId(1), bytes, false);
        loop {
            if let Some(address) = self.opened.take() {
                return Ok(address);
            }
            self.sleep()?;
        }
    }

    /// Adds a command to what the device sees at the next flush. There must be room.
    pub(super) fn post<C: Command>(&mut self, fenced: bool, command: &C) -> Verdict {
        self.fence += u64::from(fenced);
        let header = ControlHeader {
            code: C::CODE,
            flags: if fenced { CONTROL_FLAG_FENCE } else { 0 },
            fence_id: if fenced { self.fence } else { 0 },
            ctx_id: CONTEXT,
            ..Default::default()
        };
        self.control.post(&header, command.as_bytes())
    }

    /// Moves a pointer, as soon as the device has not two moves before it.
    pub(super) fn move_cursor(&mut self, place: &UpdateCursor) -> Verdict {
        while self.cursor.free.is_empty() {
            self.wait(CURSOR_QUEUE)?;
        }
        let header = ControlHeader { code: Code::MOVE_CURSOR, ..Default::default() };
        self.cursor.post(&header, place.as_bytes())?;
        if self.cursor.ring.flush().map_err(failed)? {
            self.link.kick(CURSOR_QUEUE);
        }
        Ok(())
    }

    /// Shows the device all that was posted.
    pub(super) fn flush(&mut self) -> Verdict {
        if self.control.ring.flush().map_err(failed)? {
            self.link.kick(CONTROL_QUEUE);
        }
        Ok(())
    }

    /// Waits until there is room for so many commands.
    pub(super) fn make_room(&mut self, commands: usize) -> Verdict {
        while self.control.free.len() < commands {
            self.flush()?;
            self.wait(CONTROL_QUEUE)?;
        }
        Ok(())
    }

    /// Waits until the device has answered everything.
    pub(super) fn drain(&mut self) -> Verdict {
        for queue in [CONTROL_QUEUE, CURSOR_QUEUE] {
            while self.lane(queue).free.len() < self.lane(queue).slots.len() {
                self.wait(queue)?;
            }
        }
        Ok(())
    }

    /// Waits until the device has given back something of a queue.
    fn wait(&mut self, queue: u16) -> Verdict {
        let before = self.lane(queue).free.len();
        loop {
            let lane = self.lane(queue);
            lane.reap()?;
            if lane.free.len() > before {
                return Ok(());
            }
            if lane.ring.arm().map_err(failed)? {
                self.sleep()?;
            }
        }
    }

    fn lane(&mut self, queue: u16) -> &mut Lane {
        if queue == CURSOR_QUEUE { &mut self.cursor } else { &mut self.control }
    }

    /// Sleeps until the device has something to say.
    fn sleep(&mut self) -> Verdict {
        let woken = self.reactor.wait(Some(PATIENCE), || ())?;
        ensure(woken > 0, || format!("the device was silent for {PATIENCE:?}"))?;
        while let Ok(ready) = self.ready.try_recv() {
            self.link.ready(ready.0, &mut self.events);
        }
        for event in self.events.drain(..) {
            match event {
                LinkEvent::Down { reason } | LinkEvent::RegionRefused { reason, .. } => {
                    return Err(Stop::failed(reason));
                }
                LinkEvent::RegionOpened(region) => {
                    let none = || Stop::failed("the device has no room for memory");
                    self.opened = Some(region.address.ok_or_else(none)?);
                }
                LinkEvent::Interrupt { .. } | LinkEvent::ConfigurationChanged => {}
            }
        }
        Ok(())
    }
}

impl Lane {
    fn new(link: &VhostUserLink, queue: u16, pool: &mut DmaPool, depth: usize) -> Verdict<Self> {
        let area = link.queue(queue).ok_or_else(|| Stop::failed(format!("no queue {queue}")))?;
        let ring = Ring::new(&area, RingFeatures::from_bits_truncate(link.features())).map_err(failed)?;
        let slots: Vec<_> = std::iter::from_fn(|| pool.take(SLOT)).take(depth).collect();
        let free = (0..).take(slots.len()).collect();
        Ok(Self { ring, slots, free, queue })
    }

    fn post(&mut self, header: &ControlHeader, command: &[u8]) -> Verdict {
        let slot = self.free.pop().ok_or_else(|| Stop::failed("no room for a command"))?;
        // PANIC: numbers of slots are all that is ever in `free`.
        let slice = &self.slots[slot as usize];
        slice.write(REQUEST, header.as_bytes()).map_err(failed)?;
        slice.write(REQUEST + HEADER, command).map_err(failed)?;
        let segment = |offset, length| Segment::of(slice, offset, length).map_err(failed);
        let readable = [segment(REQUEST, HEADER + command.len())?];
        let writable = [segment(RESPONSE, HEADER)?];
        // Devices give the commands of the cursor queue back and answer nothing.
        let writable = if self.queue == CURSOR_QUEUE { &writable[..0] } else { &writable[..] };
        let table = Some(Table { slice, offset: 0 });
        let chain = Chain { readable: &readable, writable, table };
        self.ring.publish(&chain, slot).map(drop).map_err(failed)
    }

    fn reap(&mut self) -> Verdict {
        while let Some(used) = self.ring.pop().map_err(failed)? {
            self.free.push(used.cookie);
            if self.queue == CURSOR_QUEUE {
                continue;
            }
            let mut code = Code::default();
            // PANIC: the ring gives back the slots that were published, each once.
            self.slots[used.cookie as usize].read(RESPONSE, code.as_mut_bytes()).map_err(failed)?;
            ensure(code == Code::OK_NO_DATA, || format!("the device answered {:#x}", code.0))?;
        }
        Ok(())
    }
}

fn failed(error: impl fmt::Display) -> Stop {
    Stop::failed(error.to_string())
}

const CONTEXT: u32 = 1;
/// How many moves the device has at most, as with virgld.
const CURSOR_DEPTH: usize = 2;
const HEADER: usize = size_of::<ControlHeader>();
/// Bytes of a slot; the table of its chain comes first.
const SLOT: usize = 256;
const REQUEST: usize = Table::bytes(2);
const RESPONSE: usize = 192;
const PATIENCE: Duration = Duration::from_secs(10);
