//! The control-queue actor.
//!
//! * Owns: the commands that the device has and has not answered, the numbers of fences, the deadlines.
//! * Speaks: to the transport (publish), to contexts and the resource actor (events).
//! * Hears: [`virgld_protocol::message::ctrlq::Message`].
//! * Never: knows a client's handle, or lets one context name another: which context a command is for is the
//!   badge of the capability that it came through.
//! * A command is answered exactly once, by the device, by its deadline or by the loss of the device.
#![forbid(unsafe_code)]

mod actor;
mod answer;
mod backlog;
mod blame;
mod command;
mod state;

pub use actor::ControlQueue;
pub use state::{Effect, State};
