//! The channel between a client and the Linux door: memory that both map, and a socket for descriptors.
//!
//! An open DRM file is a connection to a listening socket of the daemon, one socket per node. The first packet on it
//! is the daemon's [`Verdict`]: whether the file is open. A process that
//! uses the file opens a channel: it sends [`Hello`] on that connection together with one end of a socket pair
//! (SOCK_SEQPACKET, as the connection is). The daemon answers on the pair with [`Welcome`] and two descriptors:
//! the channel's memory, and a doorbell, which is an eventfd that the client writes. Either end closes the pair
//! when the channel is over; so a client that finds it closed has lost its file or its daemon. It is over as well when the
//! process that made the pair ends: so that is to be the process that uses it.
//!
//! ```text
//! offset 0        header: counters, one cache line each
//! SLOTS_OFFSET    64 slot headers, 64 bytes each: where a call waits for its answer
//! ANSWERS_OFFSET  64 areas of 64 KiB: the answers' bytes (those never used take no memory)
//! RING_OFFSET     1 MiB: a ring of records, client to daemon
//! ```
//!
//! Numbers are little-endian. On the connection itself the daemon then sends nothing but events, to be read as from
//! a DRM file, and the client nothing but [`Hello`].
//!
//! The client appends a record to the ring and advances `tail`; the daemon takes it and advances `head`. Both
//! count bytes and never wrap back to 0. A record is never split: one that does not fit before the end of the
//! ring is preceded by a filler. A call that wants an answer names a slot; the daemon writes the answer there
//! and wakes the slot's futex. Sending calls without an answer costs the client no system call while the
//! daemon is awake.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::client::{Execbuffer, Ioctl, MAX_ARRAYS};

/// First word of [`Hello`]: "VGLD".
pub const MAGIC: u32 = 0x444c_4756;
/// Version of this interface; both ends must agree.
pub const VERSION: u32 = 4;

/// Name of the node for rendering and mode setting, in /dev/dri and of its socket in the runtime directory.
pub const CARD: &str = "card0";
/// Name of the node for rendering alone.
pub const RENDER: &str = "renderD128";
/// Name of a file in the runtime directory that the daemon writes to whenever a display has changed. Clients watch it
/// (inotify); what is in it means nothing.
pub const HOTPLUG: &str = "hotplug";

/// Header: bytes ever written by the client (u64).
pub const TAIL: usize = 0x000;
/// Header: bytes ever taken by the daemon (u64); its low half is the futex on which a client waits for room.
pub const HEAD: usize = 0x040;
/// Header: the client waits for room and wants the futex at [`HEAD`] woken (u32).
pub const ROOM_WANTED: usize = 0x048;
/// Header: the daemon does not look at the ring and wants the doorbell (u32).
pub const DOORBELL_WANTED: usize = 0x080;
/// Header: the serial of the last record such that everything asynchronous up to it has retired (u64). EXECBUFFER
/// and the transfers are asynchronous, whether they want an answer or not.
pub const RETIRED: usize = 0x0c0;
/// Header: not 0 if another channel of the same file exists, so that [`RETIRED`] says nothing (u32).
pub const FILE_SHARED: usize = 0x100;
/// Header: how often the client has asked whether anybody is there (u32). It rings the doorbell then, whether that is
/// wanted or not.
pub const ASKED: usize = 0x140;
/// Header: what [`ASKED`] was when the daemon last heard the doorbell (u32). A call may take long, and a daemon that has
/// nothing to answer yet is known by this to be alive.
pub const HEARD: usize = 0x180;

/// Where the slot headers begin.
pub const SLOTS_OFFSET: usize = 0x1000;
/// How many slots there are: so many calls of one process can wait for their answers at a time.
pub const SLOTS: usize = 64;
/// Bytes from one slot header to the next.
pub const SLOT_STRIDE: usize = 64;
/// Where the answers begin.
pub const ANSWERS_OFFSET: usize = 0x1_0000;
/// Bytes of each answer area.
pub const ANSWER_BYTES: usize = 0x1_0000;
/// Where the ring begins.
pub const RING_OFFSET: usize = ANSWERS_OFFSET + SLOTS * ANSWER_BYTES;
/// Bytes of the ring.
pub const RING_BYTES: usize = 0x10_0000;
/// Bytes of the channel's memory.
pub const CHANNEL_BYTES: usize = RING_OFFSET + RING_BYTES;
/// The largest record, header included.
pub const MAX_RECORD: usize = RING_BYTES / 2;
/// The largest bulk array that a record can carry: the command stream of an EXECBUFFER that names no buffers.
pub const MAX_BULK: usize = MAX_RECORD - size_of::<Record>() - Execbuffer::TABLE.wire;
/// Records begin at multiples of this: wherever one ends, there is room for the head of a filler.
pub const RECORD_ALIGN: usize = size_of::<Record>();

/// A slot's header.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Slot {
    /// One of the `SLOT_*` values; the futex.
    pub state: u32,
    /// 0, or the error number of the refusal.
    pub errno: i32,
    /// Bytes of the answer.
    pub bytes: u32,
    /// Descriptors that come with it on the channel's socket, tagged with the record's serial.
    pub descriptors: u32,
}

/// Free.
pub const SLOT_FREE: u32 = 0;
/// A call is under way; its caller looks at the slot now and then.
pub const SLOT_PENDING: u32 = 1;
/// A call is under way and its caller sleeps on the futex.
pub const SLOT_SLEEPING: u32 = 2;
/// The answer is there.
pub const SLOT_ANSWERED: u32 = 3;

/// The head of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Record {
    /// Bytes with this head, a multiple of [`RECORD_ALIGN`].
    pub length: u32,
    /// One of the `KIND_*` values.
    pub kind: u16,
    /// Number of the ioctl, or one of the `SERVICE_*` values.
    pub number: u8,
    /// Slot for the answer, or [`NO_SLOT`].
    pub slot: u8,
    /// Counts the records of the channel, from 1; fillers are not counted.
    pub serial: u64,
    /// Bytes of payload that follow.
    pub payload: u32,
    /// Descriptors that go with it on the channel's socket, tagged with `serial`: [`MAX_RECORD_DESCRIPTORS`] at most.
    /// They go before the record, and a packet of descriptors that no record names closes the file.
    pub descriptors: u32,
    /// Zero.
    pub reserved: u64,
}

/// Nothing: takes up the end of the ring.
pub const KIND_FILLER: u16 = 0;
/// An ioctl in the encoding of [`crate::client`].
pub const KIND_IOCTL: u16 = 1;
/// A service of the channel itself.
pub const KIND_SERVICE: u16 = 2;
/// No answer is wanted.
pub const NO_SLOT: u8 = 0xff;

/// Service: fences in advance, made once what was asked for before has been passed on. Payload: how many (u32). Answer: as
/// many tokens (u32 each) with as many descriptors. An EXECBUFFER that wants a fence names one of the tokens in
/// `fence_fd`, and the client hands out that descriptor without asking.
pub const SERVICE_FENCES: u8 = 0;
/// Service: the memory behind an offset that MAP gave. Payload: offset and length (u64 each). Answer: [`Mapped`]
/// with one descriptor.
pub const SERVICE_MAP: u8 = 1;
/// Service: a fence that signals when two others have. Two descriptors go; one comes.
pub const SERVICE_MERGE: u8 = 2;

/// Service: who imports a buffer from now on gets no more than these rights. Payload: handle and
/// [`crate::rights::Rights`] (u32 each). The answer is empty. Only for who made the buffer.
pub const SERVICE_RESTRICT: u8 = 3;
/// Service: all handles that others got for a buffer go, its descriptors are worth nothing, and its memory is moved
/// to where nobody has seen it. Payload: handle (u32). The answer is empty; MAP then gives another offset, and what was
/// mapped before is not the buffer any more. Only for who made the buffer.
pub const SERVICE_REVOKE: u8 = 4;

/// The most fences that one [`SERVICE_FENCES`] gives.
pub const MAX_FENCES: usize = 16;

/// The most descriptors in one message of the channel's socket.
pub const MAX_DESCRIPTORS: usize = 16;

/// The most descriptors that go with a record: two fences to be merged.
pub const MAX_RECORD_DESCRIPTORS: usize = 2;

/// Heads the answer to an ioctl: what follows it. The answer to a service has no head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Answer {
    /// Bytes of the fixed part, which comes first: all of it, or 0 if nothing in it changed.
    pub fixed: u32,
    /// Bytes of each outgoing array, in the order of the table and by its index there; they follow one another.
    /// What the client has more room for is left as it was.
    pub arrays: [u32; MAX_ARRAYS],
}

/// Bytes of a huge page where pages have 4 KiB: what one entry maps of a page table's last level but one. A buffer of so many
/// and more begins at a multiple of them in its memory, where there is such room; mapped as far behind such a multiple, huge
/// pages of it are mapped whole.
pub const HUGE_PAGE: usize = 2 << 20;

/// Answer of [`SERVICE_MAP`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Mapped {
    /// Where to map the descriptor, in bytes.
    pub offset: u64,
    /// The first offset of this file that the descriptor covers (what MAP gave, less `offset`).
    pub base: u64,
    /// How many bytes from `base` on the descriptor covers: a client may keep it for later maps there.
    pub covers: u64,
}

/// The first packet on a connection: whether the file is open. A file that is not is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Verdict {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// 0, or the error number for `open`: EACCES if this user may not open the node, EMFILE if they have too many files.
    pub errno: i32,
}

/// Opens a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
}

/// Answers [`Hello`], with the channel's memory and the doorbell as descriptors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Welcome {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// The largest bulk array that the daemon takes, in bytes. A client refuses a larger one itself: nobody would
    /// be told of the refusal of a call that wants no answer.
    pub largest_bulk: u32,
    /// How many buffers a client may have made that its program has not asked for, of all kinds together; 0 for none. A
    /// small part of its quota, so that a program that uses that up is hardly told too early.
    pub stock_buffers: u32,
    /// Bytes of memory behind these.
    pub stock_bytes: u32,
}

/// Goes on the channel's socket with descriptors, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Attachment {
    /// Serial of the record that they belong to.
    pub serial: u64,
}
