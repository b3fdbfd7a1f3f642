//! The display actor: what is on the screens.
//!
//! *Owns* connectors, encoders, CRTCs, planes, framebuffers, blobs, master rights and the pace of refreshes.
//! *Speaks to* the scheme (answers, events), the control queue (scanouts, 2D transfers), the cursor queue and the
//! resource actor (pixels that are on the host only). *Hears*
//! [`virgld_protocol::message::display::Message`].
//!
//! *Invariants.* A resource that a framebuffer names is held until nothing shows it. A flip that was accepted
//! gets exactly one event, at a refresh. A file that is not master changes no screen. The device is told of an image
//! for the pointer only when its pixels have arrived there.
#![forbid(unsafe_code)]

mod actor;
mod atomic;
mod blob;
mod commit;
mod cursor;
mod damage;
mod edid;
mod format;
mod framebuffer;
mod legacy;
mod master;
mod mode;
mod object;
mod output;
mod picture;
mod pointer;
mod present;
mod property;
mod query;
mod state;
mod vblank;

pub use actor::Display;
pub use state::{Effect, Presentation, State};
