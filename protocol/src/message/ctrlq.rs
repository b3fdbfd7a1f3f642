//! What the control-queue actor hears. It turns typed commands into bytes, gives fences their numbers, holds the
//! deadlines and matches answers to commands.

use virgld_runtime::dma::DmaSlice;
use virgld_runtime::{Cap, Interface, Respond, words};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::context::FromControl;
use super::live::Inventory;
use super::resource::Shape;
use super::transport::{Event as TransportEvent, TABLE_BYTES};
use crate::client::Box3d;
use crate::errno::Errno;
use crate::ids::{ContextId, ResourceId, RingIndex, Serial, Token};

/// Where in a command's slice the response lies.
pub const RESPONSE_OFFSET: usize = TABLE_BYTES;
/// Room for the response of a command that answers with a header alone.
pub const RESPONSE_BYTES: usize = 64;
/// Where a command stream lies in its slice: right behind the header of SUBMIT_3D, so that both are one segment.
pub const STREAM_OFFSET: usize = RESPONSE_OFFSET + RESPONSE_BYTES + SUBMIT_HEADER_BYTES;
/// Bytes of `struct virtio_gpu_cmd_submit`.
pub const SUBMIT_HEADER_BYTES: usize = 32;

/// Everything the control queue hears.
#[derive(Debug)]
pub enum Message {
    /// From a context; the badge is its number on the device.
    Context(ContextCommand),
    /// From the resource actor.
    Resource(ResourceCommand),
    /// From the display.
    Display(DisplayCommand),
    /// From the resource actor, once for each device that came up: it has been told of all resources, and what
    /// contexts want done can follow.
    Furnished,
    /// From the transport.
    Transport(TransportEvent),
    /// From whoever starts contexts.
    Register(Register),
    /// From the daemon itself.
    Report(Respond<Report>),
}

words!(Message {
    "Context.Create" => Self::Context(ContextCommand::Create { .. }),
    "Context.Destroy" => Self::Context(ContextCommand::Destroy),
    "Context.Replay" => Self::Context(ContextCommand::Replay { .. }),
    "Context.Attach" => Self::Context(ContextCommand::Attach { .. }),
    "Context.Detach" => Self::Context(ContextCommand::Detach { .. }),
    "Context.Submit" => Self::Context(ContextCommand::Submit { .. }),
    "Context.Fence" => Self::Context(ContextCommand::Fence { .. }),
    "Context.Transfer" => Self::Context(ContextCommand::Transfer(_)),
    "Resource.Create3d" => Self::Resource(ResourceCommand::Create3d { .. }),
    "Resource.Create2d" => Self::Resource(ResourceCommand::Create2d { .. }),
    "Resource.Fetch" => Self::Resource(ResourceCommand::Fetch { .. }),
    "Resource.AttachBacking" => Self::Resource(ResourceCommand::AttachBacking { .. }),
    "Resource.DetachBacking" => Self::Resource(ResourceCommand::DetachBacking { .. }),
    "Resource.Unreference" => Self::Resource(ResourceCommand::Unreference { .. }),
    "Resource.Restore" => Self::Resource(ResourceCommand::Restore { .. }),
    "Resource.CapsetInfo" => Self::Resource(ResourceCommand::CapsetInfo { .. }),
    "Resource.Capset" => Self::Resource(ResourceCommand::Capset { .. }),
    "Display.Displays" => Self::Display(DisplayCommand::Displays),
    "Display.Edid" => Self::Display(DisplayCommand::Edid { .. }),
    "Display.SetScanout" => Self::Display(DisplayCommand::SetScanout { .. }),
    "Display.Flush" => Self::Display(DisplayCommand::Flush { .. }),
    "Display.Transfer" => Self::Display(DisplayCommand::Transfer { .. }),
    "Furnished" => Self::Furnished,
    "Transport.Up" => Self::Transport(TransportEvent::Up { .. }),
    "Transport.Returned" => Self::Transport(TransportEvent::Returned { .. }),
    "Transport.Lost" => Self::Transport(TransportEvent::Lost { .. }),
    "Transport.Down" => Self::Transport(TransportEvent::Down { .. }),
    "Transport.ConfigurationChanged" => Self::Transport(TransportEvent::ConfigurationChanged),
    "Register.Begin" => Self::Register(Register::Begin { .. }),
    "Register.Died" => Self::Register(Register::Died { .. }),
    "Report" => Self::Report(_),
}
    fn twin(&self) -> Option<Self> {
        match self {
            Self::Display(command) => Some(Self::Display(*command)),
            Self::Transport(event) => event.again().map(Self::Transport),
            _ => None,
        }
    }

    fn corrupt(&mut self) -> bool {
        if let Self::Transport(event) = self { event.corrupt() } else { false }
    }
);

/// The beginning and, if it died, the end of a context's actor.
#[derive(Debug)]
pub enum Register {
    /// It is to be heard from.
    Begin {
        /// Its number, the badge of its commands.
        context: ContextId,
        /// Where its events go.
        events: Cap<FromControl>,
    },
    /// It died without leaving the device.
    Died {
        /// Its number.
        context: ContextId,
    },
}

/// The control queue's account.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Whether there is a device.
    pub up: bool,
    /// Contexts on the device.
    pub contexts: usize,
    /// Commands that the device has.
    pub in_flight: usize,
    /// Fenced commands among them.
    pub fences: usize,
    /// Commands ever sent.
    pub sent: u64,
    /// Answers that were errors.
    pub errors: u64,
    /// Commands that outlived their deadline or their device.
    pub lost: u64,
    /// Contexts on the device, and commands under way.
    pub live: Inventory,
}

/// What a context may have the device do. Which context is meant is the badge of the capability.
#[derive(Debug)]
pub enum ContextCommand {
    /// CTX_CREATE.
    Create {
        /// For people who debug the host.
        name: DebugName,
        /// Capability set, where the device offers CONTEXT_INIT; else 0.
        capset: u32,
    },
    /// CTX_DESTROY. Nothing may follow.
    Destroy,
    /// CTX_ATTACH_RESOURCE.
    Attach {
        /// Which.
        resource: ResourceId,
    },
    /// CTX_DETACH_RESOURCE.
    Detach {
        /// Which.
        resource: ResourceId,
    },
    /// SUBMIT_3D.
    Submit {
        /// The stream, at [`STREAM_OFFSET`]; none if it is empty.
        stream: Option<DmaSlice>,
        /// Its length in bytes.
        length: u32,
        /// The ring, for a context that has rings.
        ring: Option<RingIndex>,
        /// Whether the answer is to wait until the stream has taken effect.
        fenced: bool,
        /// Comes back with [`ContextEvent::Completed`] if fenced, else with [`ContextEvent::Executed`].
        serial: Serial,
    },
    /// A fence behind all that the context has sent: SUBMIT_3D of nothing, fenced.
    Fence {
        /// The last work sent before it. Comes back with [`ContextEvent::Settled`].
        serial: Serial,
    },
    /// TRANSFER_TO_HOST_3D or TRANSFER_FROM_HOST_3D.
    Transfer(Transfer),
    /// SUBMIT_3D of what the context's own journal says. Answered by [`ContextEvent::Replayed`], unless the device is lost
    /// before.
    Replay {
        /// The stream.
        stream: Vec<u32>,
    },
}

/// A transfer between a resource and the memory behind it.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// Which way.
    pub to_host: bool,
    /// Which resource.
    pub resource: ResourceId,
    /// Which texels.
    pub region: Box3d,
    /// Mipmap level.
    pub level: u32,
    /// Where in the memory, in bytes.
    pub offset: u64,
    /// Bytes per row; 0 for the natural.
    pub stride: u32,
    /// Bytes per layer; 0 for the natural.
    pub layer_stride: u32,
    /// Comes back with [`ContextEvent::Completed`].
    pub serial: Serial,
}

/// A context's name for the host's log, at most 64 bytes (virtio 1.2, `struct virtio_gpu_ctx_create`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugName {
    /// The bytes.
    pub bytes: [u8; 64],
    /// How many are meant.
    pub length: u32,
}

impl DebugName {
    /// As much of `name` as fits.
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; 64];
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
            length += 1;
        }
        Self { bytes, length }
    }
}

/// What the control queue tells a context.
#[derive(Debug, Clone, Copy)]
pub enum ContextEvent {
    /// A fenced submit or a transfer is done.
    Completed {
        /// Which.
        serial: Serial,
        /// Whether the device said OK.
        result: Result<(), Errno>,
    },
    /// The device has been through the stream of an unfenced submit. What that has the GPU do may go on.
    Executed {
        /// Which.
        serial: Serial,
        /// Whether the device said OK.
        result: Result<(), Errno>,
    },
    /// A fence signalled, or will not any more.
    Settled {
        /// All work up to here has taken effect.
        serial: Serial,
        /// Whether the device said OK.
        result: Result<(), Errno>,
    },
    /// The device has been through a stream of the context's journal.
    Replayed {
        /// Whether the device said OK.
        result: Result<(), Errno>,
    },
    /// The device answered CTX_CREATE with an error, or never: it does not have the context.
    Refused,
    /// The device is lost, and the context with it. Nothing is told any more of the replays that it had.
    Lost {
        /// How far the context is to blame.
        blame: Blame,
    },
    /// The device answered CTX_DESTROY: its number is free.
    Destroyed,
}

/// How far a context is to blame for the loss of a device. Devices go through the control queue in order, so what one
/// died of is what it had come to, and not what came after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The device had not come to its commands, or was through with them.
    None,
    /// It may have been at a command of this context, or at one of somebody else.
    Shared,
    /// It was at a command of this context.
    Sole,
}

/// What the resource actor may have the device do.
#[derive(Debug)]
pub enum ResourceCommand {
    /// RESOURCE_CREATE_3D.
    Create3d {
        /// Its number.
        resource: ResourceId,
        /// What it is.
        description: Description,
    },
    /// RESOURCE_CREATE_2D.
    Create2d {
        /// Its number.
        resource: ResourceId,
        /// What it is.
        surface: Surface,
    },
    /// TRANSFER_FROM_HOST_3D of all of a resource's first level to where its backing is; reported by
    /// [`ResourceEvent::Fetched`].
    Fetch {
        /// Comes back.
        token: Token,
        /// Which.
        resource: ResourceId,
        /// Texels across.
        width: u32,
        /// Texels down.
        height: u32,
    },
    /// RESOURCE_ATTACH_BACKING with one range of memory.
    AttachBacking {
        /// Which.
        resource: ResourceId,
        /// Where the device sees the memory.
        address: u64,
        /// Bytes.
        length: u32,
    },
    /// RESOURCE_DETACH_BACKING.
    DetachBacking {
        /// Which.
        resource: ResourceId,
    },
    /// RESOURCE_UNREF; reported by [`ResourceEvent::Unreferenced`], after which the device no longer knows the
    /// number nor uses the memory.
    Unreference {
        /// Which.
        resource: ResourceId,
    },
    /// TRANSFER_TO_HOST_3D of no context, or TRANSFER_TO_HOST_2D: the first level of the resource, whole, from the
    /// start of its memory.
    Restore {
        /// Which.
        resource: ResourceId,
        /// What it is.
        shape: Shape,
    },
    /// GET_CAPSET_INFO.
    CapsetInfo {
        /// Comes back.
        token: Token,
        /// Which of those the configuration counts.
        index: u32,
    },
    /// GET_CAPSET.
    Capset {
        /// Comes back.
        token: Token,
        /// Its number.
        id: u32,
        /// Its version.
        version: u32,
        /// Its size in bytes as CapsetInfo told.
        size: u32,
    },
}

/// What a 3D resource is (virtio 1.2, `struct virtio_gpu_resource_create_3d`; same meaning as in
/// [`crate::client::ResourceCreate`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names of the specification")]
pub struct Description {
    pub target: u32,
    pub format: u32,
    pub bind: u32,
    pub width: u32,
    pub height: u32,
    pub depth: u32,
    pub array_size: u32,
    pub last_level: u32,
    pub nr_samples: u32,
    pub flags: u32,
}

/// What a 2D resource is (virtio 1.2, `struct virtio_gpu_resource_create_2d`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surface {
    /// `virtio_gpu_formats`.
    pub format: u32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// What the display may have the device do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisplayCommand {
    /// GET_DISPLAY_INFO.
    Displays,
    /// GET_EDID, where the device offers it.
    Edid {
        /// Of which scanout.
        scanout: u32,
    },
    /// SET_SCANOUT.
    SetScanout {
        /// Which scanout.
        scanout: u32,
        /// What it shows; 0 for nothing.
        resource: ResourceId,
        /// Which part of that.
        rectangle: Rectangle,
    },
    /// RESOURCE_FLUSH.
    Flush {
        /// To be told of the end by [`super::display::ControlEvent::Flushed`], if it is wanted.
        token: Option<Token>,
        /// Which.
        resource: ResourceId,
        /// What changed.
        rectangle: Rectangle,
    },
    /// TRANSFER_TO_HOST_2D.
    Transfer {
        /// To be told of the end by [`super::display::ControlEvent::Transferred`], if it is wanted.
        token: Option<Token>,
        /// Which.
        resource: ResourceId,
        /// Which pixels.
        rectangle: Rectangle,
        /// Where in the memory the first of them is.
        offset: u64,
    },
}

/// Pixels of a scanout or a resource (virtio 1.2, `struct virtio_gpu_rect`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names of the specification")]
pub struct Rectangle {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Description {
    /// All texels of the first level. Layers, and the faces of a cube, are told as depth.
    pub fn first_level(&self) -> Box3d {
        const PIPE_TEXTURE_3D: u32 = 3;
        let d = if self.target == PIPE_TEXTURE_3D { self.depth } else { self.array_size };
        Box3d { x: 0, y: 0, z: 0, w: self.width, h: self.height.max(1), d: d.max(1) }
    }
}

/// What the control queue tells the resource actor.
#[derive(Debug)]
pub enum ResourceEvent {
    /// The device is ready for commands and has no resources. To be answered with [`Furnished`].
    Up {
        /// Negotiated feature bits.
        features: u64,
        /// How many capability sets it has.
        capsets: u32,
    },
    /// The device is gone.
    Down,
    /// The device refused to create the resource or to take its memory.
    Failed {
        /// Which.
        resource: ResourceId,
        /// Why.
        errno: Errno,
    },
    /// RESOURCE_UNREF is answered.
    Unreferenced {
        /// Which.
        resource: ResourceId,
    },
    /// A fetch is complete.
    Fetched {
        /// As asked.
        token: Token,
        /// Whether the device did it.
        result: Result<(), Errno>,
    },
    /// GET_CAPSET_INFO is answered.
    CapsetInfo {
        /// As asked.
        token: Token,
        /// Number, newest version and size; an error if the device refused.
        result: Result<CapsetInfo, Errno>,
    },
    /// GET_CAPSET is answered.
    Capset {
        /// As asked.
        token: Token,
        /// The bytes.
        result: Result<Vec<u8>, Errno>,
    },
}

/// A capability set that the device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapsetInfo {
    /// Its number: 1 VIRGL, 2 VIRGL2, 4 VENUS.
    pub id: u32,
    /// Its newest version.
    pub max_version: u32,
    /// Its size in bytes.
    pub max_size: u32,
}

/// What a context may say; its badge is the context's number.
///
/// It has no word for resources or for screens, nor for which context it means.
///
/// ```compile_fail,E0308
/// # use virgld_protocol::message::ctrlq::{ContextCommands, ResourceCommand};
/// # use virgld_runtime::Cap;
/// fn about_resources(own: &Cap<ContextCommands>, command: ResourceCommand) { let _ = own.send(command); }
/// ```
///
/// ```compile_fail,E0308
/// # use virgld_protocol::message::ctrlq::{ContextCommands, DisplayCommand};
/// # use virgld_runtime::Cap;
/// fn about_screens(own: &Cap<ContextCommands>, command: DisplayCommand) { let _ = own.send(command); }
/// ```
///
/// ```compile_fail,E0559
/// # use virgld_protocol::ids::{ContextId, ResourceId};
/// # use virgld_protocol::message::ctrlq::ContextCommand;
/// fn for_another() -> ContextCommand { ContextCommand::Attach { context: ContextId(7), resource: ResourceId(1) } }
/// ```
pub struct ContextCommands;

impl Interface for ContextCommands {
    type Message = ContextCommand;
    type Whole = Message;
    const NAME: &'static str = "ctrlq::ContextCommands";

    fn widen(message: ContextCommand) -> Message {
        Message::Context(message)
    }
}

/// What the resource actor may say.
pub struct ResourceCommands;

impl Interface for ResourceCommands {
    type Message = ResourceCommand;
    type Whole = Message;
    const NAME: &'static str = "ctrlq::ResourceCommands";

    fn widen(message: ResourceCommand) -> Message {
        Message::Resource(message)
    }
}

/// What the display may say.
pub struct DisplayCommands;

impl Interface for DisplayCommands {
    type Message = DisplayCommand;
    type Whole = Message;
    const NAME: &'static str = "ctrlq::DisplayCommands";

    fn widen(message: DisplayCommand) -> Message {
        Message::Display(message)
    }
}

/// That a device has been told of all resources: what the resource actor says of it, beside its commands.
pub struct Furnishing;

/// The one word of [`Furnishing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Furnished;

impl Interface for Furnishing {
    type Message = Furnished;
    type Whole = Message;
    const NAME: &'static str = "ctrlq::Furnishing";

    fn widen(_: Furnished) -> Message {
        Message::Furnished
    }
}

/// What the transport may say.
pub struct FromTransport;

impl Interface for FromTransport {
    type Message = TransportEvent;
    type Whole = Message;
    const NAME: &'static str = "ctrlq::FromTransport";

    fn widen(message: TransportEvent) -> Message {
        Message::Transport(message)
    }
}

/// What whoever starts contexts may say.
pub struct Registrar;

impl Interface for Registrar {
    type Message = Register;
    type Whole = Message;
    const NAME: &'static str = "ctrlq::Registrar";

    fn widen(message: Register) -> Message {
        Message::Register(message)
    }
}

/// What the daemon may ask.
pub struct FromDaemon;

impl Interface for FromDaemon {
    type Message = Respond<Report>;
    type Whole = Message;
    const NAME: &'static str = "ctrlq::FromDaemon";

    fn widen(message: Respond<Report>) -> Message {
        Message::Report(message)
    }
}
