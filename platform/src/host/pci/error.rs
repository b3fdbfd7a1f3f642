//! What can go wrong before a device is ready for use: what happened, to whom, what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use virgld_protocol::virtio_pci::Malformed;

use super::address::Address;
use crate::host::memory::MemoryError;

/// A device could not be bound or set up.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// There is no such device.
    #[error(
        "there is no PCI device {0}; `grep -l 0x1050 /sys/bus/pci/devices/*/device` lists virtio-gpu devices"
    )]
    NoDevice(Address),
    /// There is no virtio-gpu device.
    #[error("there is no virtio-gpu device (1af4:1050) on this machine's PCI bus")]
    NoneFound,
    /// Nothing stands between the device and memory.
    #[error(
        "device {0} is behind no IOMMU, so it cannot be given to a user's program; give the machine one (QEMU: \
         -device intel-iommu,intremap=on and iommu_platform=on for the gpu; kernel: intel_iommu=on)"
    )]
    NoIommu(Address),
    /// A driver of the kernel, or nobody, holds it.
    #[error(
        "device {address} is {held}, and not held by vfio-pci; have virgld change that with --rebind, or do\n  \
         modprobe vfio-pci\n  echo vfio-pci > /sys/bus/pci/devices/{address}/driver_override{unbind}\n  \
         echo {address} > /sys/bus/pci/drivers_probe"
    )]
    OtherDriver {
        /// The device.
        address: Address,
        /// By whom it is held.
        held: String,
        /// The command that ends that, if there is one to end.
        unbind: String,
    },
    /// Another device of its group is held by a driver of the kernel.
    #[error(
        "the IOMMU group {group} of device {address} has other devices that drivers of the kernel hold: {others}; \
         unbind each, by its name here (cd /sys/bus/pci/devices; echo NAME > NAME/driver/unbind), or put the gpu on \
         a port of its own"
    )]
    NotViable {
        /// The device.
        address: Address,
        /// Its group.
        group: u32,
        /// The other devices and their drivers.
        others: String,
    },
    /// vfio-pci does not take it.
    #[error(
        "vfio-pci did not take device {0}; see what the kernel says (dmesg), and whether the module is there: \
         modprobe vfio-pci"
    )]
    NotTaken(Address),
    /// VFIO said no.
    #[error("cannot {doing} device {address}: {source}{remedy}")]
    Vfio {
        /// What was tried.
        doing: &'static str,
        /// The device.
        address: Address,
        /// What VFIO said.
        source: vfio_ioctls::VfioError,
        /// What to do.
        remedy: &'static str,
    },
    /// A file of the system could not be read or written.
    #[error("cannot {doing} {path}: {source}; this needs root", path = path.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its configuration space makes no sense.
    #[error("device {address} cannot be driven: {source}")]
    Malformed {
        /// The device.
        address: Address,
        /// What is wrong.
        source: Malformed,
    },
    /// A structure lies outside the memory of its register.
    #[error("device {0} says that structures lie where it has no memory; it is broken or no virtio device")]
    Outside(Address),
    /// It lacks what a driver for 3D cannot do without.
    #[error("the device does not offer {feature} (it offers {offered:#x}); {remedy}")]
    Lacks {
        /// What is missing.
        feature: &'static str,
        /// All that it offers.
        offered: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// It does not agree to features that it offered.
    #[error(
        "the device does not accept the features {features:#x} that it offered (FEATURES_OK did not stay set)"
    )]
    FeaturesRefused {
        /// What was asked for.
        features: u64,
    },
    /// It does not become ready for a new driver.
    #[error("the device did not reset within {0:?}; restart the machine that provides it")]
    NoReset(Duration),
    /// Its configuration changes all the time.
    #[error("the device's configuration did not stay the same long enough to be read")]
    Restless,
    /// A queue is missing or cannot be used.
    #[error("queue {queue} of the device cannot be used: {what}")]
    Queue {
        /// Which queue.
        queue: u16,
        /// What is wrong.
        what: &'static str,
    },
    /// It cannot interrupt.
    #[error("the device could not be given an interrupt: {0}")]
    Interrupts(String),
    /// Another device than before lies there.
    #[error(
        "device {0} is not what was there before: its queues differ, so programs cannot go on with it; start virgld anew"
    )]
    Other(Address),
    /// No memory for the queues.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}
