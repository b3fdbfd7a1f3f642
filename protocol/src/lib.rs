//! The words of virgld, and no behaviour: what the device hears, what clients say, and what the actors say to
//! one another.
//!
//! Values that a device or a client wrote are newtypes with constants, never Rust enums: an unknown value is
//! data, not undefined behaviour.
#![forbid(unsafe_code)]

pub mod channel;
pub mod client;
pub mod device;
pub mod errno;
pub mod ids;
pub mod message;
pub mod pci;
pub mod rights;
pub mod virgl;
pub mod virtio_pci;
