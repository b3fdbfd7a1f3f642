//! What libudev makes of the nodes, where it is installed: compositors find their card by it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;

type Object = *mut c_void;
type New = unsafe extern "C" fn() -> Object;
type Of = unsafe extern "C" fn(Object) -> Object;
type Match = unsafe extern "C" fn(Object, *const c_char) -> c_int;
type Do = unsafe extern "C" fn(Object) -> c_int;
type Text = unsafe extern "C" fn(Object) -> *const c_char;
type Look = unsafe extern "C" fn(Object, *const c_char) -> Object;
type Number = unsafe extern "C" fn(Object, c_char, libc::dev_t) -> Object;
type Parent = unsafe extern "C" fn(Object, *const c_char, *const c_char) -> Object;
type Property = unsafe extern "C" fn(Object, *const c_char) -> *const c_char;

/// Finds the card as Weston's DRM backend does, and the render node as Mesa and libinput find devices.
pub(crate) fn find() {
    // SAFETY: libudev's functions of these names have these types. Nothing is freed.
    unsafe {
        let library = libc::dlopen(c"libudev.so.1".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            return;
        }
        let function = |name: &CStr| libc::dlsym(library, name.as_ptr());
        let udev = transmute::<Object, New>(function(c"udev_new"))();
        let list = transmute::<Object, Of>(function(c"udev_enumerate_new"))(udev);
        let by_subsystem: Match = transmute(function(c"udev_enumerate_add_match_subsystem"));
        let by_name: Match = transmute(function(c"udev_enumerate_add_match_sysname"));
        assert_eq!(by_subsystem(list, c"drm".as_ptr()), 0);
        assert_eq!(by_name(list, c"card[0-9]*".as_ptr()), 0);
        assert_eq!(transmute::<Object, Do>(function(c"udev_enumerate_scan_devices"))(list), 0);
        let entry = transmute::<Object, Of>(function(c"udev_enumerate_get_list_entry"))(list);
        assert!(!entry.is_null(), "there is no card");
        let next: Of = transmute(function(c"udev_list_entry_get_next"));
        assert!(next(entry).is_null(), "there is one card");
        let path = transmute::<Object, Text>(function(c"udev_list_entry_get_name"))(entry);
        let node_of: Text = transmute(function(c"udev_device_get_devnode"));
        let card = transmute::<Object, Look>(function(c"udev_device_new_from_syspath"))(udev, path);
        assert_eq!(CStr::from_ptr(node_of(card)), c"/dev/dri/card0");
        let parent: Parent = transmute(function(c"udev_device_get_parent_with_subsystem_devtype"));
        let pci = parent(card, c"pci".as_ptr(), std::ptr::null());
        let property: Property = transmute(function(c"udev_device_get_property_value"));
        assert_eq!(CStr::from_ptr(property(pci, c"PCI_ID".as_ptr())), c"1AF4:1050");
        let numbered: Number = transmute(function(c"udev_device_new_from_devnum"));
        let render = numbered(udev, b'c'.cast_signed(), libc::makedev(226, 128));
        assert_eq!(CStr::from_ptr(node_of(render)), c"/dev/dri/renderD128");
    }
}

type Monitor = unsafe extern "C" fn(Object, *const c_char) -> Object;
type Filter = unsafe extern "C" fn(Object, *const c_char, *const c_char) -> c_int;

/// Hears of a display that changes as Weston's DRM backend does, and not of one that does not.
pub(crate) fn hear() {
    // SAFETY: libudev's functions of these names have these types. Nothing is freed.
    unsafe {
        // As if the program were linked to it: what is preloaded comes first.
        if libc::dlopen(c"libudev.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            return;
        }
        let function = |name: &CStr| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let udev = transmute::<Object, New>(function(c"udev_new"))();
        let new: Monitor = transmute(function(c"udev_monitor_new_from_netlink"));
        let filter: Filter = transmute(function(c"udev_monitor_filter_add_match_subsystem_devtype"));
        let enable: Do = transmute(function(c"udev_monitor_enable_receiving"));
        let descriptor: Do = transmute(function(c"udev_monitor_get_fd"));
        let receive: Of = transmute(function(c"udev_monitor_receive_device"));
        let property: Property = transmute(function(c"udev_device_get_property_value"));
        let (ours, others) = (new(udev, c"udev".as_ptr()), new(udev, c"udev".as_ptr()));
        // One that listens to other devices, too, is left alone.
        assert_eq!(filter(others, c"input".as_ptr(), std::ptr::null()), 0);
        for monitor in [ours, others] {
            assert_eq!(filter(monitor, c"drm".as_ptr(), std::ptr::null()), 0);
            assert_eq!(enable(monitor), 0);
        }
        assert!(receive(ours).is_null() && receive(others).is_null(), "nothing has happened yet");
        let fd = crate::calls::open(c"/dev/dri/card0");
        for _ in 0..2 {
            assert!(!crate::calls::readable(descriptor(ours), 0));
            crate::calls::drm(fd, 0x0d, &mut [0_u64, 0]).unwrap();
            assert!(crate::calls::readable(descriptor(ours), 5000));
            let device = receive(ours);
            assert!(!device.is_null(), "libudev does not believe it");
            for (name, value) in [
                (c"ACTION", c"change"),
                (c"HOTPLUG", c"1"),
                (c"DEVNAME", c"/dev/dri/card0"),
                (c"SUBSYSTEM", c"drm"),
            ] {
                let found = property(device, name.as_ptr());
                assert!(!found.is_null() && CStr::from_ptr(found) == value, "{name:?}");
            }
            assert!(receive(ours).is_null(), "told twice");
        }
    }
}
