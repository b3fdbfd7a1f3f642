//! The context actor: one per GL context.
//!
//! * Owns: the context's life on the device, the order of its work, what has completed.
//! * Speaks: to the control queue, through a capability whose badge is this context, so that it cannot even
//!   pronounce another; to the scheme, through one whose badge is the file.
//! * Hears: [`virgld_protocol::message::context::Message`].
//! * Keeps, where contexts are to survive: a journal of what the context is, to make it anew on the next device.
//! * Never: submits for another context. Every piece of work is reported complete exactly once.
#![forbid(unsafe_code)]

mod actor;
mod borrowed;
mod budget;
mod journal;
mod state;
mod survive;
mod timeline;
mod words;

pub use actor::Context;
pub use budget::Budget;
pub use state::{Effect, State};
