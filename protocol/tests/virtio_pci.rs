//! A PCI configuration space is the device's word: whatever it says, reading it ends in windows that can be used or
//! in a refusal.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use proptest::prelude::*;
use virgld_protocol::virtio_pci::{Malformed, SPACE, Window, structures};

/// A configuration space with these capabilities, each at the next multiple of 4.
fn space(capabilities: &[Vec<u8>]) -> Vec<u8> {
    let mut space = vec![0; SPACE];
    space[..4].copy_from_slice(&[0xf4, 0x1a, 0x50, 0x10]);
    space[6] = 0x10;
    let (mut link, mut at) = (0x34, 0x40_usize);
    for capability in capabilities {
        space[link] = u8::try_from(at).unwrap();
        space[at..at + capability.len()].copy_from_slice(capability);
        link = at + 1;
        at += capability.len().next_multiple_of(4);
    }
    space
}

fn capability(kind: u8, bar: u8, id: u8, offset: u32, length: u32, more: &[u32]) -> Vec<u8> {
    let bytes = u8::try_from(16 + 4 * more.len()).unwrap();
    let mut capability = vec![9, 0, bytes, kind, bar, id, 0, 0];
    for number in [offset, length].iter().chain(more) {
        capability.extend(number.to_le_bytes());
    }
    capability
}

/// What QEMU's virtio-gpu-gl-pci has, an MSI-X capability first.
fn qemu() -> Vec<Vec<u8>> {
    vec![
        vec![0x11, 0, 2, 0, 1, 0, 0, 0, 1, 8, 0, 0],
        capability(1, 4, 0, 0, 0x1000, &[]),
        capability(3, 4, 0, 0x1000, 0x1000, &[]),
        capability(4, 4, 0, 0x2000, 0x1000, &[]),
        capability(2, 4, 0, 0x3000, 0x1000, &[4]),
        capability(5, 0, 0, 0, 0, &[0]),
    ]
}

fn window(offset: u64) -> Window {
    Window { bar: 4, offset, length: 0x1000 }
}

#[test]
fn finds_what_qemu_has() {
    let found = structures(&space(&qemu())).unwrap();
    assert_eq!((found.common, found.interrupt), (window(0), window(0x1000)));
    assert_eq!((found.device, found.notify), (window(0x2000), window(0x3000)));
    assert_eq!((found.notify_multiplier, found.shared_memory), (4, None));
}

#[test]
fn finds_host_visible_memory_beyond_four_gigabytes() {
    let mut capabilities = qemu();
    capabilities.push(capability(8, 2, 1, 0x1000, 0x2000, &[1, 2]));
    let memory = Window { bar: 2, offset: 0x1_0000_1000, length: 0x2_0000_2000 };
    assert_eq!(structures(&space(&capabilities)).unwrap().shared_memory, Some((1, memory)));
}

#[test]
fn prefers_the_first_usable_structure() {
    let mut capabilities = qemu();
    let bad = [
        capability(1, 6, 0, 0, 0x1000, &[]),
        capability(1, 4, 0, 0, 55, &[]),
        capability(1, 4, 0, 2, 64, &[]),
    ];
    capabilities.splice(1..1, bad);
    capabilities.push(capability(1, 4, 0, 0x800, 0x100, &[]));
    assert_eq!(structures(&space(&capabilities)).unwrap().common, window(0));
}

#[test]
fn each_structure_is_needed() {
    for (missing, kept_out) in [
        (1, "common configuration"),
        (2, "interrupt status"),
        (3, "device configuration"),
        (4, "notification structure"),
    ] {
        let mut capabilities = qemu();
        capabilities.remove(missing);
        assert_eq!(structures(&space(&capabilities)), Err(Malformed::Missing(kept_out)));
    }
}

#[test]
fn a_multiplier_that_would_misalign_is_not_used() {
    for (multiplier, usable) in [(0, true), (1, false), (2, true), (3, false), (4096, true)] {
        let mut capabilities = qemu();
        capabilities[4] = capability(2, 4, 0, 0x3000, 0x1000, &[multiplier]);
        assert_eq!(structures(&space(&capabilities)).is_ok(), usable, "{multiplier}");
    }
}

#[test]
fn a_circle_and_other_devices_are_refused() {
    let mut circle = space(&qemu());
    circle[0x41] = 0x40;
    assert_eq!(structures(&circle), Err(Malformed::Endless));
    let mut legacy = space(&qemu());
    legacy[3] = 0x0f;
    assert!(matches!(structures(&legacy), Err(Malformed::OtherDevice { vendor: 0x1af4, .. })));
    let mut bare = space(&qemu());
    bare[6] = 0;
    assert_eq!(structures(&bare), Err(Malformed::NoCapabilities));
    assert_eq!(structures(&[0xff; SPACE]).unwrap_err().to_string().lines().count(), 1);
    assert!(structures(&[]).is_err());
}

proptest! {
    /// Whatever the device says, each window can be used: no sum overflows, and no register is made up.
    #[test]
    fn any_list_ends_in_sound_windows_or_a_refusal(
        noise in prop::collection::vec(any::<u8>(), SPACE - 0x40),
        first in any::<u8>(),
        headers in prop::collection::vec((0_usize..180, 0_u8..10, 0_u8..8, any::<u8>()), 0..9),
    ) {
        let mut bytes = space(&[]);
        bytes[0x40..].copy_from_slice(&noise);
        bytes[0x34] = first;
        for (at, kind, bar, length) in headers {
            let at = 0x40 + at / 4 * 4;
            for (place, value) in [(0, 9), (2, length % 32), (3, kind), (4, bar)] {
                if let Some(byte) = bytes.get_mut(at + place) {
                    *byte = value;
                }
            }
        }
        if let Ok(found) = structures(&bytes) {
            let shared = found.shared_memory.map(|(_, window)| window);
            for window in [found.common, found.notify, found.interrupt, found.device].iter().chain(&shared) {
                prop_assert!(window.bar < 6);
                prop_assert!(window.offset.checked_add(window.length).is_some());
                prop_assert!(window.length > 0);
            }
            prop_assert!(found.common.length >= 56 && found.device.length >= 16 && found.notify.length >= 2);
            let multiplier = found.notify_multiplier;
            prop_assert!(multiplier == 0 || multiplier.is_power_of_two() && multiplier > 1);
        }
    }

    /// Structures are found wherever they lie, in whatever order they are listed.
    #[test]
    fn order_and_place_do_not_matter(
        order in Just(vec![0_usize, 1, 2, 3, 4, 5]).prop_shuffle(),
        bars in prop::array::uniform4(0_u8..6),
        pages in prop::array::uniform4(0_u32..1000),
    ) {
        let mut capabilities = qemu();
        for (place, kind) in [(1, 1), (2, 3), (3, 4)] {
            capabilities[place] = capability(kind, bars[place], 0, pages[place] * 4096, 4096, &[]);
        }
        capabilities[4] = capability(2, bars[0], 0, pages[0] * 4096, 4096, &[2]);
        let shuffled: Vec<_> = order.iter().map(|place| capabilities[*place].clone()).collect();
        let found = structures(&space(&shuffled)).unwrap();
        let windows = [found.notify, found.common, found.interrupt, found.device];
        for (window, (bar, page)) in windows.iter().zip(bars.iter().zip(pages)) {
            prop_assert_eq!(*window, Window { bar: *bar, offset: u64::from(page) * 4096, length: 4096 });
        }
    }
}
