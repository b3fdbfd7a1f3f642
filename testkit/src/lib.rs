//! A simulated device, simulated clients, and the whole system between them on one thread with a made-up clock.
//!
//! Everything here is a function of a seed: what fails once fails again.
#![forbid(unsafe_code)]

pub mod aside;
pub mod clients;
pub mod common;
pub mod device;
pub mod door;
pub mod link;
pub mod matrix;
pub mod queue;
mod random;
pub mod system;

pub use random::Random;
pub use virgld_faults::Plan;
