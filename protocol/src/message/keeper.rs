//! What the device keeper hears: it sees to it that there is a device, and gives up when that makes no sense.

use std::time::Duration;

use virgld_runtime::{Interface, Respond, words};

use super::transport::DeviceEvent;

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
    "Transport.Up" => Self::Transport(DeviceEvent::Up),
    "Transport.Lost" => Self::Transport(DeviceEvent::Lost { .. }),
    "Transport.Away" => Self::Transport(DeviceEvent::Away { .. }),
    "Failed" => Self::Failed(_),
    "Report" => Self::Report(_),
}
    fn twin(&self) -> Option<Self> {
        if let Self::Transport(event) = self { Some(Self::Transport(event.clone())) } else { None }
    }
);

/// A device could not be started.
#[derive(Debug)]
pub struct StartFailed {
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
