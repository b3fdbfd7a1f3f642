//! The handshake: from a connected socket to a device that is ready for use.
//!
//! It blocks, with a deadline for each step, and runs on any thread. The order of the messages is the one that
//! QEMU's and rust-vmm's devices both accept.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with,
    socketpair,
};
use virgld_runtime::io::ReadySink;
use virgld_runtime::link::{CommandArea, QueueArea};
use virgld_runtime::memory::Memory;
use zerocopy::IntoBytes;

use super::display::Display;
use super::error::{ConnectError, Malformed};
use super::layout::{FIRST_BASE, LARGEST_REGION};
use super::link::{Parts, Queue, VhostUserLink};
use super::message::{
    Configuration, MemoryRegion, MemoryTable, Request, RingAddress, RingState, device_feature, gpu_feature,
    protocol_feature,
};
use super::monitor::Monitor;
use super::regions::Regions;
use super::wire::Conversation;
use crate::host::memory::SharedMemory;
use crate::host::queues::{Layout, QueueLayout};
use crate::host::reactor::Registrar;

/// How to set up a device.
#[derive(Debug, Clone)]
pub struct DeviceSetup {
    /// Which GPU features to use where the device offers them ([`gpu_feature`]). A device without VIRGL is refused if
    /// that is among them.
    pub gpu_features: u64,
    /// Memory for commands, in bytes; at most 16 GiB.
    pub command_bytes: usize,
    /// Entries of the control queue, a power of two, at most 1024 (QEMU's limit).
    pub control_entries: u16,
    /// Entries of the cursor queue, likewise.
    pub cursor_entries: u16,
    /// Width and height, in pixels, of the display that the device is told of.
    pub display: (u32, u32),
    /// Where pixels go that the device sends.
    pub monitor: Monitor,
    /// How many of the device's places for memory are used at most, besides that of the queues.
    pub most_places: usize,
    /// How many of these places are kept for regions that must have an address.
    pub reserved_places: usize,
    /// How long the device may take for each step of the handshake. SET_FEATURES starts the renderer, which
    /// took 33 to 236 ms with llvmpipe on an idle machine.
    pub step_deadline: Duration,
}

impl Default for DeviceSetup {
    fn default() -> Self {
        Self {
            gpu_features: gpu_feature::ALL,
            command_bytes: 24 << 20,
            control_entries: 256,
            cursor_entries: 16,
            display: (1280, 800),
            monitor: Monitor::default(),
            most_places: usize::MAX,
            reserved_places: 4,
            step_deadline: Duration::from_secs(10),
        }
    }
}

/// Connects to the socket of a device that somebody else started. Does not wait for it to appear.
pub fn dial(path: &Path) -> Result<UnixStream, ConnectError> {
    let try_it = || {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // It never blocks: a listener whose queue is full says EAGAIN.
        connect_socket(&socket, &address)?;
        Ok(UnixStream::from(socket))
    };
    try_it().map_err(|source| ConnectError::NotListening { path: path.to_owned(), source })
}

/// Sets up the device behind `socket` and returns it ready for use. It reports to the reactor of `registrar`,
/// through sinks that `sink` makes; whoever hears a [`virgld_runtime::io::Ready`] there passes the token to
/// the link's `ready`.
pub fn connect(
    socket: UnixStream,
    setup: &DeviceSetup,
    registrar: &Registrar,
    sink: &mut dyn FnMut() -> ReadySink,
) -> Result<VhostUserLink, ConnectError> {
    establish(socket, setup, None, registrar, sink)
}

/// Sets up a device that takes the place of one that is dead, with that one's memory for queues and commands: what
/// was cut from it stays valid. The set-up must be the same.
pub fn replace(
    socket: UnixStream,
    setup: &DeviceSetup,
    commands: &CommandArea,
    registrar: &Registrar,
    sink: &mut dyn FnMut() -> ReadySink,
) -> Result<VhostUserLink, ConnectError> {
    let (value, range) = (commands.memory.size() as u64, "it is not that of the device before");
    let memory = commands.memory.clone().as_any().downcast::<SharedMemory>().ok();
    let memory = memory.filter(|memory| plan(setup).is_ok_and(|layout| layout.size() == memory.size()));
    let memory = memory.ok_or(ConnectError::BadSetup { what: "a memory for commands", value, range })?;
    establish(socket, setup, Some(memory), registrar, sink)
}

fn establish(
    socket: UnixStream,
    setup: &DeviceSetup,
    inherited: Option<Arc<SharedMemory>>,
    registrar: &Registrar,
    sink: &mut dyn FnMut() -> ReadySink,
) -> Result<VhostUserLink, ConnectError> {
    let layout = plan(setup)?;
    socket.set_nonblocking(true).map_err(|error| ConnectError::System {
        doing: "make a socket non-blocking",
        source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    let socket: Arc<OwnedFd> = Arc::new(socket.into());
    let mut device = Conversation::new(socket.as_fd(), setup.step_deadline);
    let agreed = agree(&mut device, setup)?;
    let configuration = configuration(&device)?;
    let display = give_display(&device, setup)?;
    let memory = give_memory(&device, &layout, inherited)?;
    let mut queues = Vec::new();
    for (index, place) in (0..).zip(layout.queues) {
        queues.push(start_queue(&device, index, place, &memory)?);
    }
    let commands = CommandArea {
        memory,
        address: FIRST_BASE,
        offset: layout.commands.start,
        size: layout.commands.len(),
    };
    let regions = Regions::new(agreed.places.min(setup.most_places), setup.reserved_places);
    let parts =
        Parts { socket, display, queues, commands, regions, features: agreed.features, configuration };
    VhostUserLink::new(parts, registrar, sink)
        .map_err(|source| ConnectError::System { doing: "watch the device's descriptors", source })
}

struct Agreed {
    features: u64,
    /// For regions besides region 0.
    places: usize,
}

fn plan(setup: &DeviceSetup) -> Result<Layout, ConnectError> {
    let sizes = [setup.control_entries, setup.cursor_entries];
    if let Some(bad) = sizes.iter().find(|size| !size.is_power_of_two() || **size > LARGEST_QUEUE) {
        let (what, range) = ("a queue size", "it must be a power of two and at most 1024");
        return Err(ConnectError::BadSetup { what, value: u64::from(*bad), range });
    }
    if setup.command_bytes == 0 || setup.command_bytes > LARGEST_REGION / 2 {
        let (what, range) = ("a command area", "it must be between 1 byte and 16 GiB");
        return Err(ConnectError::BadSetup { what, value: setup.command_bytes as u64, range });
    }
    Ok(Layout::new(sizes, setup.command_bytes))
}

/// Negotiates the features of vhost-user and of the device.
fn agree(device: &mut Conversation<'_>, setup: &DeviceSetup) -> Result<Agreed, ConnectError> {
    device.tell(Request::SET_OWNER, &[], None)?;
    let offered: u64 = device.ask(Request::GET_FEATURES, &[])?;
    require(offered, REQUIRED)?;
    if setup.gpu_features & gpu_feature::VIRGL != 0 {
        require(offered, VIRGL)?;
    }
    let protocol: u64 = device.ask(Request::GET_PROTOCOL_FEATURES, &[])?;
    require(protocol, REQUIRED_PROTOCOL)?;
    let protocol = protocol & (REQUIRED_PROTOCOL[0].0 | OPTIONAL_PROTOCOL);
    device.tell(Request::SET_PROTOCOL_FEATURES, protocol.as_bytes(), None)?;
    device.confirms = protocol & protocol_feature::REPLY_ACK != 0;
    if protocol & protocol_feature::MQ != 0 {
        let queues: u64 = device.ask(Request::GET_QUEUE_NUM, &[])?;
        if queues < 2 {
            let (feature, remedy) = ("a control and a cursor queue", "it is no virtio-gpu device");
            return Err(ConnectError::Lacks { feature, offered: queues, remedy });
        }
    }
    let required: u64 = REQUIRED.iter().map(|(bit, ..)| bit).sum();
    let features = offered & (required | OPTIONAL | setup.gpu_features & gpu_feature::ALL);
    device.set(Request::SET_FEATURES, features.as_bytes(), None)?;
    // A device that changed its mind shows only here: vhost-user cannot read back what was accepted.
    let still: u64 = device.ask(Request::GET_FEATURES, &[])?;
    require(still, REQUIRED)?;
    if still & features != features {
        let (feature, remedy) = ("the features it offered before", "restart it");
        return Err(ConnectError::Lacks { feature, offered: still, remedy });
    }
    // Without confirmations nobody would know when a region can be used.
    let slots = protocol_feature::CONFIGURE_MEM_SLOTS | protocol_feature::REPLY_ACK;
    let places = if protocol & slots == slots {
        let most: u64 = device.ask(Request::GET_MAX_MEM_SLOTS, &[])?;
        usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(1)
    } else {
        0
    };
    Ok(Agreed { features, places })
}

fn require(offered: u64, required: &[(u64, &'static str, &'static str)]) -> Result<(), ConnectError> {
    match required.iter().find(|(bit, ..)| offered & bit == 0) {
        Some(&(_, feature, remedy)) => Err(ConnectError::Lacks { feature, offered, remedy }),
        None => Ok(()),
    }
}

/// Reads the configuration space, in little-endian order as a driver expects it. Displays are the frontend's
/// affair, so a device that knows of none is said to have ours.
fn configuration(device: &Conversation<'_>) -> Result<Vec<u8>, ConnectError> {
    let step = Request::GET_CONFIG;
    let space = u32::try_from(CONFIGURATION_BYTES).unwrap_or_default();
    let question = Configuration {
        offset: 0,
        size: space,
        flags: 0,
        events_read: 0,
        events_clear: 0,
        scanouts: 0,
        capsets: 0,
    };
    let mut answer: Configuration = device.ask(step, question.as_bytes())?;
    if (answer.offset, answer.size) != (0, space) {
        return Err(ConnectError::Malformed { step, what: Malformed::Size(answer.size) });
    }
    answer.scanouts = u32::from_le(answer.scanouts).max(1).to_le();
    Ok(answer.as_bytes()[size_of::<Configuration>() - CONFIGURATION_BYTES..].to_vec())
}

fn give_display(device: &Conversation<'_>, setup: &DeviceSetup) -> Result<Display, ConnectError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|source| ConnectError::System { doing: "make a display socket", source })?;
    // Devices read answers without expecting EAGAIN; the flag belongs to each end alone.
    rustix::io::ioctl_fionbio(&theirs, false)
        .map_err(|source| ConnectError::System { doing: "make a socket blocking", source })?;
    device.tell(Request::GPU_SET_SOCKET, &[], Some(theirs.as_fd()))?;
    Ok(Display::new(Arc::new(ours), setup.display, setup.monitor.clone()))
}

fn give_memory(
    device: &Conversation<'_>,
    layout: &Layout,
    inherited: Option<Arc<SharedMemory>>,
) -> Result<Arc<SharedMemory>, ConnectError> {
    let memory = match inherited {
        Some(memory) => {
            // A device begins with empty queues. They lie inside the memory, so this cannot fail.
            let _ = memory.discard(0, layout.commands.start);
            memory
        }
        None => SharedMemory::new("virgld-queues", layout.size())?,
    };
    let region = MemoryRegion::new(FIRST_BASE, memory.size());
    let table = MemoryTable { count: 1, padding: 0, region };
    device.set(Request::SET_MEM_TABLE, table.as_bytes(), Some(memory.fd()))?;
    Ok(memory)
}

fn start_queue(
    device: &Conversation<'_>,
    index: u16,
    place: QueueLayout,
    memory: &Arc<SharedMemory>,
) -> Result<Queue, ConnectError> {
    let number = u32::from(index);
    let state = |value| RingState { index: number, value };
    let address = RingAddress {
        index: number,
        flags: 0,
        descriptors: FIRST_BASE + place.descriptors as u64,
        used: FIRST_BASE + place.used as u64,
        available: FIRST_BASE + place.available as u64,
        log: 0,
    };
    let [kick, call, error] = [event()?, event()?, event()?];
    let which = u64::from(index);
    device.set(Request::SET_VRING_NUM, state(u32::from(place.size)).as_bytes(), None)?;
    device.set(Request::SET_VRING_BASE, state(0).as_bytes(), None)?;
    device.set(Request::SET_VRING_ADDR, address.as_bytes(), None)?;
    device.set(Request::SET_VRING_ERR, which.as_bytes(), Some(error.as_fd()))?;
    device.set(Request::SET_VRING_CALL, which.as_bytes(), Some(call.as_fd()))?;
    device.set(Request::SET_VRING_KICK, which.as_bytes(), Some(kick.as_fd()))?;
    device.set(Request::SET_VRING_ENABLE, state(1).as_bytes(), None)?;
    let area = QueueArea {
        memory: memory.clone(),
        size: place.size,
        descriptors: place.descriptors,
        available: place.available,
        used: place.used,
    };
    Ok(Queue { area, kick, call: Arc::new(call), error: Arc::new(error) })
}

fn event() -> Result<OwnedFd, ConnectError> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|source| ConnectError::System { doing: "make an eventfd", source })
}

const LARGEST_QUEUE: u16 = 1024;

/// Size of virtio-gpu's configuration space: four words.
const CONFIGURATION_BYTES: usize = 16;

/// Bit, name, and what to do where it is missing.
const REQUIRED: &[(u64, &str, &str)] = &[
    (device_feature::VERSION_1, "VERSION_1", "it is a legacy device: use a newer device program"),
    (device_feature::PROTOCOL_FEATURES, "PROTOCOL_FEATURES", "use a newer device program"),
];

/// The same where 3D is wanted.
const VIRGL: &[(u64, &str, &str)] = &[(
    gpu_feature::VIRGL,
    "VIRGL, that is 3D",
    "start it with 3D, for example: vhost-user-gpu --virgl --render-node=/dev/null",
)];

const OPTIONAL: u64 = device_feature::INDIRECT_DESC | device_feature::EVENT_IDX;

const REQUIRED_PROTOCOL: &[(u64, &str, &str)] =
    &[(protocol_feature::CONFIG, "the protocol feature CONFIG", "use a newer device program")];

const OPTIONAL_PROTOCOL: u64 =
    protocol_feature::MQ | protocol_feature::REPLY_ACK | protocol_feature::CONFIGURE_MEM_SLOTS;
