//! The few functions of libudev by which a compositor hears of displays, bound at run time.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::BorrowedFd;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::stop::{Stop, Verdict, ensure};

type Pointer = *mut c_void;
type Create = unsafe extern "C" fn() -> Pointer;
type CreateMonitor = unsafe extern "C" fn(Pointer, *const c_char) -> Pointer;
type Filter = unsafe extern "C" fn(Pointer, *const c_char, *const c_char) -> c_int;
type Number = unsafe extern "C" fn(Pointer) -> c_int;
type Receive = unsafe extern "C" fn(Pointer) -> Pointer;
type Property = unsafe extern "C" fn(Pointer, *const c_char) -> *const c_char;
type Release = unsafe extern "C" fn(Pointer) -> Pointer;

/// Who hears of changes of displays, as compositors do.
pub struct Monitor {
    udev: Pointer,
    raw: Pointer,
    descriptor: c_int,
    receive: Receive,
    property: Property,
    device_unref: Release,
    monitor_unref: Release,
    unref: Release,
    _library: Library,
}

impl Monitor {
    /// Listens to graphics cards.
    pub fn of_cards() -> Verdict<Self> {
        // SAFETY: libudev's constructors are sound to run, its interface has been stable for years, and the library stays
        // loaded as long as its functions are kept. The functions have these types.
        unsafe {
            // As if the program were linked to it: what is preloaded comes first.
            let library = Library::open(Some("libudev.so.1"), RTLD_NOW | RTLD_GLOBAL).map_err(failed)?;
            let all = Library::this();
            let (create, create_monitor): (Create, CreateMonitor) =
                (find(&all, b"udev_new\0")?, find(&all, b"udev_monitor_new_from_netlink\0")?);
            let filter: Filter = find(&all, b"udev_monitor_filter_add_match_subsystem_devtype\0")?;
            let enable: Number = find(&all, b"udev_monitor_enable_receiving\0")?;
            let descriptor: Number = find(&all, b"udev_monitor_get_fd\0")?;
            let udev = create();
            let raw = create_monitor(udev, c"udev".as_ptr());
            ensure(!raw.is_null(), || "udev_monitor_new_from_netlink failed".to_owned())?;
            let listens = filter(raw, c"drm".as_ptr(), std::ptr::null()) == 0 && enable(raw) == 0;
            ensure(listens, || "the monitor does not listen".to_owned())?;
            Ok(Self {
                udev,
                raw,
                descriptor: descriptor(raw),
                receive: find(&all, b"udev_monitor_receive_device\0")?,
                property: find(&all, b"udev_device_get_property_value\0")?,
                device_unref: find(&all, b"udev_device_unref\0")?,
                monitor_unref: find(&all, b"udev_monitor_unref\0")?,
                unref: find(&all, b"udev_unref\0")?,
                _library: library,
            })
        }
    }

    /// What becomes readable when there is something to hear.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: it is the monitor's, which lives as long as this is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.descriptor) }
    }

    /// What happened to a card: whether its displays changed. Nothing if there is nothing to hear.
    pub fn hear(&self) -> Option<bool> {
        // SAFETY: monitor and device are live, and the text is the device's, which is given back after it was read.
        unsafe {
            let device = (self.receive)(self.raw);
            if device.is_null() {
                return None;
            }
            let value = (self.property)(device, c"HOTPLUG".as_ptr());
            let displays = !value.is_null() && CStr::from_ptr(value) == c"1";
            (self.device_unref)(device);
            Some(displays)
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // SAFETY: each is given back once.
        unsafe {
            (self.monitor_unref)(self.raw);
            (self.unref)(self.udev);
        }
    }
}

/// # Safety
///
/// `T` is the type of the function of that name, used no longer than its library is loaded.
unsafe fn find<T: Copy>(library: &Library, name: &[u8]) -> Verdict<T> {
    // SAFETY: passed on to the caller.
    unsafe { library.get::<T>(name) }.map(|symbol| *symbol).map_err(failed)
}

fn failed(error: libloading::Error) -> Stop {
    Stop::failed(error.to_string())
}
