//! The door on Linux: where clients come in, over sockets and shared memory.
//!
//! * Owns: the runtime directory with its two sockets, the open DRM files, their channels, the pipes that stand
//!   for fences, the descriptors that stand for exported buffers and synchronisation objects.
//! * Speaks: to the scheme, [`virgld_protocol::message::scheme::DoorEvent`].
//! * Hears: [`virgld_protocol::message::door::Message`].
//! * Never: believes a byte of a channel's memory twice; waits for a client; knows what an ioctl means, but for
//!   what the tables say of its bytes.
//!
//! A channel ends with the process that made its sockets, a file with its last descriptor; ends.rs says what becomes of what
//! they had asked for.
//!
//! A client that breaks the rules of the channel ([`virgld_protocol::channel`]) loses the file concerned, and
//! nobody else notices. A file whose share of the queue is used up, or for whose next command stream no device
//! memory is free, has its records left in its ring until earlier ones retire, and one that has had more of the device's time
//! than others until these have caught up.

mod accept;
mod access;
mod actor;
mod answer;
mod attach;
mod channel;
mod complaints;
mod config;
mod directory;
mod ends;
mod event;
mod exports;
mod fences;
mod file;
mod load;
mod packet;
mod record;
mod ring;
mod service;
mod share;
mod silent;
mod sysfs;
mod take;
#[cfg(test)]
mod tests_support;
mod token;

pub use access::{Access, Admission};
pub use actor::Door;
pub use config::{DoorConfig, DoorError, FileLimits, Limits, Sinks, UserLimits};
pub use directory::{own_directory, private_directory};
pub use record::{Broken, take_apart};
