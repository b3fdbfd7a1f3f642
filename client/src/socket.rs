//! Unix sockets: connecting, and descriptors that travel.

use std::ffi::CStr;
use std::mem::zeroed;
use std::os::fd::RawFd;

use virgld_protocol::channel::MAX_DESCRIPTORS;
use virgld_protocol::errno::Errno;

use crate::errno::Outcome;
use crate::own::OwnFd;
use crate::patience::GLANCE;
use crate::sys;

/// Connects to the socket at `path`. The descriptor gets the lowest free number, as `open` would give. While nobody lets
/// us in, `wait` says whether to go on.
pub(crate) fn connect(
    path: &CStr,
    close_on_exec: bool,
    mut wait: impl FnMut() -> Outcome<()>,
) -> Outcome<RawFd> {
    // SAFETY: all bytes zero is a legal value of this structure of integers.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = FAMILY;
    let bytes = path.to_bytes_with_nul();
    if bytes.len() > address.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let kind = libc::SOCK_SEQPACKET | if close_on_exec { libc::SOCK_CLOEXEC } else { 0 };
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(sys::errno());
    }
    // Where so many wait already that there is no place to wait in.
    limit_sends(fd, GLANCE);
    let connected = loop {
        // SAFETY: the address is ours and its size is right.
        let connected =
            unsafe { libc::connect(fd, (&raw const address).cast(), length_of::<libc::sockaddr_un>()) };
        match if connected == 0 { Ok(()) } else { Err(sys::errno()) } {
            Err(Errno::EINTR | Errno::EAGAIN) => {
                if let Err(errno) = wait() {
                    break Err(errno);
                }
            }
            other => break other,
        }
    };
    limit_sends(fd, 0);
    connected.map(|()| fd).inspect_err(|_| sys::close(fd))
}

/// For how many milliseconds a call may wait for room in the other's socket; 0 for no limit.
fn limit_sends(fd: RawFd, milliseconds: u32) {
    let time = libc::timeval { tv_sec: 0, tv_usec: i64::from(milliseconds) * 1000 };
    let length = length_of::<libc::timeval>();
    // SAFETY: the time is ours and its size is right.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, (&raw const time).cast(), length) };
}

/// The process that listens where `fd` is connected to; none if it cannot be seen from here.
pub(crate) fn peer_process(fd: RawFd) -> Option<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = length_of::<libc::ucred>();
    // SAFETY: the room is ours and its size is told.
    let asked = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut length)
    };
    (asked == 0 && peer.pid > 0).then_some(peer.pid)
}

/// Ends a connection for whoever has it, in whatever process.
pub(crate) fn shut_down(fd: RawFd) {
    // SAFETY: no memory is passed.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// The path of the socket that `fd` is connected to, if it is a connection of packets to a path.
pub(crate) fn peer_path(fd: RawFd) -> Option<Vec<u8>> {
    let (mut kind, mut length) = (0, length_of::<i32>());
    // SAFETY: an int is asked for and given room.
    let asked = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut length)
    };
    if asked != 0 || kind != libc::SOCK_SEQPACKET {
        return None;
    }
    // SAFETY: all bytes zero is a legal value of this structure of integers.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    let mut length = length_of::<libc::sockaddr_un>();
    // SAFETY: the room is ours and its size is told.
    let asked = unsafe { libc::getpeername(fd, (&raw mut address).cast(), &raw mut length) };
    if asked != 0 || i32::from(address.sun_family) != libc::AF_UNIX {
        return None;
    }
    Some(address.sun_path.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0).collect())
}

/// Two sockets connected to each other, closed at exec.
pub(crate) fn pair() -> Outcome<(OwnFd, OwnFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` is ours and two ints long.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
        return Err(sys::errno());
    }
    Ok((OwnFd::adopt(ends[0]), OwnFd::adopt(ends[1])))
}

/// Sends one packet with descriptors. Fails when the other end is gone. While it is full, `wait` says whether to go on.
pub(crate) fn send(
    socket: RawFd,
    bytes: &[u8],
    descriptors: &[RawFd],
    mut wait: impl FnMut() -> Outcome<()>,
) -> Outcome<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::new();
    let message = control.message(&mut part, descriptors);
    loop {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the message's parts outlive the call; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(socket, &raw const message, flags) };
        match if sent >= 0 { Ok(()) } else { Err(sys::errno()) } {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno(libc::EAGAIN)) => {
                if sys::poll(socket, libc::POLLOUT, SLICE) & (libc::POLLHUP | libc::POLLERR) != 0 {
                    return Err(Errno::EIO);
                }
                wait()?;
            }
            Err(Errno(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN)) => return Err(Errno::EIO),
            Err(errno) => return Err(errno),
        }
    }
}

/// Receives one packet. While none is there, `wait` says whether to go on.
pub(crate) fn await_packet(
    socket: RawFd,
    into: &mut [u8],
    mut wait: impl FnMut() -> Outcome<()>,
) -> Outcome<Packet> {
    loop {
        if let Some(packet) = receive(socket, into)? {
            return Ok(packet);
        }
        if sys::poll(socket, libc::POLLIN, SLICE) == 0 {
            wait()?;
        }
    }
}

/// One packet, and the descriptors that came with it.
pub(crate) struct Packet {
    /// How many bytes it had.
    pub(crate) bytes: usize,
    /// The descriptors; fewer than were sent if this process may not have more.
    pub(crate) descriptors: Vec<OwnFd>,
}

/// Receives one packet, if there is one. An end that is closed gives a packet of no bytes.
pub(crate) fn receive(socket: RawFd, into: &mut [u8]) -> Outcome<Option<Packet>> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = Control::new();
    let mut message = control.room(&mut part);
    loop {
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
        // SAFETY: the message's parts are ours to write and outlive the call.
        let received = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
        match usize::try_from(received).map_err(|_| sys::errno()) {
            Ok(bytes) => return Ok(Some(Packet { bytes, descriptors: descriptors_of(&message) })),
            Err(Errno::EINTR) => {}
            Err(Errno(libc::EAGAIN)) => return Ok(None),
            Err(_) => return Err(Errno::EIO),
        }
    }
}

/// Room for the descriptors of a message, aligned as its header demands.
struct Control {
    room: [u64; 16],
}

impl Control {
    fn new() -> Self {
        Self { room: [0; 16] }
    }

    fn room(&mut self, part: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: all bytes zero is a legal value of this structure of integers and pointers.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = part;
        message.msg_iovlen = 1;
        message.msg_control = self.room.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&self.room);
        message
    }

    fn message(&mut self, part: &mut libc::iovec, descriptors: &[RawFd]) -> libc::msghdr {
        let mut message = self.room(part);
        let descriptors = &descriptors[..descriptors.len().min(MAX_DESCRIPTORS)];
        if descriptors.is_empty() {
            message.msg_control = std::ptr::null_mut();
            message.msg_controllen = 0;
            return message;
        }
        let size = length_of::<RawFd>() * u32::try_from(descriptors.len()).unwrap_or(0);
        // SAFETY: the room is aligned and larger than a header with MAX_DESCRIPTORS ints (16 + 64 bytes).
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            let to = libc::CMSG_DATA(header).cast::<RawFd>();
            std::ptr::copy_nonoverlapping(descriptors.as_ptr(), to, descriptors.len());
        }
        message
    }
}

fn descriptors_of(message: &libc::msghdr) -> Vec<OwnFd> {
    let mut found = Vec::new();
    // SAFETY: the kernel filled the control room, and says in msg_controllen how much of it.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                found.extend((0..bytes / size_of::<RawFd>()).map(|index| OwnFd::adopt(*first.add(index))));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    found
}

#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const FAMILY: libc::sa_family_t = libc::AF_UNIX as libc::sa_family_t;

const SLICE: i32 = GLANCE.cast_signed();

/// Size of a type as the socket calls want it.
#[expect(clippy::cast_possible_truncation, reason = "the structures of the socket calls are small")]
const fn length_of<T>() -> u32 {
    size_of::<T>() as u32
}
