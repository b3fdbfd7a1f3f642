//! The Linux ground: memory in memfds, readiness by epoll, the device behind a vhost-user socket.
//!
//! The main loop of a stage, with a device of its own:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use virgld_platform::host::{clock::now, process::*, reactor::Reactor, vhost_user::*};
//! # use virgld_runtime::{Stage, io::{Ready, ReadySink}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let to_transport = |_: Ready| true;
//! let mut reactor = Reactor::new()?;
//! let mut stage = Stage::new(reactor.waker());
//! let program = DeviceProgram::qemu(None);
//! let (device, socket) = DeviceProcess::start(&program, Duration::from_secs(5))?;
//! // Each sink sends `Ready` to the transport, which hands its token to `Link::ready`.
//! let mut sink = || -> ReadySink { Box::new(to_transport) };
//! let link = connect(socket, &DeviceSetup::default(), &reactor.registrar(), &mut sink)?;
//! # let _ = (device, link);
//! loop {
//!     stage.run(now());
//!     let sleeps = stage.may_sleep();
//!     let until = stage.deadline().map(|deadline| deadline.since(now()));
//!     reactor.wait(if sleeps { until } else { Some(Duration::ZERO) }, || stage.awake())?;
//! }
//! # }
//! ```

pub mod clock;
mod device_log;
pub mod door;
mod log_limit;
mod mapping;
pub mod memory;
pub mod pci;
pub mod process;
mod program;
mod queues;
pub mod reactor;
pub mod sandbox;
pub mod vhost_user;
