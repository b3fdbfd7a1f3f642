//! What the device claims to be on PCI: an address in a domain that no real machine has. The bus name that GET_UNIQUE
//! gives, the tree that stands in for sysfs and the paths that belong to it must agree.

macro_rules! domain {
    () => {
        "5647:"
    };
}

macro_rules! address {
    () => {
        concat!(domain!(), "00:02.0")
    };
}

macro_rules! bus {
    () => {
        concat!("/sys/devices/pci", domain!(), "00")
    };
}

/// The domain, as it begins an address: nothing else in sysfs has it in its name.
pub const DOMAIN: &str = domain!();

/// Domain, bus, device and function.
pub const ADDRESS: &str = address!();
/// The name by which libdrm asks for the device behind a node.
pub const BUS_NAME: &str = concat!("pci:", address!());
/// The bus in sysfs.
pub const BUS_PATH: &str = bus!();
/// The device in sysfs.
pub const DEVICE_PATH: &str = concat!(bus!(), "/", address!());
/// The link to it among all of PCI.
pub const LINK_PATH: &str = concat!("/sys/bus/pci/devices/", address!());
