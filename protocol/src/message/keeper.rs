//! What the device keeper hears: it sees to it that there is a device, and gives up when that makes no sense.

use std::time::Duration;

use virgld_runtime::{Interface, Respond, words};

use super::transport::{DeviceEvent, DeviceNews};

/// Everything the device keeper hears.
#[derive(Debug)]
pub enum Message {
    /// From the transport.
    Transport(DeviceEvent),
    /// From whoever starts devices: it could not.
    Failed(StartFailed),
    /// From the daemon itself.
    Report(Respond<Report>),
}

words!(Message {
    "Transport.Up" => Self::Transport(DeviceEvent { news: DeviceNews::Up, .. }),
    "Transport.Lost" => Self::Transport(DeviceEvent { news: DeviceNews::Lost { .. }, .. }),
    "Transport.Away" => Self::Transport(DeviceEvent { news: DeviceNews::Away { .. }, .. }),
    "Failed" => Self::Failed(_),
    "Report" => Self::Report(_),
}
    fn twin(&self) -> Option<Self> {
        match self {
            Self::Transport(event) => Some(Self::Transport(event.clone())),
            Self::Failed(failed) => Some(Self::Failed(failed.clone())),
            Self::Report(_) => None,
        }
    }
);

/// Which attempt to start a device, of all that the device keeper made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attempt(pub u64);

/// A device could not be started.
#[derive(Debug, Clone)]
pub struct StartFailed {
    /// Which attempt has failed.
    pub attempt: Attempt,
    /// What went wrong, and what to do.
    pub reason: String,
}

/// The device keeper's account.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Devices that were lost so far.
    pub losses: u64,
    /// Why the last was.
    pub last_reason: Option<String>,
    /// From the loss of the last device until the next was ready for commands.
    pub last_outage: Option<Duration>,
}

/// What the transport may say.
pub struct FromTransport;

impl Interface for FromTransport {
    type Message = DeviceEvent;
    type Whole = Message;
    const NAME: &'static str = "keeper::FromTransport";

    fn widen(message: DeviceEvent) -> Message {
        Message::Transport(message)
    }
}

/// What whoever starts devices may say.
pub struct FromStarter;

impl Interface for FromStarter {
    type Message = StartFailed;
    type Whole = Message;
    const NAME: &'static str = "keeper::FromStarter";

    fn widen(message: StartFailed) -> Message {
        Message::Failed(message)
    }
}

/// What the daemon may ask.
pub struct FromDaemon;

impl Interface for FromDaemon {
    type Message = Respond<Report>;
    type Whole = Message;
    const NAME: &'static str = "keeper::FromDaemon";

    fn widen(message: Respond<Report>) -> Message {
        Message::Report(message)
    }
}
