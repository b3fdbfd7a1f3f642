//! Packets with descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use virgld_protocol::channel::{MAX_DESCRIPTORS, MAX_RECORD_DESCRIPTORS};

/// What was received.
pub(super) enum Packet {
    /// Nothing waits.
    None,
    /// The other end is closed.
    End,
    /// One packet.
    Data {
        /// How many bytes it has.
        bytes: usize,
        /// What came with it: [`MAX_RECORD_DESCRIPTORS`] at most; what is beyond is closed.
        descriptors: Vec<OwnedFd>,
        /// More were sent: either more than are received, or the daemon may not have more.
        truncated: bool,
    },
}

/// Receives one packet without waiting. An error of the socket is its end.
pub(super) fn receive(socket: impl AsFd, into: &mut [u8]) -> Packet {
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_RECORD_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(into)], &mut control, flags) {
            Ok(message) => {
                let mut descriptors = Vec::new();
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = part {
                        descriptors.extend(rights);
                    }
                }
                if message.bytes == 0 {
                    return Packet::End;
                }
                // The room is rounded up: one more may have fit.
                let beyond = descriptors.split_off(descriptors.len().min(MAX_RECORD_DESCRIPTORS));
                let truncated = message.flags.contains(ReturnFlags::CTRUNC) || !beyond.is_empty();
                return Packet::Data { bytes: message.bytes, descriptors, truncated };
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Packet::None,
            Err(_) => return Packet::End,
        }
    }
}

/// Sends one packet without waiting.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn more_descriptors_than_any_record_needs_are_never_ours() {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        for (sent, received) in [(0, 0), (1, 1), (2, 2), (3, 2), (16, 2)] {
            send(&theirs, &[7], &vec![theirs.as_fd(); sent]).unwrap();
            let Packet::Data { bytes: 1, descriptors, truncated } = receive(&ours, &mut [0]) else {
                panic!("a packet of {sent}")
            };
            assert_eq!((descriptors.len(), truncated), (received, sent > received), "{sent}");
        }
    }
}
