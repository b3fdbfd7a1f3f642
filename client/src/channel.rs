//! One process's channel to one DRM file.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virgld_protocol::channel::{
    ANSWER_BYTES, ASKED, Attachment, FILE_SHARED, HEARD, Hello, KIND_IOCTL, KIND_SERVICE, MAGIC, RETIRED,
    VERSION, Welcome,
};
use virgld_protocol::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use crate::errno::Outcome;
use crate::map::Arenas;
use crate::memory::Memory;
use crate::nodes::Node;
use crate::own::OwnFd;
use crate::patience::{self, GLANCE, Patience, Verdict};
use crate::remembered::Remembered;
use crate::ring::{Heading, Part, Peer, Ring};
use crate::slots::{Lease, Slots};
use crate::stock::{Pledge, Room};
use crate::{socket, sys};

/// A channel.
pub(crate) struct Channel {
    /// The DRM file: the inode of the connection.
    pub(crate) inode: u64,
    /// The largest bulk array that the daemon takes.
    pub(crate) largest_bulk: usize,
    /// Memory that was mapped before.
    pub(crate) arenas: Mutex<Arenas>,
    /// Fences of this file, as far as they are remembered: inodes of pipes.
    pub(crate) fences: Mutex<Remembered>,
    memory: Memory,
    line: Line,
    slots: Slots,
    ring: Mutex<Ring>,
    restocking: Mutex<()>,
    arrivals: Mutex<Vec<(u64, Vec<OwnFd>)>>,
}

/// The descriptors of a channel.
struct Line {
    node: Node,
    /// The daemon's process, if that can be seen from here.
    daemon: Option<i32>,
    socket: OwnFd,
    doorbell: OwnFd,
    /// The daemon was found gone, or was given up: it does not come back to this file.
    gone: AtomicBool,
}

/// A file was found lost, at any time.
static ANY_LOST: AtomicBool = AtomicBool::new(false);

/// Whether any file of this process was ever found lost.
pub(crate) fn any_lost() -> bool {
    ANY_LOST.load(Ordering::Relaxed)
}

/// An answer: where its bytes are, until it is dropped, and what came with it.
pub(crate) struct Answered<'a> {
    lease: Lease<'a>,
    memory: &'a Memory,
    /// How many bytes there are.
    pub(crate) bytes: usize,
    /// The descriptors.
    pub(crate) descriptors: Vec<OwnFd>,
}

impl Channel {
    /// Opens a channel on the connection `fd` to `node`, whose inode is `inode`.
    pub(crate) fn open(fd: RawFd, inode: u64, node: Node) -> Outcome<Self> {
        let (ours, theirs) = socket::pair()?;
        let mut patience = Patience::begin(0);
        let daemon = socket::peer_process(fd);
        let mut wait = || {
            if patience.lasts() {
                return Ok(());
            }
            patience::tell(node.name(), daemon);
            // There is no channel that could be marked lost.
            socket::shut_down(fd);
            Err(Errno::EIO)
        };
        let hello = Hello { magic: MAGIC, version: VERSION };
        socket::send(fd, hello.as_bytes(), &[theirs.raw()], &mut wait)?;
        drop(theirs);
        let mut welcome = Welcome::new_zeroed();
        let packet = socket::await_packet(ours.raw(), welcome.as_mut_bytes(), &mut wait)?;
        let known = welcome.magic == MAGIC && welcome.version == VERSION;
        if packet.bytes != size_of::<Welcome>() || !known {
            return Err(Errno::EIO);
        }
        let room = Room { buffers: welcome.stock_buffers as usize, bytes: welcome.stock_bytes.into() };
        let [memory, doorbell] = <[OwnFd; 2]>::try_from(packet.descriptors).map_err(|_| Errno::EMFILE)?;
        Ok(Self {
            inode,
            largest_bulk: welcome.largest_bulk as usize,
            arenas: Mutex::default(),
            memory: Memory::map(&memory)?,
            fences: Mutex::default(),
            line: Line { node, daemon, socket: ours, doorbell, gone: AtomicBool::new(false) },
            slots: Slots::new(),
            ring: Mutex::new(Ring::new(room)),
            restocking: Mutex::default(),
            arrivals: Mutex::default(),
        })
    }

    /// Whether the daemon still holds its end, and was not given up.
    pub(crate) fn lives(&self) -> bool {
        self.line.lives()
    }

    /// Whether the daemon holds its end no more: there is nothing to be kept in mind of this file.
    pub(crate) fn is_over(&self) -> bool {
        self.line.is_over()
    }

    /// Whether the file was found lost before.
    pub(crate) fn is_gone(&self) -> bool {
        self.line.is_gone()
    }

    /// Begins to wait for something of the daemon's.
    pub(crate) fn patience(&self) -> Patience {
        self.line.patience(&self.memory)
    }

    /// Looks whether it is still worth waiting; an error if not.
    pub(crate) fn look(&self, patience: &mut Patience) -> Outcome<()> {
        self.line.look(&self.memory, patience)
    }

    /// The right to write records, for as long as it is held.
    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer { channel: self, ring: self.ring.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// The right to ask for fences in advance: threads that find none must not all do it at once.
    pub(crate) fn restocking(&self) -> MutexGuard<'_, ()> {
        self.restocking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call and waits for its answer.
    pub(crate) fn call(
        &self,
        kind: u16,
        number: u8,
        parts: &[Part],
        descriptors: &[RawFd],
    ) -> Outcome<Answered<'_>> {
        let lease = self.slots.take(&self.memory);
        let heading = Heading { kind, number, slot: lease.number(), descriptors: descriptors.len() };
        let serial = self.writer().post(heading, parts, descriptors)?;
        self.answer(lease, serial)
    }

    /// Like [`Channel::call`], but for an ioctl that uses `handles`.
    pub(crate) fn call_using(
        &self,
        number: u8,
        parts: &[Part],
        descriptors: &[RawFd],
        handles: &[u32],
    ) -> Outcome<Answered<'_>> {
        let lease = self.slots.take(&self.memory);
        let heading =
            Heading { kind: KIND_IOCTL, number, slot: lease.number(), descriptors: descriptors.len() };
        let mut writer = self.writer();
        let serial = writer.post(heading, parts, descriptors)?;
        handles.iter().for_each(|handle| writer.ring.handles.used(*handle, serial));
        drop(writer);
        self.answer(lease, serial)
    }

    /// Begins a call whose answer is wanted later, if there is a slot to spare.
    pub(crate) fn begin(
        &self,
        writer: &mut Writer<'_>,
        kind: u16,
        number: u8,
        parts: &[Part],
    ) -> Outcome<Option<Pledge>> {
        let Some(lease) = self.slots.spare(&self.memory) else { return Ok(None) };
        let heading = Heading { kind, number, slot: lease.number(), descriptors: 0 };
        let serial = writer.post(heading, parts, &[])?;
        Ok(Some(Pledge { slot: lease.keep(), serial }))
    }

    /// Whether the answer to a call that was begun is there.
    pub(crate) fn is_answered(&self, pledge: &Pledge) -> bool {
        let lease = self.slots.resume(&self.memory, pledge.slot);
        let answered = lease.is_answered();
        lease.keep();
        answered
    }

    /// Waits for the answer to a call that was begun.
    pub(crate) fn finish(&self, pledge: &Pledge) -> Outcome<Answered<'_>> {
        self.answer(self.slots.resume(&self.memory, pledge.slot), pledge.serial)
    }

    /// Asks for a service of the channel itself.
    pub(crate) fn service(
        &self,
        service: u8,
        payload: &[u8],
        descriptors: &[RawFd],
    ) -> Outcome<Answered<'_>> {
        self.call(KIND_SERVICE, service, &[Part::own(payload)], descriptors)
    }

    /// The serial up to which everything asynchronous has retired.
    pub(crate) fn retired(&self) -> u64 {
        self.memory.word_64(RETIRED).load(Ordering::Acquire)
    }

    /// Whether another process uses the same file.
    pub(crate) fn is_shared(&self) -> bool {
        self.memory.word_32(FILE_SHARED).load(Ordering::Acquire) != 0
    }

    fn answer<'a>(&'a self, lease: Lease<'a>, serial: u64) -> Outcome<Answered<'a>> {
        // A program that makes a thousand calls after the daemon's end waits once and not a thousand times.
        let glance = if self.is_gone() { 0 } else { GLANCE };
        let mut patience = None;
        let slot =
            lease.wait(SPINS, glance, || self.look(patience.get_or_insert_with(|| self.patience())))?;
        let descriptors = match slot.descriptors {
            0 => Vec::new(),
            _ => self.collect(serial)?,
        };
        if !descriptors.is_empty() {
            let mut fences = self.fences.lock().unwrap_or_else(PoisonError::into_inner);
            descriptors.iter().filter_map(OwnFd::pipe).for_each(|inode| fences.remember(inode));
        }
        match slot.errno {
            0 => {
                let bytes = (slot.bytes as usize).min(ANSWER_BYTES);
                Ok(Answered { lease, memory: &self.memory, bytes, descriptors })
            }
            errno => Err(Errno(errno)),
        }
    }

    /// The descriptors that came with the answer to `serial`. They were sent before the answer was given, so they
    /// are there; another thread may have found them when it looked for its own.
    fn collect(&self, serial: u64) -> Outcome<Vec<OwnFd>> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(index) = arrivals.iter().position(|(other, _)| *other == serial) {
                return Ok(arrivals.swap_remove(index).1);
            }
            let mut attachment = Attachment::new_zeroed();
            let packet = socket::receive(self.line.socket.raw(), attachment.as_mut_bytes())?;
            let packet = packet.filter(|packet| packet.bytes > 0).ok_or(Errno::EIO)?;
            arrivals.push((attachment.serial, packet.descriptors));
        }
    }
}

/// The writing end of a channel, held by one thread.
pub(crate) struct Writer<'a> {
    channel: &'a Channel,
    /// What goes with the order of the records.
    pub(crate) ring: MutexGuard<'a, Ring>,
}

impl Writer<'_> {
    /// Writes one record.
    pub(crate) fn post(&mut self, heading: Heading, parts: &[Part], descriptors: &[RawFd]) -> Outcome<u64> {
        self.ring.post(&self.channel.memory, &self.channel.line, heading, parts, descriptors)
    }
}

impl Answered<'_> {
    /// Copies bytes of the answer into memory of our own.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) -> Outcome<()> {
        self.check(offset, into.len())?;
        self.memory.read(self.lease.answer_offset() + offset, into);
        Ok(())
    }

    /// Copies bytes of the answer into the program's memory.
    ///
    /// # Safety
    ///
    /// `length` bytes can be written to `into`.
    pub(crate) unsafe fn read_foreign(&self, offset: usize, into: *mut u8, length: usize) -> Outcome<()> {
        self.check(offset, length)?;
        // SAFETY: the caller's promise.
        unsafe { self.memory.copy_out(self.lease.answer_offset() + offset, into, length) };
        Ok(())
    }

    /// The one descriptor that must have come.
    pub(crate) fn descriptor(&mut self) -> Outcome<OwnFd> {
        // It was sent, so it is this process that has no room for it.
        self.descriptors.pop().ok_or(Errno::EMFILE)
    }

    fn check(&self, offset: usize, length: usize) -> Outcome<()> {
        let end = offset.checked_add(length).filter(|end| *end <= self.bytes);
        end.map(drop).ok_or(Errno::EIO)
    }
}

impl Peer for Line {
    fn ring_doorbell(&self) {
        // It fails only if the descriptor is gone, which `lives` finds out.
        let _ = sys::write(self.doorbell.raw(), &1_u64.to_ne_bytes());
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn patience(&self, memory: &Memory) -> Patience {
        Patience::begin(memory.word_32(HEARD).load(Ordering::Acquire))
    }

    fn look(&self, memory: &Memory, patience: &mut Patience) -> Outcome<()> {
        if !self.lives() {
            return Err(Errno::EIO);
        }
        match patience.look(memory.word_32(HEARD).load(Ordering::Acquire)) {
            Verdict::Wait => Ok(()),
            Verdict::Ask => {
                memory.word_32(ASKED).fetch_add(1, Ordering::Release);
                self.ring_doorbell();
                Ok(())
            }
            Verdict::GiveUp => {
                // Whoever is the first to find out says so.
                if self.lose() {
                    patience::tell(self.node.name(), self.daemon);
                }
                Err(Errno::EIO)
            }
        }
    }

    fn send_descriptors(&self, memory: &Memory, serial: u64, descriptors: &[RawFd]) -> Outcome<()> {
        let mut patience = self.patience(memory);
        socket::send(self.socket.raw(), Attachment { serial }.as_bytes(), descriptors, || {
            self.look(memory, &mut patience)
        })
    }
}

impl Line {
    fn lives(&self) -> bool {
        if self.is_over() {
            self.lose();
        }
        !self.is_gone()
    }

    fn is_over(&self) -> bool {
        sys::poll(self.socket.raw(), 0, 0) & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }

    /// Marks the file lost. Says whether it was not before.
    fn lose(&self) -> bool {
        ANY_LOST.store(true, Ordering::Relaxed);
        !self.gone.swap(true, Ordering::Relaxed)
    }
}

/// How often a caller looks for its answer before it sleeps: about as long as going to sleep would take.
const SPINS: u32 = 100;
