//! What the system says of a device, and whose it is: finding it, checking that VFIO may have it, lending it to VFIO.
//!
//! Source: Linux, Documentation/ABI/testing/sysfs-bus-pci and Documentation/driver-api/vfio.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use virgld_protocol::virtio_pci::{GPU, VENDOR};

use super::address::Address;
use super::error::PciError;

/// The PCI bus as a folder shows it.
pub(super) struct Bus<'a>(pub(super) &'a Path);

/// The first virtio-gpu device on the bus.
pub fn find() -> Result<Option<Address>, PciError> {
    Bus(Path::new(PCI)).find()
}

/// Whether there is a device at this address.
pub fn is_there(address: Address) -> bool {
    Bus(Path::new(PCI)).existing(address).is_ok()
}

/// Has vfio-pci take a device from whatever driver holds it.
pub fn lend(address: Address) -> Result<Loan, PciError> {
    Bus(Path::new(PCI)).lend(address)
}

/// A device that vfio-pci has until this is dropped; then it goes back to the driver that had it.
#[must_use]
pub struct Loan {
    bus: PathBuf,
    address: Address,
    taken: bool,
}

impl Loan {
    /// Takes the device again if it was pulled out and put back meanwhile: then the system has given it to its own
    /// driver.
    pub fn renew(&mut self) -> Result<(), PciError> {
        let mut again = Bus(&self.bus).lend(self.address)?;
        // One loan's end is enough.
        self.taken |= std::mem::take(&mut again.taken);
        Ok(())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.taken
            && let Err(error) = Bus(&self.bus).change_driver(self.address, "")
        {
            tracing::warn!(device = %self.address, %error, "the device was not given back to its driver");
        }
    }
}

impl Bus<'_> {
    fn find(&self) -> Result<Option<Address>, PciError> {
        let folder = self.0.join("devices");
        let listed = match fs::read_dir(&folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PciError::System { doing: "read", path: folder, source }),
        };
        let addresses = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<Address>().ok());
        Ok(addresses.filter(|address| self.is_gpu(*address)).min())
    }

    fn is_gpu(&self, address: Address) -> bool {
        let number = |file| {
            let text = fs::read_to_string(self.device(address).join(file)).ok()?;
            u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
        };
        number("vendor") == Some(VENDOR) && number("device") == Some(GPU)
    }

    /// The device's folder, once it is clear that VFIO can have it.
    pub(super) fn ready(&self, address: Address) -> Result<PathBuf, PciError> {
        let folder = self.existing(address)?;
        let group = self.group(address)?;
        let held = driver(&folder);
        if held.as_deref() != Some(VFIO) {
            let unbind = held.as_ref().map_or_else(String::new, |_| {
                format!("\n  echo {address} > /sys/bus/pci/devices/{address}/driver/unbind")
            });
            let held = held.map_or_else(|| "held by no driver".into(), |name| format!("held by {name}"));
            return Err(PciError::OtherDriver { address, held, unbind });
        }
        let others = self.strangers(address);
        if !others.is_empty() {
            return Err(PciError::NotViable { address, group, others: others.join(", ") });
        }
        Ok(folder)
    }

    fn existing(&self, address: Address) -> Result<PathBuf, PciError> {
        let folder = self.device(address);
        if folder.is_dir() { Ok(folder) } else { Err(PciError::NoDevice(address)) }
    }

    fn group(&self, address: Address) -> Result<u32, PciError> {
        let link = fs::read_link(self.device(address).join("iommu_group")).ok();
        let number = link.as_deref().and_then(|link| link.file_name()?.to_str()?.parse().ok());
        number.ok_or(PciError::NoIommu(address))
    }

    /// The other devices of a device's group that drivers of the kernel hold.
    fn strangers(&self, address: Address) -> Vec<String> {
        let Ok(listed) = fs::read_dir(self.device(address).join("iommu_group/devices")) else {
            return Vec::new();
        };
        let mut strangers: Vec<String> = listed
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_str()?.to_owned();
                let driver = driver(&self.0.join("devices").join(&name))?;
                // VFIO allows these: they let the device access no memory.
                let harmless = [VFIO, "pci-stub", "pcieport"].contains(&driver.as_str());
                (name != address.to_string() && !harmless).then(|| format!("{name} ({driver})"))
            })
            .collect();
        strangers.sort();
        strangers
    }

    fn lend(&self, address: Address) -> Result<Loan, PciError> {
        let folder = self.existing(address)?;
        self.group(address)?;
        let mut loan = Loan { bus: self.0.to_owned(), address, taken: false };
        if driver(&folder).as_deref() == Some(VFIO) {
            return Ok(loan);
        }
        // From here on the loan's end puts right what was changed, even if not all was.
        loan.taken = true;
        self.change_driver(address, VFIO)?;
        if driver(&folder).as_deref() == Some(VFIO) { Ok(loan) } else { Err(PciError::NotTaken(address)) }
    }

    /// Gives a device to a driver, or with an empty name to the one that the kernel chooses.
    fn change_driver(&self, address: Address, name: &str) -> Result<(), PciError> {
        let folder = self.device(address);
        let line = format!("{address}\n");
        put(&folder.join("driver_override"), &format!("{name}\n"))?;
        if driver(&folder).is_some() {
            put(&folder.join("driver/unbind"), &line)?;
        }
        put(&self.0.join("drivers_probe"), &line)
    }

    fn device(&self, address: Address) -> PathBuf {
        self.0.join("devices").join(address.to_string())
    }
}

/// The driver that holds the device of this folder.
fn driver(folder: &Path) -> Option<String> {
    Some(fs::read_link(folder.join("driver")).ok()?.file_name()?.to_str()?.to_owned())
}

fn put(path: &Path, text: &str) -> Result<(), PciError> {
    fs::write(path, text).map_err(|source| PciError::System {
        doing: "write to",
        path: path.to_owned(),
        source,
    })
}

/// Where the system shows the bus.
pub(super) const PCI: &str = "/sys/bus/pci";
const VFIO: &str = "vfio-pci";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A machine with these devices: address, device number, driver, group.
    fn machine(devices: &[(&str, &str, Option<&str>, Option<u32>)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (address, number, driver, group) in devices {
            let folder = root.path().join("devices").join(address);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("vendor"), "0x1af4\n").unwrap();
            fs::write(folder.join("device"), format!("{number}\n")).unwrap();
            if let Some(driver) = driver {
                symlink(format!("../drivers/{driver}"), folder.join("driver")).unwrap();
            }
            if let Some(group) = group {
                let group = root.path().join("groups").join(group.to_string());
                fs::create_dir_all(group.join("devices")).unwrap();
                fs::write(group.join("devices").join(address), "").unwrap();
                symlink(&group, folder.join("iommu_group")).unwrap();
            }
        }
        root
    }

    const GPU_AT: &str = "0000:00:02.0";

    fn refusal(driver: Option<&str>, group: Option<u32>, neighbour: Option<&str>) -> Option<String> {
        let machine =
            machine(&[(GPU_AT, "0x1050", driver, group), ("0000:00:03.0", "0x1041", neighbour, group)]);
        Bus(machine.path()).ready(GPU_AT.parse().unwrap()).err().map(|error| error.to_string())
    }

    #[test]
    fn the_lowest_gpu_is_found_among_others() {
        let devices = [
            ("0000:00:01.0", "0x1041", None, None),
            ("0000:00:05.0", "0x1050", None, None),
            ("0000:00:04.0", "0x1050", None, None),
        ];
        let machine = machine(&devices);
        let found = Bus(machine.path()).find().unwrap().map(|address| address.to_string());
        assert_eq!(found.as_deref(), Some("0000:00:04.0"));
        assert_eq!(Bus(&machine.path().join("none")).find().unwrap(), None);
    }

    #[test]
    fn what_is_missing_is_said_with_what_mends_it() {
        let vfio = Some("vfio-pci");
        assert_eq!(refusal(vfio, Some(3), None), None);
        assert_eq!(refusal(vfio, Some(3), Some("pcieport")), None);
        let says = |refusal: Option<String>, words: &[&str]| {
            let text = refusal.unwrap();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        says(refusal(vfio, None, None), &["no IOMMU", "intel-iommu"]);
        says(
            refusal(Some("virtio-pci"), Some(3), None),
            &["held by virtio-pci", "driver/unbind", "--rebind"],
        );
        says(refusal(None, Some(3), None), &["held by no driver", "driver_override"]);
        says(refusal(vfio, Some(3), Some("e1000")), &["group 3", "0000:00:03.0 (e1000)"]);
        let machine = machine(&[]);
        let missing = Bus(machine.path()).ready(GPU_AT.parse().unwrap()).err();
        says(missing.map(|error| error.to_string()), &["no PCI device 0000:00:02.0"]);
    }

    #[test]
    fn a_device_is_lent_by_the_files_of_its_folder_and_given_back() {
        let machine = machine(&[(GPU_AT, "0x1050", None, Some(1))]);
        let bus = Bus(machine.path());
        // No kernel answers here: nobody takes the device, so it goes back.
        assert!(matches!(bus.lend(GPU_AT.parse().unwrap()), Err(PciError::NotTaken(_))));
        let folder = machine.path().join("devices").join(GPU_AT);
        assert_eq!(fs::read_to_string(folder.join("driver_override")).unwrap(), "\n");
        assert_eq!(fs::read_to_string(machine.path().join("drivers_probe")).unwrap(), "0000:00:02.0\n");
        fs::remove_file(folder.join("driver_override")).unwrap();
        symlink("../drivers/vfio-pci", folder.join("driver")).unwrap();
        drop(bus.lend(GPU_AT.parse().unwrap()).unwrap());
        assert!(!folder.join("driver_override").exists(), "one that VFIO had already stays with it");
    }
}
