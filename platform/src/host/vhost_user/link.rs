//! The connection to a device that is set up and running.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use virgld_runtime::io::ReadySink;
use virgld_runtime::link::{CommandArea, Link, LinkEvent, QueueArea, Region, RegionId};
use zerocopy::FromBytes;

use super::display::{Display, DisplayCounts, Drained};
use super::message::Header;
use super::regions::Regions;
use super::wire::receive;
use crate::host::memory::SharedMemory;
use crate::host::reactor::{Interest, Registrar, Registration, Source, Trigger, signal};

/// A running virtio-gpu device behind a vhost-user socket. Dropping it closes the connection, at which the
/// device process ends; its memory lives on for whoever holds it.
///
/// An interrupt may come without a used buffer: QEMU's device sends one per queue when it is started.
///
/// After [`LinkEvent::Down`] it reports nothing of the device any more, and regions that were being opened are
/// never answered for: the transport is to be restarted with a new link.
pub struct VhostUserLink {
    // Before what they watch, so that they are dropped first.
    nudge_watch: Registration,
    display_watch: Registration,
    others: Vec<Registration>,
    parts: Parts,
    answer: Answer,
    /// Known already, to be told at the next `ready`, which the nudge brings about.
    known: Vec<LinkEvent>,
    nudge: Arc<OwnedFd>,
    down: bool,
}

/// What the handshake yields.
pub(super) struct Parts {
    pub(super) socket: Arc<OwnedFd>,
    pub(super) display: Display,
    pub(super) queues: Vec<Queue>,
    pub(super) commands: CommandArea,
    pub(super) regions: Regions,
    pub(super) features: u64,
    pub(super) configuration: Vec<u8>,
}

/// One queue and the eventfds that go with it.
pub(super) struct Queue {
    pub(super) area: QueueArea,
    pub(super) kick: OwnedFd,
    pub(super) call: Arc<OwnedFd>,
    pub(super) error: Arc<OwnedFd>,
}

impl VhostUserLink {
    pub(super) fn new(
        parts: Parts,
        registrar: &Registrar,
        sink: &mut dyn FnMut() -> ReadySink,
    ) -> Result<Self, Errno> {
        let mut watch = |source: Source, interest, token| {
            registrar.register(source, interest, Trigger::Edge, token, sink())
        };
        let nudge = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let nudge_watch = watch(nudge.clone(), Interest::Read, NUDGE)?;
        parts.display.monitor().connect(nudge.clone());
        let display_watch = watch(parts.display.socket(), Interest::Read, DISPLAY)?;
        let mut others = vec![watch(parts.socket.clone(), Interest::ReadWrite, MAIN)?];
        for (index, queue) in (0..).zip(&parts.queues) {
            others.push(watch(queue.call.clone(), Interest::Read, CALL + index)?);
            others.push(watch(queue.error.clone(), Interest::Read, ERROR + index)?);
        }
        let (answer, known) = (Answer::default(), Vec::new());
        Ok(Self { nudge_watch, display_watch, others, parts, answer, known, nudge, down: false })
    }

    /// What the device wanted shown so far.
    pub fn display_counts(&self) -> DisplayCounts {
        self.parts.display.counts()
    }

    /// Has the event told at the next `ready`, and sees to it that there is one.
    fn tell(&mut self, event: LinkEvent) {
        self.known.push(event);
        signal(&self.nudge);
    }

    fn fail(&mut self, reason: String) {
        if !self.down {
            self.down = true;
            self.others.clear();
            self.tell(LinkEvent::Down { reason });
        }
    }

    fn pump(&mut self) {
        if !self.down
            && let Err(error) = self.parts.regions.pump(&self.parts.socket)
        {
            self.fail(format!("the device takes no messages: {error}; restart it"));
        }
    }

    /// Takes the answers that have come on the main socket.
    fn hear(&mut self) -> Result<(), String> {
        loop {
            match receive(&self.parts.socket, self.answer.rest()) {
                Ok(0) | Err(Errno::CONNRESET) => {
                    return Err(
                        "the device closed the connection: it has died or was ended; restart it".into()
                    );
                }
                Ok(count) => self.answer.have += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(format!("the device's socket failed: {error}; restart it")),
            }
            if let Some((header, code)) = self.answer.take() {
                self.answered(header, code)?;
            }
        }
    }

    fn answered(&mut self, header: Header, code: u64) -> Result<(), String> {
        let Some(request) = self.parts.regions.expected() else {
            return Err(format!("the device sent {}, unasked; restart it", header.request));
        };
        header
            .check(request, size_of_val(&code))
            .map_err(|what| format!("the device's answer to {request} is malformed: {what}; restart it"))?;
        self.known.extend(self.parts.regions.answered(code));
        Ok(())
    }

    fn show(&mut self) {
        match self.parts.display.ready() {
            Ok(Drained::Empty) => {}
            Ok(Drained::More) => self.display_watch.rearm(),
            Err(end) => self.fail(end.to_string()),
        }
    }
}

impl Link for VhostUserLink {
    fn features(&self) -> u64 {
        self.parts.features
    }

    fn configuration(&self) -> &[u8] {
        &self.parts.configuration
    }

    fn queue(&self, index: u16) -> Option<QueueArea> {
        self.parts.queues.get(usize::from(index)).map(|queue| queue.area.clone())
    }

    fn commands(&self) -> CommandArea {
        self.parts.commands.clone()
    }

    fn kick(&mut self, queue: u16) {
        if let Some(queue) = self.parts.queues.get(usize::from(queue)) {
            signal(&queue.kick);
        }
    }

    fn open_region(&mut self, id: RegionId, bytes: usize, device_optional: bool) {
        match SharedMemory::new(&format!("virgld-region-{}", id.0), bytes) {
            Ok(memory) => match self.parts.regions.open(id, memory, device_optional) {
                None => self.pump(),
                Some(region) => self.tell(LinkEvent::RegionOpened(region)),
            },
            Err(error) => self.tell(LinkEvent::RegionRefused { id, reason: error.to_string() }),
        }
    }

    fn admit_region(&mut self, region: Region) {
        let Region { id, ref memory, address } = region;
        let shared = memory.clone().as_any().downcast::<SharedMemory>().ok();
        let admitted = match (shared, address) {
            (Some(memory), Some(address)) => self.parts.regions.admit(id, memory, address),
            _ => false,
        };
        if admitted {
            self.pump();
        } else {
            self.tell(LinkEvent::RegionOpened(Region { address: None, ..region }));
        }
    }

    fn close_region(&mut self, id: RegionId) {
        self.parts.regions.close(id);
        self.pump();
    }

    fn attached(&mut self) {
        // A device asks for the display's features as soon as it has a socket for that, and waits for the answer.
        self.display_watch.rearm();
        self.nudge_watch.rearm();
        self.others.iter().for_each(Registration::rearm);
    }

    fn ready(&mut self, token: u64, events: &mut Vec<LinkEvent>) {
        match token {
            NUDGE => {
                if self.parts.display.monitor().take_resized() {
                    events.push(LinkEvent::ConfigurationChanged);
                }
            }
            _ if self.down => {}
            MAIN => {
                if let Err(reason) = self.hear() {
                    self.fail(reason);
                }
                self.pump();
            }
            DISPLAY => self.show(),
            ERROR.. => self.fail(format!("the device declared queue {} broken; restart it", token - ERROR)),
            CALL.. => {
                if let Ok(queue) = u16::try_from(token - CALL) {
                    events.push(LinkEvent::Interrupt { queue });
                }
            }
            unknown => tracing::warn!(token = unknown, "readiness of something unknown"),
        }
        events.append(&mut self.known);
    }
}

/// An answer being received; all have the same size.
#[derive(Default)]
struct Answer {
    bytes: [u8; ANSWER],
    have: usize,
}

impl Answer {
    fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.have..]
    }

    /// The header and the code, once all has come.
    fn take(&mut self) -> Option<(Header, u64)> {
        if self.have < ANSWER {
            return None;
        }
        self.have = 0;
        let (header, code) = Header::read_from_prefix(&self.bytes).ok()?;
        Some((header, u64::read_from_bytes(code).ok()?))
    }
}

/// A header and a code of 64 bits.
const ANSWER: usize = Header::SIZE + 8;

const MAIN: u64 = 1;
const DISPLAY: u64 = 2;
const NUDGE: u64 = 3;
const CALL: u64 = 1 << 16;
const ERROR: u64 = 2 << 16;
