//! The device as VFIO gives it: registers, interrupts, and the addresses under which it reaches memory.

use std::ops::Range;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioOps};
use virgld_protocol::virtio_pci::{COMMAND, MEMORY_AND_MASTER, SPACE, Structures, Window, structures};
use vmm_sys_util::eventfd::EventFd;

use super::address::Address;
use super::error::PciError;
use super::registers::Registers;
use crate::host::memory::SharedMemory;

/// A device that is ours alone, and the address space in which it reaches memory. When this is dropped, the device
/// reaches nothing of ours any more.
pub(super) struct Vfio {
    address: Address,
    // Before its container, so that it is closed first.
    device: VfioDevice,
    container: Arc<VfioContainer>,
}

impl Vfio {
    /// Opens the device of this folder of sysfs, which vfio-pci holds.
    pub(super) fn open(address: Address, folder: &Path) -> Result<Self, PciError> {
        let fail = |doing, remedy| move |source| PciError::Vfio { doing, address, source, remedy };
        let container =
            VfioContainer::new(None).map_err(fail("make an address space for", CONTAINER_REMEDY))?;
        let container = Arc::new(container);
        let operations: Arc<dyn VfioOps> = container.clone();
        let device = VfioDevice::new(folder, operations, false).map_err(fail("open", DEVICE_REMEDY))?;
        Ok(Self { address, device, container })
    }

    /// Has the device answer accesses to its registers and reach memory; finds its structures.
    pub(super) fn structures(&self) -> Result<Structures, PciError> {
        let mut space = [0xff; SPACE];
        for (offset, part) in (0..).step_by(4).zip(space.chunks_exact_mut(4)) {
            self.device.region_read(CONFIGURATION_REGION, part, offset);
        }
        let address = self.address;
        let found = structures(&space).map_err(|source| PciError::Malformed { address, source })?;
        let windows = [found.common, found.notify, found.interrupt, found.device];
        if !windows.iter().all(|window| window.lies_in(self.device.get_region_size(window.bar.into()))) {
            return Err(PciError::Outside(address));
        }
        let command = u16::from_le_bytes([space[4], space[5]]) | MEMORY_AND_MASTER;
        self.device.region_write(CONFIGURATION_REGION, &command.to_le_bytes(), COMMAND);
        Ok(found)
    }

    /// How many vectors the device has; without any it has one interrupt line.
    pub(super) fn vectors(&self) -> usize {
        self.device.get_irq_info(MSIX).map_or(0, |vectors| vectors.count as usize)
    }

    /// Has as many vectors tell eventfds; none is the interrupt line.
    pub(super) fn interrupts(&self, vectors: usize) -> Result<Vec<Arc<OwnedFd>>, PciError> {
        let kind = if vectors == 0 { LINE } else { MSIX };
        self.signals(kind, vectors.max(1)).map_err(PciError::Interrupts)
    }

    /// An eventfd that the system writes when it wants the device back.
    pub(super) fn recall(&self) -> Option<Arc<OwnedFd>> {
        self.device.get_irq_info(RECALL).filter(|interrupts| interrupts.count > 0)?;
        self.signals(RECALL, 1).ok()?.pop()
    }

    fn signals(&self, kind: u32, count: usize) -> Result<Vec<Arc<OwnedFd>>, String> {
        let make = |_| {
            let ours = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let theirs = ours.try_clone()?.into_raw_fd();
            // SAFETY: the descriptor was made in the line above and is nobody else's.
            Ok((Arc::new(ours), unsafe { EventFd::from_raw_fd(theirs) }))
        };
        let made: Vec<(Arc<OwnedFd>, EventFd)> =
            (0..count).map(make).collect::<Result<_, std::io::Error>>().map_err(|error| error.to_string())?;
        let told = made.iter().map(|(_, theirs)| theirs).collect();
        self.device.enable_irq(kind, told).map_err(|error| error.to_string())?;
        Ok(made.into_iter().map(|(ours, _)| ours).collect())
    }

    /// The interrupt line may interrupt again.
    pub(super) fn unmask_line(&self) {
        if let Err(error) = self.device.unmask_irq(LINE) {
            tracing::warn!(device = %self.address, %error, "the interrupt line stays masked; the queues are polled");
        }
    }

    /// Lets the device reach a range of memory, from `at` on in its addresses; in whole pages.
    pub(super) fn map(&self, memory: &SharedMemory, range: Range<usize>, at: u64) -> Result<(), PciError> {
        let length = range.end - range.start;
        let Ok(pointer) = memory.pointer(range.start, length) else {
            return Err(PciError::Outside(self.address));
        };
        // SAFETY: the range is mapped now, and VFIO keeps its pages as long as the device can reach them. No
        // reference to bytes of a shared memory is ever made, so whatever the device writes there is fine.
        unsafe { self.container.vfio_dma_map(at, length, pointer) }
            .map_err(self.fail("map memory for", MAP_REMEDY))
    }

    /// Ends what [`Vfio::map`] began, with the same place and length.
    pub(super) fn unmap(&self, at: u64, length: usize) -> Result<(), PciError> {
        self.container.vfio_dma_unmap(at, length).map_err(self.fail("unmap memory for", ""))
    }

    fn fail(&self, doing: &'static str, remedy: &'static str) -> impl Fn(VfioError) -> PciError {
        let address = self.address;
        move |source| PciError::Vfio { doing, address, source, remedy }
    }
}

impl Registers for Vfio {
    fn read(&self, window: Window, offset: u64, into: &mut [u8]) {
        // What cannot be read stays ones, as on the bus.
        self.device.region_read(window.bar.into(), into, window.offset + offset);
    }

    fn write(&self, window: Window, offset: u64, from: &[u8]) {
        self.device.region_write(window.bar.into(), from, window.offset + offset);
    }
}

const CONTAINER_REMEDY: &str = "; load VFIO (modprobe vfio-pci) and be root or the owner of /dev/vfio/vfio";
const DEVICE_REMEDY: &str = "; end whoever else uses it, and be root or the owner of its group in /dev/vfio; where \
    the IOMMU has no interrupt remapping, turn that on (QEMU: -device intel-iommu,intremap=on)";
const MAP_REMEDY: &str = "; raise the limit of locked memory (ulimit -l unlimited; systemd: LimitMEMLOCK=infinity), or free memory";

/// Numbers of include/uapi/linux/vfio.h.
const CONFIGURATION_REGION: u32 = 7;
const LINE: u32 = 0;
const MSIX: u32 = 2;
const RECALL: u32 = 4;
