//! The tree that stands in for /dev/dri and for what sysfs says of the device: a virtio GPU on PCI, in a PCI
//! domain that no real machine has.
//!
//! Links are relative, so that the tree means the same wherever it lies. What is in it is what libdrm, Mesa's
//! loader and libudev read.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use virgld_protocol::channel::{CARD, RENDER};
use virgld_protocol::pci::{ADDRESS, DEVICE_PATH, LINK_PATH};

/// Makes the tree at `root`, in place of any that is there.
pub(super) fn plant(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let device = device();
    for (name, text) in FILES_OF_DEVICE {
        write(root, &format!("sys/{device}/{name}"), text)?;
    }
    write(root, &format!("sys/{device}/uevent"), &EVENT.join(ADDRESS))?;
    write(root, "sys/class/drm/version", "drm 1.1.0 20060810\n")?;
    for (name, minor) in [(CARD, 0), (RENDER, 128)] {
        plant_node(root, name, minor)?;
    }
    links().iter().try_for_each(|(path, target)| link(root, path, target))?;
    plant_classes(root)
}

/// The machine's other classes of devices, as links: a program that reads the list of classes, as libudev does, is to
/// find those and ours.
fn plant_classes(root: &Path) -> io::Result<()> {
    // No sysfs: nothing to add.
    let Ok(classes) = fs::read_dir("/sys/class") else { return Ok(()) };
    for class in classes.flatten() {
        let at = root.join("sys/class").join(class.file_name());
        if !at.exists() {
            symlink(class.path(), at)?;
        }
    }
    Ok(())
}

fn links() -> [(String, String); 5] {
    let device = device();
    [
        (format!("sys/{device}/subsystem"), "../../../bus/pci".into()),
        (format!("sys/{device}/virtio0/subsystem"), "../../../../bus/virtio".into()),
        (LINK_PATH.trim_start_matches('/').into(), format!("../../../{device}")),
        ("sys/bus/virtio/devices/virtio0".into(), format!("../../../{device}/virtio0")),
        ("sys/bus/virtio/drivers/virtio_gpu/virtio0".into(), format!("../../../../{device}/virtio0")),
    ]
}

fn plant_node(root: &Path, name: &str, minor: u32) -> io::Result<()> {
    write(root, &format!("dev/dri/{name}"), "")?;
    let device = device();
    let node = format!("sys/{device}/virtio0/drm/{name}");
    write(root, &format!("{node}/dev"), &format!("226:{minor}\n"))?;
    let event = format!("MAJOR=226\nMINOR={minor}\nDEVNAME=dri/{name}\nDEVTYPE=drm_minor\n");
    write(root, &format!("{node}/uevent"), &event)?;
    link(root, &format!("{node}/device"), "../../../virtio0")?;
    link(root, &format!("{node}/subsystem"), "../../../../../../class/drm")?;
    link(root, &format!("sys/dev/char/226:{minor}"), &format!("../../{device}/virtio0/drm/{name}"))?;
    link(root, &format!("sys/class/drm/{name}"), &format!("../../{device}/virtio0/drm/{name}"))
}

fn write(root: &Path, path: &str, text: &str) -> io::Result<()> {
    fs::write(beneath(root, path)?, text)
}

fn link(root: &Path, path: &str, target: &str) -> io::Result<()> {
    symlink(target, beneath(root, path)?)
}

fn beneath(root: &Path, path: &str) -> io::Result<std::path::PathBuf> {
    let path = root.join(path);
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    Ok(path)
}

/// The device, below /sys.
fn device() -> &'static str {
    DEVICE_PATH.trim_start_matches("/sys/")
}

const FILES_OF_DEVICE: [(&str, &str); 9] = [
    ("vendor", "0x1af4\n"),
    ("device", "0x1050\n"),
    ("subsystem_vendor", "0x1af4\n"),
    ("subsystem_device", "0x1100\n"),
    ("revision", "0x01\n"),
    ("class", "0x038000\n"),
    ("virtio0/vendor", "0x1af4\n"),
    ("virtio0/device", "0x0010\n"),
    ("virtio0/uevent", "DRIVER=virtio_gpu\nMODALIAS=virtio:d00000010v00001AF4\n"),
];

/// Before and after the device's address.
const EVENT: [&str; 2] = [
    "DRIVER=virtio-pci\nPCI_CLASS=38000\nPCI_ID=1AF4:1050\nPCI_SUBSYS_ID=1AF4:1100\nPCI_SLOT_NAME=",
    "\nMODALIAS=pci:v00001AF4d00001050sv00001AF4sd00001100bc03sc80i00\n",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::door::tests_support::Scratch;

    #[test]
    fn every_link_leads_somewhere_and_the_walk_of_libdrm_works() {
        let scratch = Scratch::new("sysfs");
        plant(scratch.path()).unwrap();
        plant(scratch.path()).unwrap();
        let node = scratch.path().join("sys/dev/char/226:128/device");
        assert_eq!(fs::read_to_string(node.join("device")).unwrap(), "0x0010\n");
        let names = |path: &Path| fs::read_link(path).unwrap().file_name().unwrap().to_owned();
        assert_eq!(names(&node.join("subsystem")), "virtio");
        assert_eq!(names(&node.join("../subsystem")), "pci");
        assert!(node.join("drm/renderD128").is_dir());
        let event = fs::read_to_string(scratch.path().join("sys/dev/char/226:0/uevent")).unwrap();
        assert!(event.contains("DEVNAME=dri/card0"));
        for (path, _) in links() {
            assert!(scratch.path().join(&path).exists(), "{path}");
        }
        for name in [CARD, RENDER] {
            for end in ["device", "subsystem"] {
                assert!(
                    scratch.path().join(format!("sys/{}/virtio0/drm/{name}/{end}", device())).exists(),
                    "{name}/{end}"
                );
            }
        }
    }
}
