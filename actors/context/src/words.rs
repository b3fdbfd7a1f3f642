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
    /// Those of this stream.
    pub(crate) fn of(&mut self, submit: &Submit) -> &[u32] {
        self.words.clear();
        self.bytes.resize(submit.length as usize, 0);
        // The scheme has seen to it that the stream is as long as it says.
        let read = submit.stream.as_ref().map(|stream| stream.read(STREAM_OFFSET, &mut self.bytes));
        if matches!(read, Some(Ok(()))) {
            let words = self.bytes.chunks_exact(4);
            self.words.extend(words.map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]])));
        }
        &self.words
    }
}
