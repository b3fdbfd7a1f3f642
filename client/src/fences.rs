//! Fences in advance: those at hand, and the call for more that is under way.
//!
//! A submit that wants a fence hands out one that is there. More are called for before the last one is gone: making them is
//! the daemon's work while the device draws, and no program waits for it.

use virgld_protocol::channel::{KIND_SERVICE, MAX_FENCES, SERVICE_FENCES};
use virgld_protocol::errno::Errno;

use crate::channel::{Answered, Channel, Writer};
use crate::errno::Outcome;
use crate::own::OwnFd;
use crate::ring::Part;
use crate::stock::Pledge;

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// Token and descriptor; the next one comes last.
    ready: Vec<(u32, OwnFd)>,
    /// A call for more.
    coming: Option<Pledge>,
}

impl Fences {
    /// Takes back one that nobody has seen.
    pub(crate) fn put_back(&mut self, token: u32, fence: OwnFd) {
        self.ready.push((token, fence));
    }
}

/// The right to write, with a fence: its token and its descriptor.
pub(crate) fn writer_with_fence(channel: &Channel) -> Outcome<(Writer<'_>, u32, OwnFd)> {
    loop {
        let mut writer = channel.writer();
        if let Some((token, fence)) = writer.ring.fences.ready.pop() {
            return Ok((writer, token, fence));
        }
        drop(writer);
        // Threads that find none must not all ask.
        let _restocking = channel.restocking();
        let mut writer = channel.writer();
        if !writer.ring.fences.ready.is_empty() {
            continue;
        }
        let coming = writer.ring.fences.coming.take();
        drop(writer);
        // What was called for in advance may have been refused: perhaps it would not be now.
        let called_for = coming.and_then(|pledge| channel.finish(&pledge).and_then(receive).ok());
        let fences = match called_for {
            Some(fences) => fences,
            None => channel.service(SERVICE_FENCES, &HOW_MANY, &[]).and_then(receive)?,
        };
        channel.writer().ring.fences.ready.extend(fences.into_iter().rev());
    }
}

/// Calls for more if few are left. Whether that succeeds is of no concern to the caller, who has a fence: should the daemon be
/// gone, the next that asks it hears of that.
pub(crate) fn restock(channel: &Channel, writer: &mut Writer<'_>) {
    let fences = &writer.ring.fences;
    if fences.ready.len() > FEW || fences.coming.is_some() {
        return;
    }
    if let Ok(Some(pledge)) = channel.begin(writer, KIND_SERVICE, SERVICE_FENCES, &[Part::own(&HOW_MANY)]) {
        writer.ring.fences.coming = Some(pledge);
    }
}

/// Tokens and descriptors out of an answer; the first comes first.
fn receive(mut answer: Answered<'_>) -> Outcome<Vec<(u32, OwnFd)>> {
    let fences = std::mem::take(&mut answer.descriptors);
    if fences.is_empty() || answer.bytes != fences.len() * size_of::<u32>() {
        return Err(Errno::EMFILE);
    }
    let mut received = Vec::with_capacity(fences.len());
    for (index, fence) in fences.into_iter().enumerate() {
        let mut token = [0; size_of::<u32>()];
        answer.read(index * token.len(), &mut token)?;
        received.push((u32::from_le_bytes(token), fence));
    }
    Ok(received)
}

/// With so many left, more are called for: enough for the submits that a program makes until they are there.
const FEW: usize = MAX_FENCES / 4;
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
const HOW_MANY: [u8; 4] = (MAX_FENCES as u32).to_le_bytes();
