//! Records as a client wrote them, checked. Every value is hostile until it has been copied out and compared.

use virgld_protocol::channel::{
    KIND_FILLER, KIND_IOCTL, KIND_SERVICE, MAX_RECORD, MAX_RECORD_DESCRIPTORS, NO_SLOT, RECORD_ALIGN,
    RING_BYTES, RING_OFFSET, Record, SLOTS,
};
use virgld_protocol::client::{Call, Layout, layout_of};
use virgld_runtime::lent::Lent;
use virgld_runtime::memory::{Memory, OutOfBounds};
use zerocopy::{FromZeros, IntoBytes};

/// The client broke a rule of the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The counters contradict each other.
    #[error("the ring cannot hold as much as its counters say")]
    Counters,
    /// Too short, too long, or not where a record may be.
    #[error("a record has an impossible length")]
    Length,
    /// Not a kind of record.
    #[error("a record is of no known kind")]
    Kind,
    /// Records must be numbered without gaps.
    #[error("a record is out of sequence")]
    Serial,
    /// A slot that does not exist, is in use, or is missing.
    #[error("a record names a wrong slot")]
    Slot,
    /// What must be zero is not, or there are more descriptors than can be.
    #[error("a record's head is malformed")]
    Head,
    /// The payload is not what the table of its ioctl says.
    #[error("a payload does not have the length that its counts say")]
    Payload,
    /// Descriptors that were announced did not come, or there were too many of them.
    #[error("descriptors did not come as announced")]
    Descriptors,
    /// A fence that was not given in advance.
    #[error("a call names a fence that was not given to it")]
    Fence,
    /// Too large for anything here, and no way to say so.
    #[error("a command stream is too large")]
    Stream,
}

impl From<OutOfBounds> for Broken {
    fn from(_: OutOfBounds) -> Self {
        Self::Length
    }
}

/// How far a ring has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Bytes taken.
    pub(super) head: u64,
    /// Serial of the last record taken.
    pub(super) serial: u64,
}

/// A record whose head is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The head.
    pub(super) record: Record,
    /// Where its payload begins in the channel's memory.
    pub(super) payload: usize,
    /// How far the ring has been read once it is taken.
    pub(super) after: Cursor,
}

/// The next record, if the client has written one. `tail` is what it says it has written.
pub(super) fn next(memory: &dyn Memory, cursor: Cursor, tail: u64) -> Result<Option<Found>, Broken> {
    let mut head = cursor.head;
    for _ in 0..2 {
        let waiting = usize::try_from(tail.wrapping_sub(head)).map_err(|_| Broken::Counters)?;
        if waiting > RING_BYTES || !waiting.is_multiple_of(RECORD_ALIGN) {
            return Err(Broken::Counters);
        }
        if waiting == 0 {
            return Ok(None);
        }
        let position = usize::try_from(head % RING_BYTES as u64).map_err(|_| Broken::Counters)?;
        let rest = RING_BYTES - position;
        let mut record = Record::new_zeroed();
        memory.read(RING_OFFSET + position, record.as_mut_bytes())?;
        let length = record.length as usize;
        if length > waiting.min(rest) || !length.is_multiple_of(RECORD_ALIGN) || length == 0 {
            return Err(Broken::Length);
        }
        if record.kind != KIND_FILLER {
            check(&record, cursor)?;
            let after = Cursor { head: head + length as u64, serial: record.serial };
            let payload = RING_OFFSET + position + size_of::<Record>();
            return Ok(Some(Found { record, payload, after }));
        }
        // A filler takes up the end of the ring, and there is one end on the way to any record.
        if length != rest || position == 0 {
            return Err(Broken::Length);
        }
        head += length as u64;
    }
    Err(Broken::Length)
}

fn check(record: &Record, cursor: Cursor) -> Result<(), Broken> {
    let length = record.length as usize;
    if length > MAX_RECORD || record.payload as usize > length - size_of::<Record>() {
        return Err(Broken::Length);
    }
    if record.kind != KIND_IOCTL && record.kind != KIND_SERVICE {
        return Err(Broken::Kind);
    }
    if record.serial != cursor.serial + 1 {
        return Err(Broken::Serial);
    }
    if record.slot != NO_SLOT && usize::from(record.slot) >= SLOTS {
        return Err(Broken::Slot);
    }
    if record.reserved != 0 || record.descriptors as usize > MAX_RECORD_DESCRIPTORS {
        return Err(Broken::Head);
    }
    Ok(())
}

/// The payload of an ioctl, copied out but for its bulk array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// The call.
    pub(super) call: Call,
    /// Where the bulk array is in the channel's memory, and how long; nothing if there is none or it is empty.
    pub(super) bulk: Option<(usize, usize)>,
}

/// Takes the payload of an ioctl apart as its table says.
pub(super) fn body(
    memory: &dyn Memory,
    found: &Found,
    layout: &Layout,
    mut bytes: Lent,
) -> Result<Body, Broken> {
    let payload = found.record.payload as usize;
    if payload < layout.wire {
        return Err(Broken::Payload);
    }
    memory.read(found.payload, bytes.add(layout.wire))?;
    // The counts are those of our copy: what the client changes from now on changes nothing.
    let sizes = layout.array_sizes(&bytes).ok_or(Broken::Payload)?;
    let total = sizes.iter().try_fold(layout.wire, |sum, size| sum.checked_add(*size));
    if total != Some(payload) {
        return Err(Broken::Payload);
    }
    let mut at = found.payload + layout.wire;
    let mut bulk = None;
    for (index, size) in sizes.into_iter().enumerate() {
        if layout.bulk == Some(index) {
            bulk = (size > 0).then_some((at, size));
        } else if size > 0 {
            memory.read(at, bytes.add(size))?;
        }
        at += size;
    }
    Ok(Body { call: Call { number: layout.number, bytes }, bulk })
}

/// Where a bulk array lies: offset and length.
type Span = (usize, usize);

/// All calls that a fresh ring holds, with the place of their bulk arrays: what a door would take from it, for whoever
/// wants to see that without one. `tail` is what the client says it has written.
pub fn take_apart(memory: &dyn Memory, tail: u64) -> Result<Vec<(Call, Option<Span>)>, Broken> {
    let (mut cursor, mut calls) = (Cursor::default(), Vec::new());
    while let Some(found) = next(memory, cursor, tail)? {
        cursor = found.after;
        let layout = layout_of(found.record.number).filter(|_| found.record.kind == KIND_IOCTL);
        if let Some(layout) = layout {
            let Body { call, bulk } = body(memory, &found, layout, Lent::default())?;
            calls.push((call, bulk));
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;
    use virgld_protocol::channel::CHANNEL_BYTES;
    use virgld_runtime::memory::HeapMemory;

    use super::*;

    fn memory() -> Arc<HeapMemory> {
        HeapMemory::new(CHANNEL_BYTES)
    }

    fn put(memory: &HeapMemory, position: usize, record: Record, payload: &[u8]) {
        memory.write(RING_OFFSET + position, record.as_bytes()).unwrap();
        memory.write(RING_OFFSET + position + size_of::<Record>(), payload).unwrap();
    }

    fn ioctl(length: u32, number: u8, serial: u64, payload: u32) -> Record {
        Record { length, kind: KIND_IOCTL, number, slot: NO_SLOT, serial, payload, ..Record::default() }
    }

    #[test]
    fn records_follow_one_another_over_the_end_of_the_ring() {
        let memory = memory();
        let end = RING_BYTES as u64 - 32;
        let cursor = Cursor { head: end, serial: 4 };
        put(&memory, RING_BYTES - 32, Record { length: 32, ..Record::default() }, &[]);
        put(&memory, 0, ioctl(64, 9, 5, 8), &[7; 8]);
        let found = next(&*memory, cursor, end + 96).unwrap().unwrap();
        assert_eq!(found.after, Cursor { head: end + 96, serial: 5 });
        let close = layout_of(9).unwrap();
        let body = body(&*memory, &found, close, Lent::default()).unwrap();
        assert_eq!(body, Body { call: Call { number: 9, bytes: vec![7; 8].into() }, bulk: None });
        assert_eq!(next(&*memory, found.after, end + 96), Ok(None));
    }

    #[test]
    fn each_lie_is_named() {
        let memory = memory();
        let cursor = Cursor::default();
        let good = ioctl(64, 9, 1, 8);
        let lies = [
            (Record { length: 0, ..good }, Broken::Length),
            (Record { length: 48, ..good }, Broken::Length),
            (Record { length: 128, ..good }, Broken::Length),
            (Record { payload: 33, ..good }, Broken::Length),
            (Record { kind: 9, ..good }, Broken::Kind),
            (Record { kind: KIND_FILLER, ..good }, Broken::Length),
            (Record { serial: 2, ..good }, Broken::Serial),
            (Record { slot: 64, ..good }, Broken::Slot),
            (Record { reserved: 1, ..good }, Broken::Head),
            (Record { descriptors: 3, ..good }, Broken::Head),
        ];
        for (record, lie) in lies {
            put(&memory, 0, record, &[]);
            assert_eq!(next(&*memory, cursor, 64), Err(lie), "{record:?}");
        }
        for tail in [u64::MAX, 63, RING_BYTES as u64 + 32] {
            assert_eq!(next(&*memory, cursor, tail), Err(Broken::Counters));
        }
    }

    #[test]
    fn a_stream_stays_where_it_is_until_it_is_copied() {
        let memory = memory();
        let mut payload = [0; 48];
        payload[4] = 8; // size
        payload[8] = 2; // num_bo_handles
        payload[40] = 5;
        put(&memory, 0, ioctl(96, 0x42, 1, 48), &payload);
        let found = next(&*memory, Cursor::default(), 96).unwrap().unwrap();
        let execbuffer = layout_of(0x42).unwrap();
        let taken = body(&*memory, &found, execbuffer, Lent::default()).unwrap();
        assert_eq!(taken.bulk, Some((RING_OFFSET + 64, 8)));
        assert_eq!((taken.call.bytes.len(), taken.call.bytes[32]), (40, 5));
        memory.write(RING_OFFSET + 32 + 4, &[0xff; 4]).unwrap();
        assert_eq!(body(&*memory, &found, execbuffer, Lent::default()), Err(Broken::Payload));
    }

    proptest! {
        /// Whatever is in the ring, reading it ends, stays inside, and never allocates more than the ring holds.
        #[test]
        fn noise_is_survived(
            words in proptest::collection::vec(any::<u32>(), 64),
            near in proptest::bool::ANY,
            tail in any::<u64>(),
            number in any::<u8>(),
        ) {
            static MEMORY: LazyLock<Arc<HeapMemory>> = LazyLock::new(memory);
            let memory = MEMORY.clone();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            memory.write(RING_OFFSET, &bytes).unwrap();
            let tail = if near { tail % (2 * RING_BYTES as u64) / 32 * 32 } else { tail };
            let _ = next(&*memory, Cursor::default(), tail);
            let mut record = ioctl(256, number, 1, words[0] % 225);
            record.slot = number;
            put(&memory, 0, record, &bytes[..200]);
            if let (Ok(Some(found)), Some(layout)) = (next(&*memory, Cursor::default(), 256), layout_of(number))
                && let Ok(body) = body(&*memory, &found, layout, Lent::default())
            {
                let bulk = body.bulk.map_or(0, |(_, length)| length);
                prop_assert_eq!(body.call.bytes.len() + bulk, found.record.payload as usize);
            }
        }
    }
}
