//! A simulated device and a simulated client for the tests of virgld.
#![forbid(unsafe_code)]

pub mod queue;
