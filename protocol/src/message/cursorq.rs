//! What the cursor-queue actor hears.

use virgld_runtime::{Interface, words};

use super::transport::Event as TransportEvent;
use crate::ids::ResourceId;

/// Everything the cursor queue hears.
#[derive(Debug)]
pub enum Message {
    /// From the display.
    Display(Request),
    /// From the transport.
    Transport(TransportEvent),
}

words!(Message {
    "Display.Update" => Self::Display(Request::Update { .. }),
    "Display.Move" => Self::Display(Request::Move { .. }),
    "Transport.Up" => Self::Transport(TransportEvent::Up { .. }),
    "Transport.Returned" => Self::Transport(TransportEvent::Returned { .. }),
    "Transport.Lost" => Self::Transport(TransportEvent::Lost { .. }),
    "Transport.Down" => Self::Transport(TransportEvent::Down { .. }),
    "Transport.ConfigurationChanged" => Self::Transport(TransportEvent::ConfigurationChanged),
}
    fn twin(&self) -> Option<Self> {
        match self {
            Self::Display(request) => Some(Self::Display(*request)),
            Self::Transport(event) => event.again().map(Self::Transport),
        }
    }

    fn corrupt(&mut self) -> bool {
        if let Self::Transport(event) = self { event.corrupt() } else { false }
    }
);

/// What may be asked about the pointer of one scanout (virtio 1.2, section 5.7.6.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// UPDATE_CURSOR: another image, or none with resource 0.
    Update {
        /// Which scanout.
        scanout: u32,
        /// Position in pixels.
        position: (u32, u32),
        /// The image, 64x64 texels; its contents must have reached the host.
        image: ResourceId,
        /// The point of the image that points.
        hotspot: (u32, u32),
    },
    /// MOVE_CURSOR. Only the newest of many moves matters.
    Move {
        /// Which scanout.
        scanout: u32,
        /// Position in pixels.
        position: (u32, u32),
    },
}

/// What the display may say.
pub struct FromDisplay;

impl Interface for FromDisplay {
    type Message = Request;
    type Whole = Message;
    const NAME: &'static str = "cursorq::FromDisplay";

    fn widen(message: Request) -> Message {
        Message::Display(message)
    }
}

/// What the transport may say.
pub struct FromTransport;

impl Interface for FromTransport {
    type Message = TransportEvent;
    type Whole = Message;
    const NAME: &'static str = "cursorq::FromTransport";

    fn widen(message: TransportEvent) -> Message {
        Message::Transport(message)
    }
}
