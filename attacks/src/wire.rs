//! A client that speaks the channel itself, so that it can say anything. Memory is read and written through its
//! descriptor: a hostile client needs no mapping.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, pread, pwrite};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with, socketpair,
};
use virgld_protocol::channel::{
    ANSWERS_OFFSET, Answer, Attachment, CARD, HEAD, Hello, KIND_IOCTL, KIND_SERVICE, MAGIC, RENDER,
    RING_BYTES, RING_OFFSET, Record, SLOT_ANSWERED, SLOT_PENDING, SLOTS_OFFSET, Slot, TAIL, VERSION, Verdict,
    Welcome,
};
use virgld_protocol::client::Ioctl;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// How an attempt ended, if it did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It was refused.
    Errno(i32),
    /// The daemon closed the file or the channel.
    CutOff,
    /// There was no answer.
    Late,
    /// Something that the attack rests on did not work.
    Setup(String),
    /// It cannot be tried here, for a reason that says nothing of the daemon.
    NotTried(&'static str),
}

impl fmt::Display for Failed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(to, "refused: {}", std::io::Error::from_raw_os_error(*errno)),
            Self::CutOff => write!(to, "cut off"),
            Self::Late => write!(to, "no answer within {} s", PATIENCE.as_secs()),
            Self::Setup(what) => write!(to, "{what}"),
            Self::NotTried(reason) => write!(to, "not tried: {reason}"),
        }
    }
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self::Setup(format!("a system call failed: {errno}"))
    }
}

pub(crate) type Outcome<T> = Result<T, Failed>;

/// Where the daemon is.
#[derive(Debug, Clone)]
pub(crate) struct Door(pub(crate) PathBuf);

/// An open file with one channel.
pub(crate) struct Client {
    /// The file itself.
    pub(crate) connection: OwnedFd,
    /// The channel's socket.
    pub(crate) line: OwnedFd,
    /// The channel's memory.
    pub(crate) memory: OwnedFd,
    bell: OwnedFd,
    pub(crate) tail: u64,
    pub(crate) serial: u64,
    /// Whether it looks for answers without a pause: who measures wants to know at once.
    pub(crate) eager: bool,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Door {
    /// Connects and hears the verdict; nothing more.
    pub(crate) fn connect(&self) -> Outcome<OwnedFd> {
        self.connect_to(RENDER)
    }

    /// Connects without waiting, and hears no verdict.
    pub(crate) fn knock(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&connection, &SocketAddrUnix::new(self.0.join(RENDER).as_path())?)?;
        Ok(connection)
    }

    fn connect_to(&self, node: &str) -> Outcome<OwnedFd> {
        let flags = SocketFlags::CLOEXEC;
        let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&connection, &SocketAddrUnix::new(Path::new(&self.0).join(node).as_path())?)?;
        let mut verdict = Verdict::new_zeroed();
        let (bytes, _) = receive(connection.as_fd(), verdict.as_mut_bytes())?;
        match verdict.errno {
            _ if bytes != size_of::<Verdict>() => Err(Failed::CutOff),
            0 => Ok(connection),
            errno => Err(Failed::Errno(errno)),
        }
    }

    /// Opens a file with a channel.
    pub(crate) fn open(&self) -> Outcome<Client> {
        self.open_node(RENDER)
    }

    /// The same on the node that has screens.
    pub(crate) fn open_card(&self) -> Outcome<Client> {
        self.open_node(CARD)
    }

    fn open_node(&self, node: &str) -> Outcome<Client> {
        let connection = self.connect_to(node)?;
        let (line, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let hello = Hello { magic: MAGIC, version: VERSION };
        send(connection.as_fd(), hello.as_bytes(), &[theirs.as_fd()])?;
        drop(theirs);
        let mut welcome = Welcome::new_zeroed();
        let (_, descriptors) = receive(line.as_fd(), welcome.as_mut_bytes())?;
        let [memory, bell] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| Failed::CutOff)?;
        Ok(Client { connection, line, memory, bell, tail: 0, serial: 0, eager: false })
    }
}

impl Client {
    /// An ioctl.
    pub(crate) fn ioctl<T: Ioctl>(&mut self, fixed: &T, arrays: &[&[u8]]) -> Outcome<T> {
        self.ioctl_with(fixed, arrays, &[]).map(|(fixed, _)| fixed)
    }

    /// An ioctl with descriptors, and those that come back.
    pub(crate) fn ioctl_with<T: Ioctl>(
        &mut self,
        fixed: &T,
        arrays: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
    ) -> Outcome<(T, Vec<OwnedFd>)> {
        let payload = [&[fixed.as_bytes()], arrays].concat().concat();
        let reply = self.ask(KIND_IOCTL, T::TABLE.number, &payload, descriptors)?;
        let (head, rest) = Answer::read_from_prefix(&reply.bytes).map_err(|_| short())?;
        let fixed = match head.fixed {
            // Nothing in it changed.
            0 => T::read_from_bytes(fixed.as_bytes()).map_err(|_| short())?,
            _ => T::read_from_prefix(rest).map_err(|_| short())?.0,
        };
        Ok((fixed, reply.descriptors))
    }

    /// A service of the channel.
    pub(crate) fn service(&mut self, number: u8, payload: &[u8], with: &[BorrowedFd<'_>]) -> Outcome<Reply> {
        self.ask(KIND_SERVICE, number, payload, with)
    }

    /// A call in slot 0, and its answer.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        number: u8,
        payload: &[u8],
        with: &[BorrowedFd<'_>],
    ) -> Outcome<Reply> {
        self.write(SLOTS_OFFSET, Slot { state: SLOT_PENDING, ..Slot::default() }.as_bytes())?;
        self.post(kind, number, 0, payload, with)?;
        self.answer()
    }

    /// The answer in slot 0.
    pub(crate) fn answer(&mut self) -> Outcome<Reply> {
        let begin = Instant::now();
        let end = begin + PATIENCE;
        let mut slot = Slot::default();
        loop {
            pread(&self.memory, slot.as_mut_bytes(), SLOTS_OFFSET as u64)?;
            if slot.state == SLOT_ANSWERED {
                break;
            }
            if self.eager && begin.elapsed() < EAGERNESS {
                std::hint::spin_loop();
                continue;
            }
            if self.is_cut_off() {
                return Err(Failed::CutOff);
            }
            if Instant::now() > end {
                return Err(Failed::Late);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let mut descriptors = Vec::new();
        while slot.descriptors > 0 && descriptors.is_empty() {
            let mut attachment = Attachment::new_zeroed();
            let (bytes, came) = receive(self.line.as_fd(), attachment.as_mut_bytes())?;
            if bytes == 0 {
                return Err(Failed::CutOff);
            }
            if attachment.serial == self.serial {
                descriptors = came;
            }
        }
        if slot.errno != 0 {
            return Err(Failed::Errno(slot.errno));
        }
        let mut bytes = vec![0; slot.bytes as usize];
        pread(&self.memory, &mut bytes, ANSWERS_OFFSET as u64)?;
        Ok(Reply { bytes, descriptors })
    }

    /// Appends a record as the rules have it.
    pub(crate) fn post(
        &mut self,
        kind: u16,
        number: u8,
        slot: u8,
        payload: &[u8],
        with: &[BorrowedFd<'_>],
    ) -> Outcome<()> {
        self.serial += 1;
        if !with.is_empty() {
            send(self.line.as_fd(), Attachment { serial: self.serial }.as_bytes(), with)?;
        }
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let length = (size_of::<Record>() + payload.len()).next_multiple_of(size_of::<Record>());
        let record = Record {
            length: size(length),
            kind,
            number,
            slot,
            serial: self.serial,
            payload: size(payload.len()),
            descriptors: size(with.len()),
            reserved: 0,
        };
        self.make_room(length)?;
        self.post_raw(record, payload)
    }

    /// Appends a record whose head says whatever it says; `tail` advances by what it says.
    pub(crate) fn post_raw(&mut self, record: Record, payload: &[u8]) -> Outcome<()> {
        let position = RING_OFFSET + self.position();
        self.write(position, record.as_bytes())?;
        self.write(position + size_of::<Record>(), payload)?;
        self.tail = self.tail.wrapping_add(u64::from(record.length));
        self.show_tail()
    }

    /// Tells the daemon how far the ring is written.
    pub(crate) fn show_tail(&mut self) -> Outcome<()> {
        self.write(TAIL, self.tail.as_bytes())?;
        // A full counter is as good as a ring.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// Writes into the channel's memory.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Outcome<()> {
        pwrite(&self.memory, bytes, offset as u64)?;
        Ok(())
    }

    /// Whether the daemon has closed the channel or the file.
    pub(crate) fn is_cut_off(&self) -> bool {
        let mut entries = [&self.line, &self.connection].map(|it| PollFd::new(it, PollFlags::empty()));
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut entries, Some(&now)).is_ok_and(|count| count > 0)
            && entries.iter().any(|entry| entry.revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }

    /// Waits until the daemon has closed it.
    pub(crate) fn is_cut_off_soon(&self) -> bool {
        let end = Instant::now() + PATIENCE;
        while !self.is_cut_off() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.is_cut_off()
    }

    fn position(&self) -> usize {
        usize::try_from(self.tail % RING_BYTES as u64).unwrap_or(0)
    }

    fn make_room(&mut self, length: usize) -> Outcome<()> {
        let rest = RING_BYTES - self.position();
        if rest < length {
            self.wait_for_room(rest)?;
            let filler = Record { length: u32::try_from(rest).unwrap_or(0), ..Record::default() };
            self.write(RING_OFFSET + self.position(), filler.as_bytes())?;
            self.tail += rest as u64;
        }
        self.wait_for_room(length)
    }

    fn wait_for_room(&self, length: usize) -> Outcome<()> {
        let end = Instant::now() + PATIENCE;
        let mut head = 0_u64;
        loop {
            pread(&self.memory, head.as_mut_bytes(), HEAD as u64)?;
            // The attacker may have written over the head itself.
            if (self.tail + length as u64).wrapping_sub(head) <= RING_BYTES as u64 {
                return Ok(());
            }
            if self.is_cut_off() {
                return Err(Failed::CutOff);
            }
            if Instant::now() > end {
                return Err(Failed::Late);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Waits until the other end of a socket is closed.
pub(crate) fn is_closed_soon(socket: BorrowedFd<'_>) -> bool {
    is_closed_within(socket, PATIENCE)
}

/// Whether the other end of a socket is closed.
pub(crate) fn is_closed(socket: BorrowedFd<'_>) -> bool {
    is_closed_within(socket, Duration::ZERO)
}

fn is_closed_within(socket: BorrowedFd<'_>, time: Duration) -> bool {
    let wait = Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(0), tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::empty())], Some(&wait))
        .is_ok_and(|count| count > 0)
}

/// Sends one packet with descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map(drop)
}

/// Receives one packet; waits for it.
pub(crate) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> Outcome<(usize, Vec<OwnedFd>)> {
    let wait = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(0), tv_nsec: 0 };
    if poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&wait))? == 0 {
        return Err(Failed::Late);
    }
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let message = recvmsg(socket, &mut [IoSliceMut::new(into)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(|_| Failed::CutOff)?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    Ok((message.bytes, descriptors))
}

fn short() -> Failed {
    Failed::Setup("an answer is shorter than its table says".into())
}

/// For how long one looks without a pause.
const EAGERNESS: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);
