//! virtio over PCI (virtio 1.2, section 4.1): where a device's structures lie, as its configuration space says,
//! and what lies in them.
//!
//! The configuration space is the device's word. Whatever it says, [`structures`] ends, and a [`Window`] that it
//! gives names a base address register that exists and has the least size that its use needs; whether it lies inside
//! that register's memory is for whoever knows the memory's size ([`Window::lies_in`]).

/// The vendor of virtio devices (section 4.1.2).
pub const VENDOR: u16 = 0x1af4;
/// The device number of a virtio-gpu device: 0x1040 and the virtio device number 16.
pub const GPU: u16 = 0x1050;
/// Bytes of a configuration space that hold all that is looked for.
pub const SPACE: usize = 256;

/// Offset of the command register.
pub const COMMAND: u64 = 4;
/// The device may answer accesses to its memory, and access ours.
pub const MEMORY_AND_MASTER: u16 = 0x6;

/// The common configuration (section 4.1.4.3): offsets of its fields.
pub mod common {
    /// Which 32 device features to show; 32 bits.
    pub const DEVICE_FEATURE_SELECT: u64 = 0;
    /// The device features; 32 bits.
    pub const DEVICE_FEATURE: u64 = 4;
    /// Which 32 driver features to set; 32 bits.
    pub const DRIVER_FEATURE_SELECT: u64 = 8;
    /// The driver features; 32 bits.
    pub const DRIVER_FEATURE: u64 = 12;
    /// The vector for configuration changes; 16 bits.
    pub const CONFIG_VECTOR: u64 = 16;
    /// How many queues there are; 16 bits.
    pub const QUEUES: u64 = 18;
    /// The status; 8 bits. Writing 0 resets.
    pub const STATUS: u64 = 20;
    /// Differs before and after a change of the device configuration; 8 bits.
    pub const GENERATION: u64 = 21;
    /// Which queue the fields below are about; 16 bits.
    pub const QUEUE_SELECT: u64 = 22;
    /// Entries; 16 bits.
    pub const QUEUE_SIZE: u64 = 24;
    /// The queue's vector; 16 bits.
    pub const QUEUE_VECTOR: u64 = 26;
    /// 1 starts the queue; 16 bits.
    pub const QUEUE_ENABLE: u64 = 28;
    /// Where to notify, times the multiplier; 16 bits.
    pub const QUEUE_NOTIFY: u64 = 30;
    /// Address of the descriptor table; 64 bits.
    pub const QUEUE_DESCRIPTORS: u64 = 32;
    /// Address of the available ring; 64 bits.
    pub const QUEUE_AVAILABLE: u64 = 40;
    /// Address of the used ring; 64 bits.
    pub const QUEUE_USED: u64 = 48;
    /// Bytes of all that every device has.
    pub const BYTES: u64 = 56;
    /// 1 resets the queue alone, where RING_RESET is negotiated; 16 bits.
    pub const QUEUE_RESET: u64 = 58;
    /// Bytes with `QUEUE_RESET`.
    pub const BYTES_WITH_RESET: u64 = 60;
}

/// The device status (section 2.1).
pub mod status {
    /// Somebody has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// Somebody knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// The features are agreed.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on.
    pub const NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}

/// What the driver writes for no vector, and reads where the device could not give one.
pub const NO_VECTOR: u16 = 0xffff;

/// Features that any virtio device may offer (section 6).
pub mod feature {
    /// A descriptor may point to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Kicks and interrupts at chosen indices.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device is not of the time before virtio 1.0.
    pub const VERSION_1: u64 = 1 << 32;
    /// The device reaches memory as the platform says: through its IOMMU.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Queues can be reset one by one.
    pub const RING_RESET: u64 = 1 << 40;
}

/// A part of the memory behind a base address register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Which register, below 6.
    pub bar: u8,
    /// The first byte.
    pub offset: u64,
    /// How many bytes; the sum fits 64 bits.
    pub length: u64,
}

impl Window {
    /// Whether it lies inside `bytes` of memory.
    pub fn lies_in(&self, bytes: u64) -> bool {
        self.offset + self.length <= bytes
    }
}

/// Where a device's structures lie (section 4.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structures {
    /// The common configuration.
    pub common: Window,
    /// Where queues are notified.
    pub notify: Window,
    /// By what a queue's place there is multiplied.
    pub notify_multiplier: u32,
    /// The interrupt status: a byte, cleared when it is read.
    pub interrupt: Window,
    /// The device configuration.
    pub device: Window,
    /// Memory that the host shows the guest: its number and where it lies.
    pub shared_memory: Option<(u8, Window)>,
}

/// What is wrong with a configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is another device.
    #[error("it is {vendor:04x}:{device:04x}, and not a virtio-gpu device (1af4:1050)")]
    OtherDevice {
        /// The vendor it says.
        vendor: u16,
        /// The device it says.
        device: u16,
    },
    /// It has too few bytes, or no capabilities.
    #[error("its configuration space has no list of capabilities")]
    NoCapabilities,
    /// The list runs in a circle.
    #[error("its list of capabilities does not end")]
    Endless,
    /// A structure is missing, or none of those that are there can be used.
    #[error(
        "it has no usable {0}; it may be a device of the time before virtio 1.0 (QEMU: disable-legacy=on)"
    )]
    Missing(&'static str),
}

/// Finds a virtio-gpu device's structures.
pub fn structures(space: &[u8]) -> Result<Structures, Malformed> {
    let [vendor, device] = [0, 2].map(|at| word(space, at).unwrap_or(NO_VECTOR));
    if (vendor, device) != (VENDOR, GPU) {
        return Err(Malformed::OtherDevice { vendor, device });
    }
    if word(space, STATUS).is_none_or(|status| status & HAS_CAPABILITIES == 0) {
        return Err(Malformed::NoCapabilities);
    }
    let mut found = Found::default();
    let mut at = pointer(space, FIRST_CAPABILITY);
    // No list is longer than the space: one that takes more steps comes back to where it was.
    for _ in 0..MOST_CAPABILITIES {
        if at == 0 {
            return found.complete();
        }
        found.capability(space.get(at..).unwrap_or_default());
        at = pointer(space, at + 1);
    }
    Err(Malformed::Endless)
}

/// The first usable structure of each kind: the device lists those that it likes best first.
#[derive(Default)]
struct Found {
    common: Option<Window>,
    notify: Option<(Window, u32)>,
    interrupt: Option<Window>,
    device: Option<Window>,
    shared_memory: Option<(u8, Window)>,
}

impl Found {
    fn capability(&mut self, bytes: &[u8]) {
        let &[VENDOR_SPECIFIC, _, length, kind, bar, id, ..] = bytes else { return };
        let Some(bytes) = bytes.get(..usize::from(length)) else { return };
        let (Some(offset), Some(size)) = (double(bytes, 8), double(bytes, 12)) else { return };
        let window = Window { bar, offset: offset.into(), length: size.into() };
        if bar >= 6 {
            return;
        }
        match kind {
            1 => keep(&mut self.common, window, common::BYTES, 4),
            2 => {
                let Some(multiplier) = double(bytes, 16) else { return };
                let sound = multiplier == 0 || (multiplier.is_power_of_two() && multiplier > 1);
                if sound && self.notify.is_none() && fits(window, 2, 2) {
                    self.notify = Some((window, multiplier));
                }
            }
            3 => keep(&mut self.interrupt, window, 1, 1),
            4 => keep(&mut self.device, window, GPU_CONFIGURATION, 4),
            8 => {
                let (Some(offset_high), Some(size_high)) = (double(bytes, 16), double(bytes, 20)) else {
                    return;
                };
                let whole = |high: u32, low: u64| u64::from(high) << 32 | low;
                let window = Window {
                    bar,
                    offset: whole(offset_high, window.offset),
                    length: whole(size_high, window.length),
                };
                if window.offset.checked_add(window.length).is_some() && window.length > 0 {
                    self.shared_memory.get_or_insert((id, window));
                }
            }
            _ => {}
        }
    }

    fn complete(self) -> Result<Structures, Malformed> {
        let (notify, notify_multiplier) = self.notify.ok_or(Malformed::Missing("notification structure"))?;
        Ok(Structures {
            common: self.common.ok_or(Malformed::Missing("common configuration"))?,
            notify,
            notify_multiplier,
            interrupt: self.interrupt.ok_or(Malformed::Missing("interrupt status"))?,
            device: self.device.ok_or(Malformed::Missing("device configuration"))?,
            shared_memory: self.shared_memory,
        })
    }
}

fn keep(place: &mut Option<Window>, window: Window, least: u64, alignment: u64) {
    if fits(window, least, alignment) {
        place.get_or_insert(window);
    }
}

fn fits(window: Window, least: u64, alignment: u64) -> bool {
    window.length >= least && window.offset.is_multiple_of(alignment)
}

/// A pointer to a capability; the two lowest bits mean nothing.
fn pointer(space: &[u8], at: usize) -> usize {
    space.get(at).map_or(0, |byte| usize::from(byte & !3))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn double(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

const STATUS: usize = 6;
const HAS_CAPABILITIES: u16 = 0x10;
const FIRST_CAPABILITY: usize = 0x34;
const VENDOR_SPECIFIC: u8 = 9;
const MOST_CAPABILITIES: usize = 64;
/// Bytes of virtio-gpu's device configuration (section 5.7.4).
const GPU_CONFIGURATION: u64 = 16;
