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

/// Makes a success a failure: a fault that is injected. Says whether it was one.
fn spoil<T>(result: &mut Result<T, crate::errno::Errno>) -> bool {
    let good = result.is_ok();
    if good {
        *result = Err(crate::errno::Errno::EIO);
    }
    good
}
