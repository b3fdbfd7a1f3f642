//! Packets with descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use virgld_protocol::channel::MAX_DESCRIPTORS;

/// What was received.
pub(super) enum Packet {
    /// Nothing waits.
    None,
    /// The other end is closed.
    End,
    /// So many bytes, and these descriptors: fewer than were sent if the daemon may not have more.
    Data(usize, Vec<OwnedFd>),
}

/// Receives one packet without waiting. An error of the socket is its end.
pub(super) fn receive(socket: impl AsFd, into: &mut [u8]) -> Packet {
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
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
                return Packet::Data(message.bytes, descriptors);
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
