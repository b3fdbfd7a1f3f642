//! The writing end of a channel's ring.

use std::sync::atomic::{Ordering, fence};

use virgld_protocol::channel::{
    DOORBELL_WANTED, HEAD, KIND_FILLER, MAX_RECORD, NO_SLOT, RECORD_ALIGN, RING_BYTES, RING_OFFSET,
    ROOM_WANTED, Record, TAIL,
};
use virgld_protocol::errno::Errno;
use zerocopy::IntoBytes;

use crate::errno::Outcome;
use crate::fences::Fences;
use crate::handles::Handles;
use crate::memory::Memory;
use crate::patience::{GLANCE, Patience};
use crate::stock::{Room, Stock};

/// Bytes of a payload that lie somewhere in this process, perhaps in the program's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    start: *const u8,
    length: usize,
}

impl Part {
    /// Nothing.
    pub(crate) const EMPTY: Self = Self { start: std::ptr::null(), length: 0 };

    /// `length` bytes of the program's at `start`.
    ///
    /// # Safety
    ///
    /// They can be read until the part is used.
    pub(crate) unsafe fn foreign(start: *const u8, length: usize) -> Self {
        Self { start, length }
    }

    /// Our own bytes. They must be there when the part is used.
    pub(crate) fn own(bytes: &[u8]) -> Self {
        Self { start: bytes.as_ptr(), length: bytes.len() }
    }
}

/// What a record says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heading {
    /// `KIND_*`.
    pub(crate) kind: u16,
    /// Ioctl or service.
    pub(crate) number: u8,
    /// Slot for the answer, or [`NO_SLOT`].
    pub(crate) slot: u8,
    /// How many descriptors go with it.
    pub(crate) descriptors: usize,
}

impl Heading {
    /// Of an ioctl that wants no answer.
    pub(crate) fn silent(number: u8, descriptors: usize) -> Self {
        Self { kind: virgld_protocol::channel::KIND_IOCTL, number, slot: NO_SLOT, descriptors }
    }
}

/// What the thread that writes a record holds: the ring's state, and what depends on the order of the records.
pub(crate) struct Ring {
    tail: u64,
    head: u64,
    serial: u64,
    /// What is known of the file's handles.
    pub(crate) handles: Handles,
    /// Fences in advance.
    pub(crate) fences: Fences,
    /// Buffers in advance.
    pub(crate) stock: Stock,
    /// Room for the handles that a submit names.
    pub(crate) named: Vec<u32>,
}

/// Why a full ring or a sleeping daemon is no reason to wait for ever.
pub(crate) trait Peer {
    /// Rings the daemon's doorbell.
    fn ring_doorbell(&self);
    /// Whether it was found gone before.
    fn is_gone(&self) -> bool;
    /// Begins to wait for something.
    fn patience(&self, memory: &Memory) -> Patience;
    /// Looks whether it is still worth waiting; an error if not.
    fn look(&self, memory: &Memory, patience: &mut Patience) -> Outcome<()>;
    /// Sends the descriptors of the record `serial`. Waits while there is no room.
    fn send_descriptors(&self, memory: &Memory, serial: u64, descriptors: &[i32]) -> Outcome<()>;
}

impl Ring {
    /// An empty ring, with `room` for buffers in advance.
    pub(crate) fn new(room: Room) -> Self {
        let (handles, fences, stock) = (Handles::default(), Fences::default(), Stock::new(room));
        Self { tail: 0, head: 0, serial: 0, handles, fences, stock, named: Vec::new() }
    }

    /// The serial of the next record.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial + 1
    }

    /// Writes one record and tells the daemon. Waits while there is no room. Returns the record's serial.
    pub(crate) fn post(
        &mut self,
        memory: &Memory,
        peer: &impl Peer,
        heading: Heading,
        parts: &[Part],
        descriptors: &[i32],
    ) -> Outcome<u64> {
        let payload: usize = parts.iter().map(|part| part.length).sum();
        let length = (size_of::<Record>() + payload).next_multiple_of(RECORD_ALIGN);
        if length > MAX_RECORD {
            return Err(Errno::ENOMEM);
        }
        if peer.is_gone() {
            return Err(Errno::EIO);
        }
        let rest = RING_BYTES - self.position();
        let filler = if length > rest { rest } else { 0 };
        self.make_room(memory, peer, filler + length)?;
        let serial = self.next_serial();
        if !descriptors.is_empty() {
            // Before the record can be seen: whoever takes it finds them there.
            peer.send_descriptors(memory, serial, descriptors)?;
        }
        if filler > 0 {
            self.write_head(memory, filler, KIND_FILLER, Heading::silent(0, 0), 0, 0);
            self.tail += filler as u64;
        }
        self.write_head(memory, length, heading.kind, heading, serial, payload);
        let mut at = RING_OFFSET + self.position() + size_of::<Record>();
        for part in parts {
            // SAFETY: whoever made the part promised that it can be read; the range is inside the ring.
            unsafe { memory.copy_in(at, part.start, part.length) };
            at += part.length;
        }
        self.serial = serial;
        self.tail += length as u64;
        memory.word_64(TAIL).store(self.tail, Ordering::Release);
        // Pairs with the daemon's: it announces its sleep, then looks at the tail once more.
        fence(Ordering::SeqCst);
        let wanted = memory.word_32(DOORBELL_WANTED);
        if wanted.load(Ordering::Relaxed) != 0 && wanted.swap(0, Ordering::AcqRel) != 0 {
            peer.ring_doorbell();
        }
        Ok(serial)
    }

    fn position(&self) -> usize {
        usize::try_from(self.tail % RING_BYTES as u64).unwrap_or(0)
    }

    fn make_room(&mut self, memory: &Memory, peer: &impl Peer, bytes: usize) -> Outcome<()> {
        let mut patience = None;
        while RING_BYTES as u64 - (self.tail - self.head) < bytes as u64 {
            let head = memory.word_64(HEAD).load(Ordering::Acquire);
            if head < self.head || head > self.tail {
                return Err(Errno::EIO);
            }
            if head != self.head {
                (self.head, patience) = (head, None);
                continue;
            }
            memory.word_32(ROOM_WANTED).store(1, Ordering::Relaxed);
            // Pairs with the daemon's: it advances the head, then looks whether room is wanted.
            fence(Ordering::SeqCst);
            if memory.word_64(HEAD).load(Ordering::Acquire) == head {
                let [a, b, c, d, ..] = head.to_le_bytes();
                let patience = patience.get_or_insert_with(|| peer.patience(memory));
                memory.sleep(HEAD, u32::from_le_bytes([a, b, c, d]), GLANCE);
                if memory.word_64(HEAD).load(Ordering::Acquire) == head {
                    peer.look(memory, patience)?;
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "all lengths are bounded by MAX_RECORD")]
    fn write_head(
        &self,
        memory: &Memory,
        length: usize,
        kind: u16,
        heading: Heading,
        serial: u64,
        payload: usize,
    ) {
        let record = Record {
            length: length as u32,
            kind,
            number: heading.number,
            slot: heading.slot,
            serial,
            payload: payload as u32,
            descriptors: heading.descriptors as u32,
            reserved: 0,
        };
        memory.write(RING_OFFSET + self.position(), record.as_bytes());
    }
}
