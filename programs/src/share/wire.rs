//! What the two processes say to each other: fixed-size messages, with descriptors beside them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::image::{Dmabuf, Shape};
use crate::stop::{Verdict, ensure};

/// The words of a message: what it is, the step, and for a buffer its shape.
const WORDS: usize = 9;
const BUFFER: u32 = 1;
const TURN: u32 = 2;

/// A message.
#[derive(Debug)]
pub(super) enum Message {
    /// A buffer to share from now on.
    Buffer(Dmabuf),
    /// The other's turn, once the fence is signalled; the buffer holds what `step` painted.
    Turn { step: i32, fence: Option<OwnedFd> },
}

pub(super) fn send(socket: &UnixStream, message: &Message) -> Verdict {
    let (words, fd) = match message {
        Message::Buffer(dmabuf) => (words_of(dmabuf.shape), Some(dmabuf.fd.as_fd())),
        Message::Turn { step, fence } => {
            ([TURN, step.cast_unsigned(), 0, 0, 0, 0, 0, 0, 0], fence.as_ref().map(AsFd::as_fd))
        }
    };
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    ensure(sent == bytes.len(), || format!("expected to send {} bytes, sent {sent}", bytes.len()))
}

/// The next message; none if the other end is gone.
pub(super) fn receive(socket: &UnixStream) -> Verdict<Option<Message>> {
    let mut bytes = [0; WORDS * 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let answer = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags)?;
    if answer.bytes == 0 {
        return Ok(None);
    }
    let whole = answer.bytes == bytes.len() && !answer.flags.contains(ReturnFlags::CTRUNC);
    ensure(whole, || format!("expected a whole message, saw {} bytes of it", answer.bytes))?;
    let fd = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    match (words[0], fd) {
        (BUFFER, Some(fd)) => Ok(Some(Message::Buffer(Dmabuf { fd, shape: shape_of(words) }))),
        (TURN, fence) => Ok(Some(Message::Turn { step: words[1].cast_signed(), fence })),
        (kind, fd) => Err(format!("expected a message, saw kind {kind} with descriptor {fd:?}").into()),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the modifier is cut in two halves")]
fn words_of(shape: Shape) -> [u32; WORDS] {
    let Shape { width, height, fourcc, stride, offset, modifier } = shape;
    [BUFFER, 0, width, height, fourcc, stride, offset, modifier as u32, (modifier >> 32) as u32]
}

fn shape_of(words: [u32; WORDS]) -> Shape {
    let [_, _, width, height, fourcc, stride, offset, low, high] = words;
    let modifier = u64::from(high) << 32 | u64::from(low);
    Shape { width, height, fourcc, stride, offset, modifier }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_arrives_with_its_shape_and_descriptor() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let shape = Shape {
            width: 257,
            height: 3,
            fourcc: 9,
            stride: 1028,
            offset: 64,
            modifier: 0xff_ffff_ffff_ffff,
        };
        send(&near, &Message::Buffer(Dmabuf { fd: reader.into(), shape })).expect("sent");
        drop(near);
        let Ok(Some(Message::Buffer(dmabuf))) = receive(&far) else { panic!("expected a buffer") };
        assert_eq!(dmabuf.shape, shape);
        drop(writer);
        let mut end = [0; 1];
        let read = std::io::Read::read(&mut std::fs::File::from(dmabuf.fd), &mut end);
        assert_eq!(read.expect("the pipe's end"), 0);
        assert!(matches!(receive(&far), Ok(None)));
    }

    #[test]
    fn a_turn_arrives_without_a_fence() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        send(&near, &Message::Turn { step: -7, fence: None }).expect("sent");
        assert!(matches!(receive(&far), Ok(Some(Message::Turn { step: -7, fence: None }))));
    }
}
