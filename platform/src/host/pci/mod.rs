//! A virtio-gpu device on the PCI bus, driven through VFIO behind an IOMMU.
//!
//! [`connect`] binds, resets and sets up the device and gives a [`PciLink`]. The device reaches region 0 (queues
//! and commands), and of every other region those ranges only that were shown to it ([`Link::show`]).
//!
//! Sources: virtio 1.2, section 4.1; Linux, Documentation/driver-api/vfio.rst and include/uapi/linux/vfio.h.
//!
//! [`Link::show`]: virgld_runtime::link::Link::show

mod address;
mod addresses;
mod error;
mod link;
mod registers;
mod setup;
mod sysfs;
mod vfio;

pub use address::{Address, BadAddress};
pub use error::PciError;
pub use link::{PciLink, PciSetup, connect, replace};
pub use sysfs::{Loan, find, is_there, lend};
