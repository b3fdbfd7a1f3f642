//! The Linux ground: memory in memfds, readiness by epoll, the device behind a vhost-user socket.

pub mod clock;
mod mapping;
pub mod memory;
pub mod process;
pub mod reactor;
pub mod vhost_user;
