//! What the actors say to one another, one file per actor that hears it.
//!
//! Requests are imperative, events past tense, and the same verb is used at every hop, so that one search
//! follows a call through the system. An interface names a vocabulary; a capability for it is handed out in
//! the daemon's wiring and nowhere else.

pub mod context;
pub mod ctrlq;
pub mod cursorq;
pub mod display;
pub mod door;
pub mod keeper;
pub mod live;
pub mod resource;
pub mod scheme;
pub mod transport;
