//! The reading end of a channel's ring, and its slots.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use virgld_protocol::channel::{
    ANSWER_BYTES, ANSWERS_OFFSET, ASKED, CHANNEL_BYTES, DOORBELL_WANTED, FILE_SHARED, HEAD, HEARD, RETIRED,
    ROOM_WANTED, SLOT_ANSWERED, SLOT_SLEEPING, SLOT_STRIDE, SLOTS, SLOTS_OFFSET, Slot, TAIL,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::FenceKey;
use virgld_runtime::memory::{Memory, full_barrier};
use zerocopy::IntoBytes;

use super::record::{Broken, Cursor, Found, next};
use crate::host::memory::{MemoryError, SharedMemory};

/// The memory of a channel, as the daemon uses it.
pub(super) struct Ring {
    memory: Arc<SharedMemory>,
    cursor: Cursor,
    /// The serials of the calls that wait for an answer, by slot, and the ioctl if it is one.
    pending: [Option<Pending>; SLOTS],
}

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    /// Serial of its record.
    pub(super) serial: u64,
    /// The number of the ioctl; none for a service.
    pub(super) ioctl: Option<u8>,
    /// The fence, given in advance, that it named.
    pub(super) fence_out: Option<FenceKey>,
}

impl Ring {
    /// A channel's memory, new. The daemon sleeps, as far as its client knows.
    pub(super) fn new() -> Result<Self, MemoryError> {
        let memory = SharedMemory::new("virgld channel", CHANNEL_BYTES)?;
        let ring = Self { memory, cursor: Cursor::default(), pending: [None; SLOTS] };
        ring.word(DOORBELL_WANTED).store(1, Ordering::Release);
        Ok(ring)
    }

    /// The memory.
    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// The next record.
    pub(super) fn next(&self) -> Result<Option<Found>, Broken> {
        let tail = self.counter(TAIL).load(Ordering::Acquire);
        if tail == self.cursor.head { Ok(None) } else { next(&*self.memory, self.cursor, tail) }
    }

    /// Whether the client has written more than was taken; cheap.
    pub(super) fn has_more(&self) -> bool {
        self.counter(TAIL).load(Ordering::Acquire) != self.cursor.head
    }

    /// The record has been copied: its place in the ring is free.
    pub(super) fn advance(&mut self, after: Cursor) {
        self.cursor = after;
        self.counter(HEAD).store(after.head, Ordering::Release);
    }

    /// Wakes clients that wait for room, after any number of [`Ring::advance`].
    pub(super) fn tell_room(&self) {
        // Pairs with the client's: it says that it wants room, then looks at the head once more.
        full_barrier();
        let wanted = self.word(ROOM_WANTED);
        if wanted.load(Ordering::Relaxed) != 0 {
            wanted.store(0, Ordering::Relaxed);
            let _ = self.memory.wake_waiters(HEAD, u32::MAX);
        }
    }

    /// Says whether the client is to ring the doorbell after its next record.
    pub(super) fn want_doorbell(&self, wanted: bool) {
        self.word(DOORBELL_WANTED).store(u32::from(wanted), Ordering::Release);
    }

    /// Tells a client that has asked whether anybody is there.
    pub(super) fn hear(&self) {
        self.word(HEARD).store(self.word(ASKED).load(Ordering::Acquire), Ordering::Release);
    }

    /// Notes that a call waits in `slot`.
    pub(super) fn expect(&mut self, slot: u8, pending: Pending) -> Result<(), Broken> {
        match self.pending.get_mut(usize::from(slot)) {
            Some(place @ None) => {
                *place = Some(pending);
                Ok(())
            }
            _ => Err(Broken::Slot),
        }
    }

    /// Whether a call waits in `slot`.
    pub(super) fn is_pending(&self, slot: u8) -> bool {
        self.pending.get(usize::from(slot)).is_some_and(Option::is_some)
    }

    /// The call that waits in `slot`, which is about to be answered.
    pub(super) fn take_pending(&mut self, slot: u8) -> Option<Pending> {
        self.pending.get_mut(usize::from(slot))?.take()
    }

    /// Answers, and wakes the caller if it sleeps.
    pub(super) fn answer(&self, slot: u8, result: Result<&[&[u8]], Errno>, descriptors: u32) {
        let (slot, mut bytes) = (usize::from(slot), 0);
        let mut errno = 0;
        match result {
            Ok(parts) => {
                for part in parts {
                    // PANIC-free: what does not fit was refused by the caller, and is cut here at worst.
                    let room = &part[..part.len().min(ANSWER_BYTES - bytes)];
                    let _ = self.memory.write(ANSWERS_OFFSET + slot * ANSWER_BYTES + bytes, room);
                    bytes += room.len();
                }
            }
            Err(error) => errno = error.0,
        }
        let header = SLOTS_OFFSET + slot * SLOT_STRIDE;
        let filled = Slot { state: 0, errno, bytes: u32::try_from(bytes).unwrap_or(0), descriptors };
        // All but the state, which is swapped last.
        let _ = self.memory.write(header + size_of::<u32>(), &filled.as_bytes()[size_of::<u32>()..]);
        if self.word(header).swap(SLOT_ANSWERED, Ordering::AcqRel) == SLOT_SLEEPING {
            let _ = self.memory.wake_waiters(header, 1);
        }
    }

    /// Tells the client what has retired.
    pub(super) fn retire(&self, serial: u64) {
        self.counter(RETIRED).store(serial, Ordering::Release);
    }

    /// Tells the client that it is not alone.
    pub(super) fn mark_shared(&self) {
        self.word(FILE_SHARED).store(1, Ordering::Release);
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // PANIC: all offsets are constants of the channel, aligned and inside its memory.
        self.memory.word_32(offset).expect("a word of the channel")
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        // PANIC: as above.
        self.memory.word_64(offset).expect("a counter of the channel")
    }
}
