//! The actor runtime of virgld: capabilities, mailboxes, stages, and memory shared with a device.
//!
//! It knows no GPU. An actor is a value with a mailbox; a capability ([`Cap`]) is the only way to put a
//! message into it; a [`Stage`] is the thread that runs a set of actors to completion. Which actor may speak
//! to which is decided where they are wired together, by handing out capabilities, and nowhere else.
#![forbid(unsafe_code)]

mod actor;
mod cap;
mod cell;
mod deadlines;
mod death;
pub mod dma;
pub mod fault;
pub mod io;
pub mod lent;
pub mod link;
mod mailbox;
pub mod memory;
mod outbox;
mod queue;
mod respond;
mod spawn;
mod stage;
mod supervise;
mod tree;
mod watched;
mod words;

pub use actor::{Actor, Badge, Fault, Restart, Time, Turn, carry_out};
pub use cap::{Cap, Dead, Interface};
pub use death::{Casualty, Death};
pub use mailbox::{Mailbox, Minter};
pub use respond::Respond;
pub use spawn::{Spawner, Supervisor};
pub use stage::{SlotId, Stage, Wake};
pub use supervise::{Intensity, Restarts};
pub use tree::{Strategy, SupervisorReport};
pub use watched::{Abandonment, Revoked, Tenure, Watched};
pub use words::Words;
