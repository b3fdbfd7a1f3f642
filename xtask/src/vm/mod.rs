//! A Linux guest with a virtio-gpu device on its PCI bus, for tests of the real thing.
//!
//! The guest's kernel is Debian's, unpacked and never installed. Its root is this machine's own `/`, shown
//! read-only under a layer in memory, so whatever runs here runs there; a folder of the host's takes what the guest
//! brings back. Nothing in the guest can change this machine, and it has no network.

mod archive;
pub(crate) mod bench;
mod image;
mod kernel;
mod machine;
pub(crate) mod screen;

pub(crate) use image::Image;
pub(crate) use machine::Machine;

/// QEMU's options for a gpu behind the IOMMU.
pub(crate) const GPU: &str = "virtio-gpu-gl-pci,iommu_platform=on,disable-legacy=on";
