//! The slots of a channel: where calls wait for their answers.

use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};

use virgld_protocol::channel::{
    ANSWER_BYTES, ANSWERS_OFFSET, SLOT_ANSWERED, SLOT_FREE, SLOT_PENDING, SLOT_SLEEPING, SLOT_STRIDE, SLOTS,
    SLOTS_OFFSET, Slot,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::errno::Outcome;
use crate::memory::Memory;

/// Which slots are free.
pub(crate) struct Slots {
    free: Mutex<u64>,
    freed: Condvar,
}

const _: () = assert!(SLOTS <= 64);

impl Slots {
    /// All of them.
    pub(crate) fn new() -> Self {
        Self { free: Mutex::new(u64::MAX >> (64 - SLOTS)), freed: Condvar::new() }
    }

    /// Takes a slot and makes it ready for an answer; waits while none is free.
    pub(crate) fn take<'a>(&'a self, memory: &'a Memory) -> Lease<'a> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        self.ready(&mut free, memory)
    }

    /// Takes a slot if half of them are free: for a call that nobody waits for yet.
    pub(crate) fn spare<'a>(&'a self, memory: &'a Memory) -> Option<Lease<'a>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        (free.count_ones() as usize * 2 > SLOTS).then(|| self.ready(&mut free, memory))
    }

    /// The lease of a slot that was kept.
    pub(crate) fn resume<'a>(&'a self, memory: &'a Memory, number: u8) -> Lease<'a> {
        Lease { slots: self, memory, index: number.into() }
    }

    fn ready<'a>(&'a self, free: &mut u64, memory: &'a Memory) -> Lease<'a> {
        // The lowest: the areas of those never used take no memory.
        let index = free.trailing_zeros();
        *free &= !(1 << index);
        let lease = Lease { slots: self, memory, index };
        lease.state().store(SLOT_PENDING, Ordering::Release);
        lease
    }
}

/// A slot in use by one call.
pub(crate) struct Lease<'a> {
    slots: &'a Slots,
    memory: &'a Memory,
    index: u32,
}

impl Lease<'_> {
    /// Its number, as a record names it.
    pub(crate) fn number(&self) -> u8 {
        self.index.to_le_bytes()[0]
    }

    /// Keeps the slot for [`Slots::resume`].
    pub(crate) fn keep(self) -> u8 {
        let number = self.number();
        std::mem::forget(self);
        number
    }

    /// Whether the answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        self.state().load(Ordering::Acquire) == SLOT_ANSWERED
    }

    /// Waits for the answer: looks for a short while, then sleeps. Each time that so many milliseconds have passed, or a
    /// signal came, `look` says whether there is still somebody to answer.
    pub(crate) fn wait(
        &self,
        spins: u32,
        milliseconds: u32,
        mut look: impl FnMut() -> Outcome<()>,
    ) -> Outcome<Slot> {
        for _ in 0..spins {
            if self.is_answered() {
                return Ok(self.header());
            }
            std::hint::spin_loop();
        }
        loop {
            let announced = self.state().compare_exchange(
                SLOT_PENDING,
                SLOT_SLEEPING,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if announced == Err(SLOT_ANSWERED) {
                return Ok(self.header());
            }
            self.memory.sleep(self.offset(), SLOT_SLEEPING, milliseconds);
            // An answer that came before the end is taken even if the end came right after.
            if !self.is_answered()
                && let Err(lost) = look()
                && !self.is_answered()
            {
                return Err(lost);
            }
        }
    }

    /// Where the bytes of the answer lie in the channel's memory.
    pub(crate) fn answer_offset(&self) -> usize {
        ANSWERS_OFFSET + self.index as usize * ANSWER_BYTES
    }

    fn header(&self) -> Slot {
        let mut slot = Slot::new_zeroed();
        self.memory.read(self.offset(), slot.as_mut_bytes());
        slot
    }

    fn offset(&self) -> usize {
        SLOTS_OFFSET + self.index as usize * SLOT_STRIDE
    }

    fn state(&self) -> &std::sync::atomic::AtomicU32 {
        self.memory.word_32(self.offset())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.state().store(SLOT_FREE, Ordering::Release);
        *self.slots.free.lock().unwrap_or_else(PoisonError::into_inner) |= 1 << self.index;
        self.slots.freed.notify_one();
    }
}
