//! What virgld asks of the operating system: memory shared with a device, readiness of file descriptors, the
//! connection to the device, the doors for clients.
//!
//! This is the only crate of the daemon that contains unsafe code. Everything above it speaks to it through
//! the traits of the runtime ([`virgld_runtime::memory::Memory`], [`virgld_runtime::link::Link`]).

#[cfg(target_os = "linux")]
pub mod host;
