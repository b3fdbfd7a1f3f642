//! Whose a step is: a file whose step fails is cut off, so that nobody waits for what will not come.

use virgld_protocol::ids::FileId;
use virgld_protocol::message::display::Notice as DisplayNotice;
use virgld_protocol::message::resource::Notice as ResourceNotice;
use virgld_protocol::message::scheme::{DoorEvent, Message, Service};
use virgld_runtime::Badge;

use crate::state::State;

impl State {
    /// The file that a message is about, if it is about one.
    pub(crate) fn whose(&self, badge: Badge, message: &Message) -> Option<FileId> {
        match message {
            Message::Door(event) => match event {
                DoorEvent::Opened { file, .. }
                | DoorEvent::Closed { file }
                | DoorEvent::Map { file, .. }
                | DoorEvent::Restrict { file, .. }
                | DoorEvent::Revoke { file, .. }
                | DoorEvent::Merge { file, .. } => Some(*file),
                DoorEvent::Call(call) => Some(call.file),
                DoorEvent::FenceSignalled { .. }
                | DoorEvent::ExportUnused { .. }
                | DoorEvent::SyncobjUnused { .. } => None,
            },
            Message::Context(_) => Some(FileId(badge.0)),
            Message::Resource(
                ResourceNotice::Created { token, .. }
                | ResourceNotice::Isolated { token, .. }
                | ResourceNotice::Refused { token, .. },
            ) => self.parked.get(token).map(crate::create::Parked::file),
            Message::Display(DisplayNotice::Answered { token, .. }) => {
                self.shown.get(token).map(|showing| showing.file)
            }
            Message::Display(DisplayNotice::Event { file, .. })
            | Message::Service(Service::ContextDied { file }) => Some(*file),
            Message::Resource(_) | Message::Display(_) | Message::Service(Service::Report(_)) => None,
        }
    }
}
