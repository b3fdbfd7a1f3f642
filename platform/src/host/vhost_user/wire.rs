//! Messages on a non-blocking vhost-user socket, sent whole and received whole.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use zerocopy::IntoBytes;

use super::error::ConnectError;
use super::message::{Header, Payload, Request};

/// Sends one message with at most one descriptor. It goes out whole, or not at all ([`Errno::AGAIN`] while the
/// socket is full).
pub(super) fn send(
    socket: impl AsFd,
    header: Header,
    payload: &[u8],
    file: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if file.is_some() {
        control.push(SendAncillaryMessage::ScmRights(file.as_slice()));
    }
    let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(payload)];
    let length = Header::SIZE + payload.len();
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(&socket, &parts, &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    })?;
    // A Unix socket takes a message of this size in one piece; if not, the stream is broken for good.
    if sent == length { Ok(()) } else { Err(Errno::MSGSIZE) }
}

/// Receives what is there, up to the size of `into`; 0 at the end of the stream. Descriptors that come along
/// are closed by the kernel.
pub(super) fn receive(socket: impl AsFd, into: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| recv(&socket, &mut *into, RecvFlags::DONTWAIT)).map(|(count, _)| count)
}

/// A handshake in progress: one message after the other, each with a deadline.
pub(super) struct Conversation<'a> {
    socket: BorrowedFd<'a>,
    deadline: Duration,
    /// Whether the device confirms messages that have no answer of their own.
    pub(super) confirms: bool,
}

impl<'a> Conversation<'a> {
    /// Every step on `socket` may take `deadline`.
    pub(super) fn new(socket: BorrowedFd<'a>, deadline: Duration) -> Self {
        Self { socket, deadline, confirms: false }
    }

    /// Asks and takes the answer, of the type that is expected.
    pub(super) fn ask<A: Payload>(&self, step: Request, question: &[u8]) -> Result<A, ConnectError> {
        let end = Instant::now() + self.deadline;
        self.put(step, question, None, false, end)?;
        self.answer(step, end)
    }

    /// Tells without waiting for a confirmation.
    pub(super) fn tell(
        &self,
        step: Request,
        payload: &[u8],
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), ConnectError> {
        self.put(step, payload, file, false, Instant::now() + self.deadline)
    }

    /// Tells, and has it confirmed if the device can.
    pub(super) fn set(
        &self,
        step: Request,
        payload: &[u8],
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), ConnectError> {
        let end = Instant::now() + self.deadline;
        self.put(step, payload, file, self.confirms, end)?;
        if self.confirms {
            match self.answer(step, end)? {
                0 => {}
                code => return Err(ConnectError::Refused { step, code }),
            }
        }
        Ok(())
    }

    fn put(
        &self,
        step: Request,
        payload: &[u8],
        file: Option<BorrowedFd<'_>>,
        need_reply: bool,
        end: Instant,
    ) -> Result<(), ConnectError> {
        let header = Header::new(step, payload.len(), need_reply);
        loop {
            match send(self.socket, header, payload, file) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN) => self.wait(step, PollFlags::OUT, end)?,
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ConnectError::Closed { step }),
                Err(source) => return Err(ConnectError::System { doing: "send to the device", source }),
            }
        }
    }

    fn answer<A: Payload>(&self, step: Request, end: Instant) -> Result<A, ConnectError> {
        let header: Header = self.take(step, end)?;
        header.check(step, size_of::<A>()).map_err(|what| ConnectError::Malformed { step, what })?;
        self.take(step, end)
    }

    fn take<T: Payload>(&self, step: Request, end: Instant) -> Result<T, ConnectError> {
        let mut value = T::new_zeroed();
        let mut rest = value.as_mut_bytes();
        while !rest.is_empty() {
            match receive(self.socket, rest) {
                Ok(0) | Err(Errno::CONNRESET) => return Err(ConnectError::Closed { step }),
                Ok(count) => rest = &mut rest[count..],
                Err(Errno::AGAIN) => self.wait(step, PollFlags::IN, end)?,
                Err(source) => return Err(ConnectError::System { doing: "hear from the device", source }),
            }
        }
        Ok(value)
    }

    fn wait(&self, step: Request, wanted: PollFlags, end: Instant) -> Result<(), ConnectError> {
        let left = end.saturating_duration_since(Instant::now());
        let mut descriptors = [PollFd::from_borrowed_fd(self.socket, wanted)];
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(0) => Err(ConnectError::Silent { step, deadline: self.deadline }),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(source) => Err(ConnectError::System { doing: "wait for the device", source }),
        }
    }
}
