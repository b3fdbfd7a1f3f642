//! `opendir` and `scandir`.

use std::ffi::{CStr, c_char, c_int, c_void};

use super::next::next;
use super::target;

type Opendir = unsafe extern "C" fn(*const c_char) -> *mut libc::DIR;
type Scandir = unsafe extern "C" fn(*const c_char, *mut c_void, *mut c_void, *mut c_void) -> c_int;

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn opendir(path: *const c_char) -> *mut libc::DIR {
    // SAFETY: the program's promise.
    let target = unsafe { target(libc::AT_FDCWD, path) };
    let path = target.path().map_or(path, CStr::as_ptr);
    next!(opendir(path) as Opendir, else std::ptr::null_mut())
}

macro_rules! scandirs {
    ($($name:ident)*) => {$(
        /// As in C.
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(
            path: *const c_char,
            list: *mut c_void,
            filter: *mut c_void,
            compare: *mut c_void,
        ) -> c_int {
            // SAFETY: the program's promise.
            let target = unsafe { target(libc::AT_FDCWD, path) };
            let path = target.path().map_or(path, CStr::as_ptr);
            next!($name(path, list, filter, compare) as Scandir, else -1)
        }
    )*};
}

scandirs! { scandir scandir64 }
