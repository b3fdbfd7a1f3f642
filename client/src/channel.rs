//! One process's channel to one DRM file.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virgld_protocol::channel::{
    ANSWER_BYTES, Attachment, FILE_SHARED, Hello, KIND_IOCTL, KIND_SERVICE, MAGIC, RETIRED, VERSION, Welcome,
};
use virgld_protocol::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use crate::errno::Outcome;
use crate::map::Arenas;
use crate::memory::Memory;
use crate::own::OwnFd;
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
    memory: Memory,
    line: Line,
    slots: Slots,
    ring: Mutex<Ring>,
    restocking: Mutex<()>,
    arrivals: Mutex<Vec<(u64, Vec<OwnFd>)>>,
}

/// The descriptors of a channel.
struct Line {
    socket: OwnFd,
    doorbell: OwnFd,
    /// The daemon was found gone: it does not come back to this file.
    gone: AtomicBool,
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
    /// Opens a channel on the connection `fd`, whose inode is `inode`.
    pub(crate) fn open(fd: RawFd, inode: u64) -> Outcome<Self> {
        let (ours, theirs) = socket::pair()?;
        socket::send(fd, Hello { magic: MAGIC, version: VERSION }.as_bytes(), &[theirs.raw()])?;
        drop(theirs);
        let mut welcome = Welcome::new_zeroed();
        let packet = loop {
            match socket::receive(ours.raw(), welcome.as_mut_bytes())? {
                Some(packet) => break packet,
                None => drop(sys::poll(ours.raw(), libc::POLLIN, 100)),
            }
        };
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
            line: Line { socket: ours, doorbell, gone: AtomicBool::new(false) },
            slots: Slots::new(),
            ring: Mutex::new(Ring::new(room)),
            restocking: Mutex::default(),
            arrivals: Mutex::default(),
        })
    }

    /// Whether the daemon still holds its end.
    pub(crate) fn lives(&self) -> bool {
        self.line.lives()
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
        number: u8,
        parts: &[Part],
    ) -> Outcome<Option<Pledge>> {
        let Some(lease) = self.slots.spare(&self.memory) else { return Ok(None) };
        let heading = Heading { kind: KIND_IOCTL, number, slot: lease.number(), descriptors: 0 };
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
        let patience = if self.line.gone.load(Ordering::Relaxed) { 0 } else { GLANCE };
        let slot = lease.wait(SPINS, patience, || self.lives())?;
        let descriptors = match slot.descriptors {
            0 => Vec::new(),
            _ => self.collect(serial)?,
        };
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

    fn lives(&self) -> bool {
        let lives =
            sys::poll(self.socket.raw(), 0, 0) & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) == 0;
        if !lives {
            self.gone.store(true, Ordering::Relaxed);
        }
        lives
    }

    fn send_descriptors(&self, serial: u64, descriptors: &[RawFd]) -> Outcome<()> {
        socket::send(self.socket.raw(), Attachment { serial }.as_bytes(), descriptors)
    }
}

/// How often a caller looks for its answer before it sleeps: about as long as going to sleep would take.
const SPINS: u32 = 100;
/// How often one that waits looks whether the daemon is still there, in milliseconds.
const GLANCE: u32 = 100;
