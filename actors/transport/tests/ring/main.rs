//! Tests of the ring against a device that plays the other side on the same memory.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

mod events;
mod faults;
mod hostile;
mod model;
mod setup;
mod threads;
mod transfers;
