//! Random input for everything in virgld that hears strangers.
//!
//! A [`Target`] turns any bytes into what a stranger may do, has the real code do it, and panics where something
//! is not as it must be. Who makes the bytes is another matter: libFuzzer (`guided.rs`), the bounded run of the tests
//! ([`blind`]), or a file that failed before. `docs/fuzzing.md` says what each target covers.
#![forbid(unsafe_code)]

pub mod blind;
mod input;
mod targets;

pub use input::Input;
pub use targets::{TARGETS, Target, find};
