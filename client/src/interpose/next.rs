//! The functions of glibc behind ours, looked up when they are first needed.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// One function, found once.
pub(super) struct Next {
    name: &'static CStr,
    /// Where else to look: a library that a plugin of the program brought along is not among all that is loaded.
    library: Option<&'static CStr>,
    found: AtomicPtr<c_void>,
}

impl Next {
    /// The function called `name`.
    pub(super) const fn named(name: &'static CStr) -> Self {
        Self { name, library: None, found: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The function called `name` of a library other than glibc, if it is loaded.
    pub(super) const fn of(library: &'static CStr, name: &'static CStr) -> Self {
        Self { name, library: Some(library), found: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Its address; null if nothing behind this library has it.
    pub(super) fn address(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Acquire);
        if !found.is_null() {
            return found;
        }
        // SAFETY: the name is a C string.
        let mut found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if let Some(library) = self.library.filter(|_| found.is_null()) {
            // SAFETY: the name is a C string; nothing is loaded, and so nothing run. The library stays loaded for good.
            let library = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
            if !library.is_null() {
                // SAFETY: the library is loaded, the name is a C string.
                found = unsafe { libc::dlsym(library, self.name.as_ptr()) };
            }
        }
        self.found.store(found, Ordering::Release);
        found
    }
}

/// Calls the glibc function `$name` of the given type, or answers `$missing` with ENOSYS where there is none.
macro_rules! next {
    ($name:ident ($($argument:expr),*) as $type:ty, else $missing:expr) => {{
        static NEXT: $crate::interpose::next::Next = $crate::interpose::next::Next::named(
            // The name of the function is that of its C symbol.
            match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("an identifier has no zero byte"),
            },
        );
        let address = NEXT.address();
        if address.is_null() {
            $crate::sys::set_errno(virgld_protocol::errno::Errno::ENOSYS);
            $missing
        } else {
            // SAFETY: the symbol of this name has this type, by the manual.
            let function = unsafe { std::mem::transmute::<*mut std::ffi::c_void, $type>(address) };
            // SAFETY: the arguments are the program's own, or a path in place of the program's path.
            unsafe { function($($argument),*) }
        }
    }};
}
pub(super) use next;
