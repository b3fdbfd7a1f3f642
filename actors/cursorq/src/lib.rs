//! The cursor-queue actor.
//!
//! * Owns: the cursor queue; the newest image and place of each scanout's pointer.
//! * Speaks: to the transport (publish).
//! * Hears: [`virgld_protocol::message::cursorq::Message`].
//! * Never: waits for the control queue. Whoever asks for an update has had the image's transfer answered.
#![forbid(unsafe_code)]

mod actor;
mod state;

pub use actor::CursorQueue;
pub use state::{Effect, State};
