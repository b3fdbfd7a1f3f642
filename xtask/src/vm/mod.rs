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

use std::time::Duration;

use crate::failure::Result;
use crate::report::Outcome;
use crate::workspace::Workspace;

pub(crate) use image::Image;
pub(crate) use machine::{Guest, Machine};

/// What a step with a guest comes to where there can be none.
pub(crate) fn skipped() -> Option<Outcome> {
    let other = cfg!(not(target_arch = "x86_64"));
    other.then(|| Outcome::Skipped("the guest's kernel is one for x86-64".into()))
}

/// Runs a script in the folder of our programs, in a guest whose gpu can be driven through VFIO.
pub(crate) fn run(
    workspace: &Workspace,
    name: &str,
    gpu: &str,
    script: &str,
    limit: Duration,
) -> Result<Guest> {
    let image = Image::build(workspace, name, &["vfio_pci", "vfio_iommu_type1", "virtio_gpu"])?;
    let script = format!("cd {}\n{script}", workspace.release_folder().display());
    Machine { image: &image, gpu, words: "", script: &script, limit, screen: false }.run()
}

/// QEMU's options for a gpu behind the IOMMU.
pub(crate) const GPU: &str = "virtio-gpu-gl-pci,iommu_platform=on,disable-legacy=on";
