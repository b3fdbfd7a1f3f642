//! A channel's ring as any client wrote it.

use std::sync::{Arc, LazyLock};

use virgld_platform::host::door::take_apart;
use virgld_protocol::channel::{
    CHANNEL_BYTES, KIND_IOCTL, NO_SLOT, RECORD_ALIGN, RING_BYTES, RING_OFFSET, Record,
};
use virgld_protocol::client::layout_of;
use virgld_runtime::memory::{HeapMemory, Memory};
use zerocopy::IntoBytes;

use crate::Input;

/// Bytes of the ring that an input may write.
const WRITTEN: usize = 4096;

/// Writes records, sound ones and others, reads them back as the door does, and checks what comes out against what a
/// reader may rely on: a call is never longer than what was written, and a bulk array lies in the ring.
pub(super) fn run(bytes: &[u8]) {
    // Five megabytes, zeroed for each input, would be most of the time.
    static MEMORY: LazyLock<Arc<HeapMemory>> = LazyLock::new(|| HeapMemory::new(CHANNEL_BYTES));
    let mut input = Input::new(bytes);
    let memory = &**MEMORY;
    let mut ring = vec![0; WRITTEN];
    let mut tail = 0;
    let mut serial = 0;
    while !input.is_used_up() && tail + 512 < WRITTEN {
        serial += 1;
        tail += record(&mut input, &mut ring[tail..tail + 512], serial);
    }
    for _ in 0..input.below(3) {
        let at = usize::from(input.short()) % WRITTEN;
        ring[at] = input.byte();
    }
    write(memory, &ring);
    let tail = if input.chance(20) { input.long() } else { tail as u64 };
    let Ok(calls) = take_apart(memory, tail) else { return };
    for (call, bulk) in calls {
        assert!(layout_of(call.number).is_some_and(|layout| call.bytes.len() >= layout.wire));
        assert!(call.bytes.len() <= WRITTEN, "{} bytes from a ring of {WRITTEN}", call.bytes.len());
        if let Some((at, length)) = bulk {
            assert!(at >= RING_OFFSET && at + length <= RING_OFFSET + RING_BYTES, "bulk outside the ring");
        }
    }
    write(memory, &[0; WRITTEN]);
}

/// A record: the head is right for its payload unless the input says otherwise.
fn record(input: &mut Input<'_>, into: &mut [u8], serial: u64) -> usize {
    let number = input.byte();
    let most = into.len() - size_of::<Record>();
    let wire = layout_of(number).map_or(0, |layout| layout.wire);
    let length = (wire + 4 * input.below(16)).min(most);
    let payload = &mut into[size_of::<Record>()..];
    for word in payload[..length].chunks_mut(4) {
        let value = input.number().to_le_bytes();
        word.copy_from_slice(&value[..word.len()]);
    }
    let whole = (size_of::<Record>() + length).next_multiple_of(RECORD_ALIGN);
    let mut head = Record {
        length: number_of(whole),
        kind: KIND_IOCTL,
        number,
        slot: NO_SLOT,
        serial,
        payload: number_of(length),
        ..Record::default()
    };
    if input.chance(16) {
        let at = input.below(size_of::<Record>());
        head.as_mut_bytes()[at] = input.byte();
    }
    into[..size_of::<Record>()].copy_from_slice(head.as_bytes());
    whole
}

fn write(memory: &HeapMemory, bytes: &[u8]) {
    memory.write(RING_OFFSET, bytes).expect("the ring is longer than what is written");
}

fn number_of(length: usize) -> u32 {
    u32::try_from(length).expect("records are short")
}
