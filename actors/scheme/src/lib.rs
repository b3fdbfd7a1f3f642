//! The scheme actor: the ioctls.
//!
//! * Owns: one capability table per open file; the fences and synchronisation objects that clients can name.
//! * Speaks: to the door (answers, signals), to the resource actor, to the contexts of its files.
//! * Hears: [`virgld_protocol::message::scheme::Message`].
//! * Never: holds device authority; takes a number from a client for more than an index into that client's own
//!   table. "Not yours" and "does not exist" are the same answer.
#![forbid(unsafe_code)]

mod actor;
mod buffer;
mod context;
mod create;
mod derive;
mod distant;
mod dumb;
mod execbuffer;
mod fence;
mod file;
mod kms;
mod kms_answers;
mod kms_calls;
mod live;
mod map;
mod node;
mod parameter;
mod prime;
mod state;
mod syncobj;
mod syncobj_calls;
mod syncobj_transfer;
mod syncobj_wait;
mod transfer;
mod vigil;
mod wait;
mod whose;

pub use actor::{Contexts, Scheme};
pub use state::{Effect, Limits, State, UserLimits};
