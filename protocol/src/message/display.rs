//! What the display actor hears: mode setting by files of `card0`, what the device tells of its displays, and who
//! wants to see the picture.

use virgld_runtime::{Interface, Respond, words};

use super::live::Inventory;
use super::resource::Backing;
use super::spoil;
use crate::client::kms::ModeInfo as Mode;
use crate::errno::{Errno, Refusal};
use crate::ids::{FenceKey, FileId, ResourceId, Token};

/// Everything the display hears.
#[derive(Debug)]
pub enum Message {
    /// From the scheme.
    Scheme(Request),
    /// From the control queue.
    Control(ControlEvent),
    /// From the resource actor.
    Resource(ReadBack),
    /// From whoever wants to see the picture.
    Look(Look),
    /// From the daemon itself.
    Report(Respond<Report>),
}

words!(Message {
    "Scheme.Opened" => Self::Scheme(Request::Opened { .. }),
    "Scheme.Closed" => Self::Scheme(Request::Closed { .. }),
    "Scheme.Call" => Self::Scheme(Request::Call { .. }),
    "Scheme.Ready" => Self::Scheme(Request::Ready { .. }),
    "Scheme.Revoked" => Self::Scheme(Request::Revoked { .. }),
    "Scheme.Moved" => Self::Scheme(Request::Moved { .. }),
    "Control.Up" => Self::Control(ControlEvent::Up { .. }),
    "Control.Down" => Self::Control(ControlEvent::Down),
    "Control.Changed" => Self::Control(ControlEvent::Changed),
    "Control.Displays" => Self::Control(ControlEvent::Displays(_)),
    "Control.Edid" => Self::Control(ControlEvent::Edid { .. }),
    "Control.Transferred" => Self::Control(ControlEvent::Transferred { .. }),
    "Control.Flushed" => Self::Control(ControlEvent::Flushed { .. }),
    "Resource.ReadBack" => Self::Resource(_),
    "Look" => Self::Look(_),
    "Report" => Self::Report(_),
}
    fn twin(&self) -> Option<Self> {
        if let Self::Control(ControlEvent::Changed) = self {
            Some(Self::Control(ControlEvent::Changed))
        } else {
            None
        }
    }

    fn corrupt(&mut self) -> bool {
        match self {
            Self::Control(ControlEvent::Displays(result)) => spoil(result),
            Self::Control(ControlEvent::Edid { result, .. }) => spoil(result),
            Self::Control(ControlEvent::Transferred { result, .. }) => spoil(result),
            Self::Control(ControlEvent::Flushed { result, .. }) => spoil(result),
            Self::Resource(ReadBack { result, .. }) => spoil(result),
            _ => false,
        }
    }

    fn refuse(&mut self) -> bool {
        let Self::Scheme(Request::Call { call, .. }) = self else { return false };
        // No object has this number.
        *call = Call::Crtc(u32::MAX);
        true
    }
);

/// What the scheme asks of the display.
#[derive(Debug)]
pub enum Request {
    /// A file of `card0` was opened. The first becomes master.
    Opened {
        /// The file.
        file: FileId,
        /// Whether its owner may do what only root may.
        privileged: bool,
    },
    /// The file is closed. What it set up is gone, and if it was master, every screen is blank.
    Closed {
        /// The file.
        file: FileId,
    },
    /// A call, answered by [`Notice::Answered`].
    Call {
        /// The file.
        file: FileId,
        /// Comes back with the answer.
        token: Token,
        /// What is asked.
        call: Call,
    },
    /// The work that [`Notice::Await`] asked about is complete.
    Ready {
        /// As asked.
        gate: Token,
    },
    /// A buffer's maker has taken back what others had of it: what they put on screens goes from there.
    Revoked {
        /// Which.
        resource: ResourceId,
        /// Whose framebuffers of it stay.
        maker: FileId,
    },
    /// A buffer's memory is elsewhere from now on.
    Moved {
        /// Which.
        resource: ResourceId,
        /// Where.
        backing: Backing,
    },
}

/// A call about mode setting, taken apart. Numbers of mode objects (connectors, framebuffers, blobs...) are the
/// client's word.
#[derive(Debug, Clone)]
pub enum Call {
    /// SET_CLIENT_CAP.
    Understand {
        /// Which (`DRM_CLIENT_CAP_*`).
        capability: u64,
        /// The value.
        value: u64,
    },
    /// SET_MASTER.
    SetMaster,
    /// DROP_MASTER.
    DropMaster,
    /// Whether the file is master; EACCES if not. What a master is told: its call may be wrong in another way, and that
    /// is told to nobody else, as on Linux.
    NeedMaster(Result<(), Errno>),
    /// MODE_GETRESOURCES.
    Resources,
    /// MODE_GETCONNECTOR.
    Connector(u32),
    /// MODE_GETENCODER.
    Encoder(u32),
    /// MODE_GETCRTC.
    Crtc(u32),
    /// MODE_GETPLANERESOURCES.
    Planes,
    /// MODE_GETPLANE.
    Plane(u32),
    /// MODE_OBJ_GETPROPERTIES.
    Properties {
        /// The object.
        object: u32,
        /// What it is said to be (`DRM_MODE_OBJECT_*`); 0 for any.
        kind: u32,
    },
    /// MODE_GETPROPERTY.
    Property(u32),
    /// MODE_GETPROPBLOB.
    Blob(u32),
    /// MODE_CREATEPROPBLOB.
    CreateBlob(Vec<u8>),
    /// MODE_DESTROYPROPBLOB.
    DestroyBlob(u32),
    /// MODE_ADDFB and MODE_ADDFB2.
    AddFramebuffer(NewFramebuffer),
    /// MODE_RMFB.
    RemoveFramebuffer(u32),
    /// MODE_CLOSEFB.
    CloseFramebuffer(u32),
    /// MODE_GETFB and MODE_GETFB2.
    Framebuffer(u32),
    /// MODE_SETCRTC.
    SetCrtc(SetCrtc),
    /// MODE_PAGE_FLIP.
    PageFlip {
        /// The CRTC.
        crtc: u32,
        /// The new framebuffer.
        framebuffer: u32,
        /// `DRM_MODE_PAGE_FLIP_*`.
        flags: u32,
        /// Comes back with the event.
        user_data: u64,
    },
    /// MODE_DIRTYFB.
    Dirty {
        /// The framebuffer.
        framebuffer: u32,
        /// `DRM_MODE_FB_DIRTY_*`.
        flags: u32,
        /// What changed: left, top, right, bottom each; everything if empty.
        clips: Vec<[u16; 4]>,
    },
    /// MODE_SETPLANE.
    SetPlane(SetPlane),
    /// MODE_CURSOR and MODE_CURSOR2.
    Cursor(CursorCall),
    /// MODE_GETGAMMA.
    Gamma {
        /// The CRTC.
        crtc: u32,
        /// Entries that the caller expects.
        size: u32,
    },
    /// MODE_SETGAMMA.
    SetGamma {
        /// The CRTC.
        crtc: u32,
        /// Entries that the caller has.
        size: u32,
    },
    /// MODE_SETPROPERTY and MODE_OBJ_SETPROPERTY.
    SetProperty {
        /// The object.
        object: u32,
        /// What it is said to be; 0 for any.
        kind: u32,
        /// The property.
        property: u32,
        /// The value.
        value: u64,
    },
    /// MODE_ATOMIC.
    Atomic {
        /// `DRM_MODE_ATOMIC_*` and `DRM_MODE_PAGE_FLIP_*`.
        flags: u32,
        /// Object, property, value.
        sets: Vec<(u32, u32, u64)>,
        /// Comes back with the event.
        user_data: u64,
        /// The fence that came with IN_FENCE_FD: nothing is shown before it has signalled.
        fence_in: Option<FenceKey>,
        /// The fence for OUT_FENCE_PTR, which is the display's to signal from now on ([`Notice::Signal`]).
        fence_out: Option<FenceKey>,
    },
    /// WAIT_VBLANK.
    WaitVblank {
        /// `DRM_VBLANK_*`.
        kind: u32,
        /// Which refresh, absolute or from now.
        sequence: u32,
        /// Comes back with the event.
        user_data: u64,
    },
    /// CRTC_GET_SEQUENCE.
    Sequence(u32),
    /// CRTC_QUEUE_SEQUENCE.
    QueueSequence {
        /// The CRTC.
        crtc: u32,
        /// `DRM_CRTC_SEQUENCE_*`.
        flags: u32,
        /// Which refresh, absolute or from now.
        sequence: u64,
        /// Comes back with the event.
        user_data: u64,
    },
    /// MODE_LIST_LESSEES and the other calls about leases.
    Lease(LeaseCall),
}

/// A call about leases. There are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCall {
    /// MODE_CREATE_LEASE.
    Create,
    /// MODE_LIST_LESSEES.
    List,
    /// MODE_GET_LEASE.
    Get,
    /// MODE_REVOKE_LEASE.
    Revoke,
}

/// A framebuffer to be: part of a buffer, as the client describes it.
#[derive(Debug, Clone)]
pub struct NewFramebuffer {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `DRM_FORMAT_*`.
    pub format: u32,
    /// `DRM_MODE_FB_*`.
    pub flags: u32,
    /// Bytes per row.
    pub pitch: u32,
    /// Bytes before the first row.
    pub offset: u32,
    /// How the pixels of each plane lie, with the flag for it.
    pub modifiers: [u64; 4],
    /// The buffer; none if the file has no such handle, or gave none.
    pub image: Option<Image>,
}

/// A buffer that its holder may put on a screen.
#[derive(Debug, Clone)]
pub struct Image {
    /// On the device.
    pub resource: ResourceId,
    /// Bytes of memory behind it.
    pub bytes: u64,
    /// Where its pixels are.
    pub pixels: Pixels,
}

/// Where the pixels of a buffer are.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// In memory: a dumb buffer.
    Memory(Backing),
    /// On the host: what a GL context draws to.
    Host,
}

/// MODE_SETCRTC.
#[derive(Debug, Clone)]
pub struct SetCrtc {
    /// The CRTC.
    pub crtc: u32,
    /// The framebuffer; 0 for none, all ones for the one that is shown.
    pub framebuffer: u32,
    /// Where in the framebuffer.
    pub position: (u32, u32),
    /// The connectors.
    pub connectors: Vec<u32>,
    /// The mode; none to switch off.
    pub mode: Option<Mode>,
}

/// MODE_SETPLANE.
#[derive(Debug, Clone, Copy)]
pub struct SetPlane {
    /// The plane.
    pub plane: u32,
    /// The CRTC.
    pub crtc: u32,
    /// The framebuffer; 0 to switch off.
    pub framebuffer: u32,
    /// Left and top on the screen.
    pub position: (i32, i32),
    /// Width and height on the screen.
    pub size: (u32, u32),
    /// Left, top, width and height in the framebuffer, in 1/65536 of a pixel.
    pub source: [u32; 4],
}

/// MODE_CURSOR2, and MODE_CURSOR without a hotspot.
#[derive(Debug, Clone)]
pub struct CursorCall {
    /// The CRTC.
    pub crtc: u32,
    /// `DRM_MODE_CURSOR_*`.
    pub flags: u32,
    /// Where to.
    pub position: (i32, i32),
    /// Width and height of the image.
    pub size: (u32, u32),
    /// The image: none to hide the pointer, an error if the file has no such handle.
    pub image: Result<Option<Image>, Errno>,
    /// The point of the image that points.
    pub hotspot: (i32, i32),
}

/// What the display tells the scheme.
#[derive(Debug)]
pub enum Notice {
    /// Answers a call.
    Answered {
        /// Which.
        token: Token,
        /// How.
        result: Result<Answer, Refusal>,
    },
    /// Something for the file to read.
    Event {
        /// The file.
        file: FileId,
        /// What happened.
        event: Event,
    },
    /// Tell me by [`Request::Ready`] when all that is under way on this resource is complete.
    Await {
        /// Comes back.
        gate: Token,
        /// Which.
        resource: ResourceId,
    },
    /// Tell me by [`Request::Ready`] when this fence has signalled, whether with an error or not.
    AwaitFence {
        /// Comes back.
        gate: Token,
        /// Which.
        fence: FenceKey,
    },
    /// What was to happen before this fence signals has happened, or will not.
    Signal {
        /// Which.
        fence: FenceKey,
        /// Whether it happened.
        result: Result<(), Errno>,
    },
    /// What is connected is not what it was: other modes, another display, or none.
    Replugged,
    /// A framebuffer or a pointer names this resource from now on: it must not be released.
    Held {
        /// Which.
        resource: ResourceId,
    },
    /// One of those no longer does.
    Let {
        /// Which.
        resource: ResourceId,
    },
}

/// The answer to a call.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Done.
    Done,
    /// The number of a new framebuffer or blob.
    Made(u32),
    /// MODE_GETRESOURCES.
    Resources(Resources),
    /// MODE_GETCONNECTOR.
    Connector(Connector),
    /// MODE_GETENCODER.
    Encoder {
        /// The CRTC that it gets its picture from, or 0.
        crtc: u32,
        /// Those that it could, as bits.
        possible: u32,
    },
    /// MODE_GETCRTC.
    Crtc {
        /// The framebuffer, or 0.
        framebuffer: u32,
        /// Where in it.
        position: (u32, u32),
        /// The mode, if any.
        mode: Option<Mode>,
    },
    /// MODE_GETPLANERESOURCES.
    Planes(Vec<u32>),
    /// MODE_GETPLANE.
    Plane {
        /// The CRTC, or 0.
        crtc: u32,
        /// The framebuffer, or 0.
        framebuffer: u32,
        /// Which CRTCs could show it, as bits.
        possible: u32,
        /// `DRM_FORMAT_*`.
        formats: Vec<u32>,
    },
    /// MODE_OBJ_GETPROPERTIES: property and value.
    Properties(Vec<(u32, u64)>),
    /// MODE_GETPROPERTY.
    Property(Property),
    /// MODE_GETPROPBLOB.
    Blob(Vec<u8>),
    /// MODE_GETFB and MODE_GETFB2. The resource is given to a master only.
    Framebuffer {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// `DRM_FORMAT_*`.
        format: u32,
        /// Bytes per row.
        pitch: u32,
        /// Bytes before the first row.
        offset: u32,
        /// The buffer behind it, for who may have a handle of it.
        resource: Option<ResourceId>,
    },
    /// WAIT_VBLANK and CRTC_GET_SEQUENCE.
    Vblank {
        /// Which refresh.
        sequence: u64,
        /// When it was, in nanoseconds of the monotonic clock.
        time: u64,
        /// Whether the CRTC is on.
        active: bool,
    },
    /// MODE_LIST_LESSEES: nobody.
    NoLessees,
}

/// MODE_GETRESOURCES.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the names of the uapi header")]
pub struct Resources {
    pub framebuffers: Vec<u32>,
    pub crtcs: Vec<u32>,
    pub connectors: Vec<u32>,
    pub encoders: Vec<u32>,
    pub smallest: (u32, u32),
    pub largest: (u32, u32),
}

/// MODE_GETCONNECTOR.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    /// Its encoder.
    pub encoder: u32,
    /// The encoder in use, or 0.
    pub current_encoder: u32,
    /// Which of its kind; the first is 1.
    pub index: u32,
    /// Whether something is connected.
    pub connected: bool,
    /// Size in millimetres.
    pub size: (u32, u32),
    /// What it can show.
    pub modes: Vec<Mode>,
    /// Property and value.
    pub properties: Vec<(u32, u64)>,
}

/// MODE_GETPROPERTY.
#[derive(Debug, Clone, Default)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// `DRM_MODE_PROP_*`.
    pub flags: u32,
    /// What values it takes.
    pub values: Vec<u64>,
    /// The names of an enumeration's values.
    pub names: Vec<(u64, &'static str)>,
}

/// Something for a client to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `DRM_EVENT_VBLANK`: a refresh that was waited for.
    Vblank(Moment),
    /// `DRM_EVENT_FLIP_COMPLETE`: what was committed is shown.
    Flip(Moment),
    /// `DRM_EVENT_CRTC_SEQUENCE`: a refresh that was waited for.
    Sequence(Moment),
}

/// A refresh of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// As the client gave it.
    pub user_data: u64,
    /// The CRTC.
    pub crtc: u32,
    /// Which refresh.
    pub sequence: u64,
    /// When, in nanoseconds of the monotonic clock.
    pub time: u64,
}

/// What the control queue tells the display.
#[derive(Debug)]
pub enum ControlEvent {
    /// The device is ready for commands and shows nothing.
    Up {
        /// Negotiated feature bits.
        features: u64,
        /// How many scanouts it has.
        scanouts: u32,
    },
    /// The device is gone.
    Down,
    /// The device says that a display changed.
    Changed,
    /// GET_DISPLAY_INFO is answered: width and height of each scanout, or none where nothing is connected.
    Displays(Result<Vec<Option<(u32, u32)>>, Errno>),
    /// GET_EDID is answered.
    Edid {
        /// Which scanout.
        scanout: u32,
        /// The bytes.
        result: Result<Vec<u8>, Errno>,
    },
    /// A transfer that asked for it is complete.
    Transferred {
        /// As asked.
        token: Token,
        /// Whether the device did it.
        result: Result<(), Errno>,
    },
    /// A flush that asked for it is answered, and all that was sent before it is done.
    Flushed {
        /// As asked.
        token: Token,
        /// Whether the device did it.
        result: Result<(), Errno>,
    },
}

/// A resource's pixels, fetched from the host.
#[derive(Debug)]
pub struct ReadBack {
    /// As asked.
    pub token: Token,
    /// Bytes per row, and the bytes.
    pub result: Result<(u32, Vec<u8>), Errno>,
}

/// Somebody wants to see what a scanout shows.
#[derive(Debug)]
pub struct Look {
    /// Which scanout.
    pub scanout: u32,
    /// Where the picture goes.
    pub respond: Respond<Result<Picture, Errno>>,
}

/// What a scanout shows, the pointer included.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Blue, green, red and a byte without meaning for each pixel, row by row.
    pub pixels: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Picture({} by {})", self.width, self.height)
    }
}

/// The display's account.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One entry per scanout.
    pub outputs: Vec<OutputReport>,
    /// Framebuffers.
    pub framebuffers: usize,
    /// Blobs that clients made.
    pub blobs: usize,
    /// Which file is master.
    pub master: Option<FileId>,
    /// Framebuffers, blobs, and calls that wait for a screen.
    pub live: Inventory,
}

/// One scanout.
#[derive(Debug, Clone, Default)]
pub struct OutputReport {
    /// Width and height that the display says it has, if one is connected.
    pub connected: Option<(u32, u32)>,
    /// Width and height of the mode that is set, if it is on.
    pub mode: Option<(u32, u32)>,
    /// Refreshes in a thousand seconds.
    pub millihertz: u32,
    /// Flips that were shown.
    pub flips: u64,
    /// Where the pointer is, if it is shown.
    pub pointer: Option<(i32, i32)>,
}

/// What the scheme may say.
pub struct FromScheme;

impl Interface for FromScheme {
    type Message = Request;
    type Whole = Message;
    const NAME: &'static str = "display::FromScheme";

    fn widen(message: Request) -> Message {
        Message::Scheme(message)
    }
}

/// What the control queue may say.
pub struct FromControl;

impl Interface for FromControl {
    type Message = ControlEvent;
    type Whole = Message;
    const NAME: &'static str = "display::FromControl";

    fn widen(message: ControlEvent) -> Message {
        Message::Control(message)
    }
}

/// What the resource actor may say.
pub struct FromResource;

impl Interface for FromResource {
    type Message = ReadBack;
    type Whole = Message;
    const NAME: &'static str = "display::FromResource";

    fn widen(message: ReadBack) -> Message {
        Message::Resource(message)
    }
}

/// What who may see the screens may ask.
pub struct Looks;

impl Interface for Looks {
    type Message = Look;
    type Whole = Message;
    const NAME: &'static str = "display::Looks";

    fn widen(message: Look) -> Message {
        Message::Look(message)
    }
}

/// What the daemon may ask.
pub struct FromDaemon;

impl Interface for FromDaemon {
    type Message = Respond<Report>;
    type Whole = Message;
    const NAME: &'static str = "display::FromDaemon";

    fn widen(message: Respond<Report>) -> Message {
        Message::Report(message)
    }
}
