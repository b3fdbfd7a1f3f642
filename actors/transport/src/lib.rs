//! The transport actor: chains of bytes to the device and back.
//!
//! * Owns: the connection to the device, the virtqueues, every buffer that the device has.
//! * Speaks: to the owners of the queues (returned, lost, up, down), to the resource actor (regions).
//! * Hears: [`virgld_protocol::message::transport::Message`].
//! * Never: looks inside a command. A buffer that was published is kept until the device has returned it or is
//!   gone for good.
#![forbid(unsafe_code)]

mod actor;
mod queue;
pub mod ring;
mod state;
mod urging;

pub use actor::Transport;
pub use state::{Effect, State};
