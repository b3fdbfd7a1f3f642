//! The resource actor: the truth on resources.
//!
//! * Owns: the numbers of resources, the memory behind each, who pays for it, what the device was told.
//! * Speaks: to the control queue (create, back, forget), to the transport (regions of memory), to the scheme.
//! * Hears: [`virgld_protocol::message::resource::Message`].
//! * Never: trusts a number from a client; gives memory to a second owner before the device has let go of it,
//!   nor unzeroed.
#![forbid(unsafe_code)]

mod account;
mod actor;
mod arena;
mod capsets;
mod create;
mod fetch;
mod release;
mod state;
mod throttle;

pub use account::Quota;
pub use actor::Resources;
pub use state::{Effect, Limits, State};
