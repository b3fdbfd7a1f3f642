//! A virtio-gpu device in another process, behind a vhost-user socket.
//!
//! [`connect`] does the handshake and gives a [`VhostUserLink`]. Source of the protocol: QEMU,
//! docs/interop/vhost-user.rst and vhost-user-gpu.rst; what real devices make of it was measured against
//! QEMU 7.2's vhost-user-gpu.
//!
//! Memory: region 0 holds the queues and the commands and is never given to a client; each further region is
//! a memfd of its own. Addresses are made up (layout.rs): the device learns none of ours.

mod display;
mod edid;
mod error;
mod frontend;
mod layout;
mod link;
mod message;
mod monitor;
mod regions;
mod wire;

pub use display::DisplayCounts;
pub use error::{ConnectError, Malformed};
pub use frontend::{DeviceSetup, connect, dial, replace};
pub use link::VhostUserLink;
pub use message::{Request, gpu_feature};
pub use monitor::{Monitor, Screen};
