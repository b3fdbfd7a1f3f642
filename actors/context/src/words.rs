//! The words of command streams, for whoever has to know what these do.

use virgld_protocol::message::context::Submit;
use virgld_protocol::message::ctrlq::STREAM_OFFSET;

/// Room for the words of a stream, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Words {
    bytes: Vec<u8>,
    words: Vec<u32>,
}

impl Words {
    /// Those of this stream; none where it is not as long as it says, which the scheme has seen to.
    pub(crate) fn of(&mut self, submit: &Submit) -> &[u32] {
        self.words.clear();
        let Some(stream) = &submit.stream else { return &self.words };
        let length = submit.length as usize;
        // No memory is taken on the word of a length alone.
        if length > stream.size().saturating_sub(STREAM_OFFSET) {
            return &self.words;
        }
        self.bytes.resize(length, 0);
        if stream.read(STREAM_OFFSET, &mut self.bytes).is_ok() {
            let words = self.bytes.chunks_exact(4);
            self.words.extend(words.map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]])));
        }
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use virgld_protocol::ids::Serial;
    use virgld_runtime::dma::{DmaPool, SizeClass};
    use virgld_runtime::memory::HeapMemory;

    use super::*;

    #[test]
    fn a_length_that_lies_takes_no_memory_and_gives_no_words() {
        let size = STREAM_OFFSET + 8;
        let mut pool =
            DmaPool::new(HeapMemory::new(size), 0, 0, &[SizeClass { size, count: 1 }]).expect("it fits");
        let stream = pool.take(size).expect("it is free");
        stream.write(STREAM_OFFSET, &[1, 0, 0, 0, 2, 0, 0, 0]).expect("it fits");
        let mut submit = Submit {
            stream: Some(stream),
            length: 8,
            ring: None,
            serial: Serial(1),
            held: false,
            fenced: false,
        };
        let mut words = Words::default();
        assert_eq!(words.of(&submit), [1, 2]);
        for length in [9, u32::MAX] {
            submit.length = length;
            assert_eq!(words.of(&submit), []);
        }
        submit.stream = None;
        assert_eq!(words.of(&submit), []);
        assert!(words.bytes.capacity() < 100);
    }
}
