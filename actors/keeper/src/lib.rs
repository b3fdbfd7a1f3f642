//! The device keeper: the device's supervisor.
//!
//! * Owns: how often the device was lost lately, and how long it was away.
//! * Speaks: to whoever starts devices.
//! * Hears: [`virgld_protocol::message::keeper::Message`].
//! * Never: starts a device while another is there, or more of them in a time than its intensity allows.
#![forbid(unsafe_code)]

mod actor;
mod state;

pub use actor::{Keeper, StartDevice};
pub use state::{Effect, PATIENCE, State};
