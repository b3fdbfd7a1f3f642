//! The set-up of a virtio device (virtio 1.2, sections 3.1.1 and 4.1.5.1), from reset to DRIVER_OK, in steps.
//!
//! It blocks, with a deadline where the device has to do something, and knows registers only: in tests they are a
//! model's.

use std::thread::sleep;
use std::time::{Duration, Instant};

use virgld_protocol::device::Feature;
use virgld_protocol::virtio_pci::{NO_VECTOR, common, feature, status};

use super::error::PciError;
use super::registers::Fields;

/// Where a queue's parts are, for the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueAddresses {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// Resets the device and waits until it says that it has (section 4.1.4.3.2).
pub(super) fn reset(common: Fields<'_>, deadline: Duration) -> Result<(), PciError> {
    common.set_byte(common::STATUS, 0);
    let begin = Instant::now();
    while common.byte(common::STATUS) != 0 {
        if begin.elapsed() > deadline {
            return Err(PciError::NoReset(deadline));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What makes a running device one that is of no use any more, if anything does.
pub(super) fn trouble(common: Fields<'_>) -> Option<&'static str> {
    let now = common.byte(common::STATUS);
    if now == u8::MAX {
        Some(GONE)
    } else if now & status::NEEDS_RESET != 0 {
        Some("the device asks for a reset (DEVICE_NEEDS_RESET): it has met an error")
    } else if now & status::DRIVER_OK == 0 {
        Some("the device was reset by somebody else, or has stopped")
    } else {
        None
    }
}

/// Agrees on features; `wanted` are those besides the ones that are always used.
pub(super) fn negotiate(common: Fields<'_>, wanted: u64) -> Result<u64, PciError> {
    common.set_byte(common::STATUS, status::ACKNOWLEDGE);
    common.set_byte(common::STATUS, status::ACKNOWLEDGE | status::DRIVER);
    let offered = offered(common);
    let lacks = REQUIRED.iter().find(|(bit, ..)| offered & bit == 0);
    let features = offered & (wanted | OPTIONAL | REQUIRED.iter().map(|(bit, ..)| bit).sum::<u64>());
    if let Some(&(_, feature, remedy)) = lacks {
        common.set_byte(common::STATUS, status::FAILED);
        return Err(PciError::Lacks { feature, offered, remedy });
    }
    for (select, half) in (0..).zip(halves(features)) {
        common.set_double(common::DRIVER_FEATURE_SELECT, select);
        common.set_double(common::DRIVER_FEATURE, half);
    }
    let agreed = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
    common.set_byte(common::STATUS, agreed);
    // A device that does not like the choice says so by not keeping the bit (section 3.1.1, step 6).
    if common.byte(common::STATUS) & status::FEATURES_OK == 0 {
        common.set_byte(common::STATUS, status::FAILED);
        return Err(PciError::FeaturesRefused { features });
    }
    Ok(features)
}

fn offered(common: Fields<'_>) -> u64 {
    let half = |select| {
        common.set_double(common::DEVICE_FEATURE_SELECT, select);
        u64::from(common.double(common::DEVICE_FEATURE))
    };
    half(0) | half(1) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of the number, on purpose")]
fn halves(features: u64) -> [u32; 2] {
    [features as u32, (features >> 32) as u32]
}

/// Reads the device configuration whole: as it was at one moment (section 4.1.4.3.1).
pub(super) fn configuration(common: Fields<'_>, device: Fields<'_>) -> Result<[u8; CONFIGURATION], PciError> {
    for _ in 0..MOST_READINGS {
        let before = common.byte(common::GENERATION);
        let mut bytes = [0xff; CONFIGURATION];
        for (offset, field) in (0..).step_by(4).zip(bytes.chunks_exact_mut(4)) {
            field.copy_from_slice(&device.double(offset).to_le_bytes());
        }
        if common.byte(common::GENERATION) == before {
            return Ok(bytes);
        }
    }
    Err(PciError::Restless)
}

/// Takes note of the device's events: those that were there are cleared (section 5.7.4). Says whether there were any.
pub(super) fn take_events(device: Fields<'_>) -> bool {
    let events = device.double(EVENTS_READ);
    let any = events != 0 && events != u32::MAX;
    if any {
        device.set_double(EVENTS_CLEAR, events);
    }
    any
}

/// The entries to give a queue: what the device has, but no more than is of use.
pub(super) fn queue_size(common: Fields<'_>, queue: u16) -> Result<u16, PciError> {
    common.set_word(common::QUEUE_SELECT, queue);
    let most = common.word(common::QUEUE_SIZE);
    if queue >= common.word(common::QUEUES) || most == 0 || most > LARGEST_QUEUE {
        return Err(PciError::Queue { queue, what: "the device does not have it" });
    }
    // The largest power of two: a device may say anything.
    Ok((1_u16 << most.ilog2()).min(MOST_ENTRIES))
}

/// Starts a queue. Says where it is to be notified, in units of the multiplier.
pub(super) fn start_queue(
    common: Fields<'_>,
    queue: u16,
    size: u16,
    addresses: QueueAddresses,
    vector: u16,
) -> Result<u16, PciError> {
    common.set_word(common::QUEUE_SELECT, queue);
    if common.word(common::QUEUE_ENABLE) != 0 {
        return Err(PciError::Queue { queue, what: "it runs already, after a reset" });
    }
    common.set_word(common::QUEUE_SIZE, size);
    common.set_word(common::QUEUE_VECTOR, vector);
    if common.word(common::QUEUE_VECTOR) != vector {
        return Err(PciError::Queue { queue, what: "the device has no interrupt left for it" });
    }
    common.set_address(common::QUEUE_DESCRIPTORS, addresses.descriptors);
    common.set_address(common::QUEUE_AVAILABLE, addresses.available);
    common.set_address(common::QUEUE_USED, addresses.used);
    let place = common.word(common::QUEUE_NOTIFY);
    common.set_word(common::QUEUE_ENABLE, 1);
    Ok(place)
}

/// Has configuration changes told by this vector.
pub(super) fn configuration_vector(common: Fields<'_>, vector: u16) -> Result<(), PciError> {
    common.set_word(common::CONFIG_VECTOR, vector);
    if common.word(common::CONFIG_VECTOR) == vector || vector == NO_VECTOR {
        return Ok(());
    }
    Err(PciError::Interrupts("it takes no vector for changes of its configuration".into()))
}

/// The device may begin.
pub(super) fn finish(common: Fields<'_>) {
    let agreed = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
    common.set_byte(common::STATUS, agreed | status::DRIVER_OK);
}

/// Bytes of virtio-gpu's device configuration.
pub(super) const CONFIGURATION: usize = 16;

/// What [`trouble`] says of a device that does not answer: all of it reads as ones.
pub(super) const GONE: &str = "the device is gone from the bus";

const EVENTS_READ: u64 = 0;
const EVENTS_CLEAR: u64 = 4;
const MOST_READINGS: usize = 100;
/// Section 2.7.
const LARGEST_QUEUE: u16 = 1 << 15;
/// More commands than this are never under way in one queue.
const MOST_ENTRIES: u16 = 1024;

/// What a device must offer, by what name it goes, and what to do where it does not.
const REQUIRED: [(u64, &str, &str); 3] = [
    (feature::VERSION_1, "VERSION_1", "it is of the time before virtio 1.0; QEMU: disable-legacy=on"),
    (
        feature::ACCESS_PLATFORM,
        "ACCESS_PLATFORM",
        "behind an IOMMU it would miss our memory: its first command would never end; QEMU: iommu_platform=on",
    ),
    (Feature::VIRGL, "VIRGL", "it has no 3D; QEMU: -device virtio-gpu-gl-pci with a display that has GL"),
];
const OPTIONAL: u64 = feature::INDIRECT_DESC | feature::EVENT_IDX;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use virgld_protocol::virtio_pci::Window;

    use super::super::registers::Registers;
    use super::*;

    const COMMON: Window = Window { bar: 0, offset: 0, length: 64 };
    const DEVICE: Window = Window { bar: 1, offset: 0, length: 16 };
    const ALL: u64 = REQUIRED[0].0 | REQUIRED[1].0 | REQUIRED[2].0 | OPTIONAL | 1 << 40;

    /// A device as a driver sees it, and what it does wrong.
    #[derive(Default)]
    struct Model {
        fields: RefCell<HashMap<(u8, u64), u32>>,
        offers: u64,
        /// How many readings of the status it takes to reset; none: it never does.
        resets_after: Option<u32>,
        refuses_features: bool,
        has_no_vectors: bool,
        restless: bool,
    }

    impl Model {
        fn good() -> Self {
            let model = Self { offers: ALL, resets_after: Some(3), ..Self::default() };
            model.put(0, common::QUEUES, 2);
            model.put(0, common::QUEUE_SIZE, 256);
            model
        }

        fn put(&self, bar: u8, offset: u64, value: u32) {
            self.fields.borrow_mut().insert((bar, offset), value);
        }

        fn at(&self, bar: u8, offset: u64) -> u32 {
            self.fields.borrow().get(&(bar, offset)).copied().unwrap_or_default()
        }

        fn common(&self) -> Fields<'_> {
            Fields { registers: self, window: COMMON }
        }

        fn device(&self) -> Fields<'_> {
            Fields { registers: self, window: DEVICE }
        }

        fn negotiated(&self) -> u64 {
            let half = |select: u64| u64::from(self.at(9, select));
            half(0) | half(1) << 32
        }
    }

    impl Registers for Model {
        fn read(&self, window: Window, offset: u64, into: &mut [u8]) {
            let value = match (window.bar, offset) {
                (0, common::DEVICE_FEATURE) => {
                    halves(self.offers)[self.at(0, common::DEVICE_FEATURE_SELECT) as usize]
                }
                (0, common::STATUS) => {
                    let left = self.at(8, 0);
                    if left > 0 && self.resets_after.is_some() {
                        self.put(8, 0, left - 1);
                    }
                    if left == 0 { self.at(0, common::STATUS) } else { 0x40 }
                }
                (0, common::GENERATION) if self.restless => {
                    self.put(0, common::GENERATION, self.at(0, common::GENERATION) + 1);
                    self.at(0, common::GENERATION) & 0xff
                }
                (bar, offset) => self.at(bar, offset),
            };
            into.copy_from_slice(&value.to_le_bytes()[..into.len()]);
        }

        fn write(&self, window: Window, offset: u64, from: &[u8]) {
            let mut bytes = [0; 4];
            bytes[..from.len()].copy_from_slice(from);
            let mut value = u32::from_le_bytes(bytes);
            match (window.bar, offset) {
                (0, common::STATUS) if value == 0 => self.put(8, 0, self.resets_after.unwrap_or(1)),
                (0, common::STATUS) if self.refuses_features => value &= !u32::from(status::FEATURES_OK),
                (0, common::DRIVER_FEATURE) => {
                    self.put(9, self.at(0, common::DRIVER_FEATURE_SELECT).into(), value);
                }
                (0, common::QUEUE_VECTOR | common::CONFIG_VECTOR) if self.has_no_vectors => {
                    value = NO_VECTOR.into();
                }
                (1, 4) => self.put(1, 0, self.at(1, 0) & !value),
                _ => {}
            }
            self.put(window.bar, offset, value);
        }
    }

    #[test]
    fn a_reset_is_waited_for_and_not_for_ever() {
        let mut model = Model::good();
        reset(model.common(), Duration::from_secs(20)).unwrap();
        assert_eq!(model.common().byte(common::STATUS), 0);
        model.resets_after = None;
        let deadline = Duration::from_millis(5);
        assert!(matches!(reset(model.common(), deadline), Err(PciError::NoReset(_))));
    }

    #[test]
    fn a_device_in_trouble_says_so_by_its_status() {
        let model = Model::good();
        finish(model.common());
        assert_eq!(trouble(model.common()), None);
        let running = model.common().byte(common::STATUS);
        model.common().set_byte(common::STATUS, running | status::NEEDS_RESET);
        assert!(trouble(model.common()).is_some_and(|trouble| trouble.contains("NEEDS_RESET")));
        reset(model.common(), Duration::from_secs(20)).unwrap();
        assert!(trouble(model.common()).is_some_and(|trouble| trouble.contains("stopped")));
        model.put(0, common::STATUS, u32::MAX);
        model.put(8, 0, 0);
        assert_eq!(trouble(model.common()), Some(GONE));
    }

    #[test]
    fn only_what_is_offered_and_of_use_is_agreed_on() {
        let model = Model::good();
        let edid = 1 << 1;
        assert_eq!(negotiate(model.common(), edid).unwrap(), ALL & !(1 << 40));
        assert_eq!(model.negotiated(), ALL & !(1 << 40));
        let richer = Model { offers: ALL | edid, ..Model::good() };
        assert_eq!(negotiate(richer.common(), edid).unwrap() & edid, edid);
        assert_eq!(richer.at(0, common::STATUS) & u32::from(status::FEATURES_OK), 8);
    }

    #[test]
    fn a_device_without_what_is_needed_is_refused_by_name() {
        for (bit, name, _) in REQUIRED {
            let model = Model { offers: ALL & !bit, ..Model::good() };
            let error = negotiate(model.common(), 0).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(model.at(0, common::STATUS), u32::from(status::FAILED));
        }
        let model = Model { refuses_features: true, ..Model::good() };
        assert!(matches!(negotiate(model.common(), 0), Err(PciError::FeaturesRefused { .. })));
    }

    #[test]
    fn a_configuration_that_changes_all_the_time_is_given_up() {
        let mut model = Model::good();
        model.put(1, 8, 3);
        assert_eq!(configuration(model.common(), model.device()).unwrap()[8], 3);
        model.restless = true;
        let torn = configuration(model.common(), model.device());
        assert!(matches!(torn, Err(PciError::Restless)));
    }

    #[test]
    fn events_are_cleared_but_not_those_of_a_device_that_is_gone() {
        let model = Model::good();
        assert!(!take_events(model.device()), "an interrupt for something else");
        model.put(1, 0, 1);
        assert!(take_events(model.device()));
        assert_eq!((model.at(1, 0), model.at(1, 4)), (0, 1));
        model.put(1, 0, u32::MAX);
        assert!(!take_events(model.device()));
        assert_eq!((model.at(1, 0), model.at(1, 4)), (u32::MAX, 1));
    }

    #[test]
    fn queues_have_the_device_s_size_within_reason() {
        let model = Model::good();
        for (says, size) in
            [(256, Some(256)), (1000, Some(512)), (32768, Some(1024)), (0, None), (40000, None)]
        {
            model.put(0, common::QUEUE_SIZE, says);
            assert_eq!(queue_size(model.common(), 0).ok(), size, "{says}");
        }
        model.put(0, common::QUEUE_SIZE, 256);
        assert!(queue_size(model.common(), 2).is_err());
    }

    #[test]
    fn a_queue_starts_with_its_addresses_or_says_why_not() {
        let addresses = QueueAddresses { descriptors: 0x1_0000_0000, available: 0x2000, used: 0x3000 };
        let model = Model::good();
        model.put(0, common::QUEUE_NOTIFY, 7);
        assert_eq!(start_queue(model.common(), 1, 64, addresses, 2).unwrap(), 7);
        let written = [common::QUEUE_SIZE, common::QUEUE_DESCRIPTORS, common::QUEUE_DESCRIPTORS + 4];
        assert_eq!(written.map(|offset| model.at(0, offset)), [64, 0, 1]);
        assert_eq!(model.at(0, common::QUEUE_ENABLE), 1);
        assert!(start_queue(model.common(), 1, 64, addresses, 2).is_err(), "it runs already");
        let model = Model { has_no_vectors: true, ..Model::good() };
        assert!(start_queue(model.common(), 0, 64, addresses, 1).is_err());
        assert!(start_queue(model.common(), 0, 64, addresses, NO_VECTOR).is_ok());
        assert!(configuration_vector(model.common(), 0).is_err());
    }
}
