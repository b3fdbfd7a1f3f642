//! `opendir` and `scandir`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use super::next::next;
use super::target;
use crate::settings::settings;
use crate::{paths, sys};

type Opendir = unsafe extern "C" fn(*const c_char) -> *mut libc::DIR;
type Scandir = unsafe extern "C" fn(*const c_char, *mut c_void, *mut c_void, *mut c_void) -> c_int;

/// The path to use in place of the program's, for a directory whose entries are to be read.
///
/// # Safety
///
/// `path` is null or a C string.
unsafe fn target_to_list(path: *const c_char) -> Option<CString> {
    // SAFETY: the caller's promise.
    if let Some(path) = unsafe { target(libc::AT_FDCWD, path) }.path() {
        return Some(path.to_owned());
    }
    let settings = settings().filter(|_| !path.is_null())?;
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let listing = paths::listing(path, &settings.sysroot)?;
    CString::new(listing).ok().filter(|listing| sys::is_directory(listing))
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn opendir(path: *const c_char) -> *mut libc::DIR {
    // SAFETY: the program's promise.
    let target = unsafe { target_to_list(path) };
    let path = target.as_deref().map_or(path, CStr::as_ptr);
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
            let target = unsafe { target_to_list(path) };
            let path = target.as_deref().map_or(path, CStr::as_ptr);
            next!($name(path, list, filter, compare) as Scandir, else -1)
        }
    )*};
}

scandirs! { scandir scandir64 }
