//! A device process and its control queue, driven from one thread.

use std::fmt;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use virgld_platform::host::process::{DeviceProcess, DeviceProgram};
use virgld_platform::host::reactor::Reactor;
use virgld_platform::host::vhost_user::{DeviceSetup, VhostUserLink, connect};
use virgld_programs::stop::{Stop, Verdict, ensure};
use virgld_protocol::device::{CONTROL_FLAG_FENCE, Code, Command, ControlHeader};
use virgld_protocol::message::transport::CONTROL_QUEUE;
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
    ring: Ring,
    reactor: Reactor,
    ready: Receiver<Ready>,
    events: Vec<LinkEvent>,
    /// One for each command that can be in flight; the device may write one until it has given it back.
    slots: Vec<DmaSlice>,
    free: Vec<u32>,
    fence: u64,
    opened: Option<u64>,
    _process: DeviceProcess,
}

impl Device {
    /// Starts a process of the kind that virgld starts, and connects as virgld does.
    pub(super) fn start() -> Verdict<Self> {
        let (process, socket) = DeviceProcess::start(&DeviceProgram::qemu(None), PATIENCE).map_err(failed)?;
        let reactor = Reactor::new()?;
        let (sender, ready) = mpsc::channel();
        let mut sink = || -> ReadySink {
            let sender = sender.clone();
            Box::new(move |ready| sender.send(ready).is_ok())
        };
        let link =
            connect(socket, &DeviceSetup::default(), &reactor.registrar(), &mut sink).map_err(failed)?;
        let area = link.queue(CONTROL_QUEUE).ok_or_else(|| Stop::failed("no control queue"))?;
        let ring = Ring::new(&area, RingFeatures::from_bits_truncate(link.features())).map_err(failed)?;
        let commands = link.commands();
        let classes = [SizeClass { size: SLOT, count: DEPTH }];
        let mut pool =
            DmaPool::new(commands.memory, commands.address, commands.offset, &classes).map_err(failed)?;
        let slots: Vec<_> = std::iter::from_fn(|| pool.take(SLOT)).collect();
        let free = (0..).take(slots.len()).collect();
        let events = Vec::new();
        Ok(Self {
            link,
            ring,
            reactor,
            ready,
            events,
            slots,
            free,
            fence: 0,
            opened: None,
            _process: process,
        })
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
        let slot = self.free.pop().ok_or_else(|| Stop::failed("no room for a command"))?;
        self.fence += u64::from(fenced);
        let header = ControlHeader {
            code: C::CODE,
            flags: if fenced { CONTROL_FLAG_FENCE } else { 0 },
            fence_id: if fenced { self.fence } else { 0 },
            ctx_id: CONTEXT,
            ..Default::default()
        };
        // PANIC: numbers of slots are all that is ever in `free`.
        let slice = &self.slots[slot as usize];
        slice.write(REQUEST, header.as_bytes()).map_err(failed)?;
        slice.write(REQUEST + HEADER, command.as_bytes()).map_err(failed)?;
        let segment = |offset, length| Segment::of(slice, offset, length).map_err(failed);
        let readable = [segment(REQUEST, HEADER + size_of::<C>())?];
        let writable = [segment(RESPONSE, HEADER)?];
        let table = Some(Table { slice, offset: 0 });
        let chain = Chain { readable: &readable, writable: &writable, table };
        self.ring.publish(&chain, slot).map(drop).map_err(failed)
    }

    /// Shows the device all that was posted.
    pub(super) fn flush(&mut self) -> Verdict {
        if self.ring.flush().map_err(failed)? {
            self.link.kick(CONTROL_QUEUE);
        }
        Ok(())
    }

    /// Waits until there is room for so many commands.
    pub(super) fn make_room(&mut self, commands: usize) -> Verdict {
        while self.free.len() < commands {
            self.flush()?;
            self.wait()?;
        }
        Ok(())
    }

    /// Waits until the device has answered everything.
    pub(super) fn drain(&mut self) -> Verdict {
        while self.free.len() < self.slots.len() {
            self.wait()?;
        }
        Ok(())
    }

    /// Waits until the device has answered something.
    fn wait(&mut self) -> Verdict {
        let before = self.free.len();
        loop {
            self.reap()?;
            if self.free.len() > before {
                return Ok(());
            }
            if self.ring.arm().map_err(failed)? {
                self.sleep()?;
            }
        }
    }

    fn reap(&mut self) -> Verdict {
        while let Some(used) = self.ring.pop().map_err(failed)? {
            let mut code = Code::default();
            // PANIC: the ring gives back the slots that were published, each once.
            self.slots[used.cookie as usize].read(RESPONSE, code.as_mut_bytes()).map_err(failed)?;
            self.free.push(used.cookie);
            ensure(code == Code::OK_NO_DATA, || format!("the device answered {:#x}", code.0))?;
        }
        Ok(())
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

fn failed(error: impl fmt::Display) -> Stop {
    Stop::failed(error.to_string())
}

const CONTEXT: u32 = 1;
const HEADER: usize = size_of::<ControlHeader>();
/// Bytes of a slot; the table of its chain comes first.
const SLOT: usize = 256;
const REQUEST: usize = Table::bytes(2);
const RESPONSE: usize = 192;
const PATIENCE: Duration = Duration::from_secs(10);
