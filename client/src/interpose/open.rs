//! `open`, `openat`, `fopen` and their kin.

use std::ffi::{c_char, c_int, c_uint};

use super::next::next;
use super::{Target, target};
use crate::errno::answer;
use crate::{nodes, sys};

/// # Safety
///
/// As `openat` demands.
unsafe fn open_in(directory: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the program's promise.
    let target = unsafe { target(directory, path) };
    match &target {
        // O_PATH names the file and does not open it.
        Target::Node(node, _) if flags & libc::O_PATH == 0 => answer(-1, || nodes::open(*node, flags)),
        _ => {
            let path = target.path().map_or(path, std::ffi::CStr::as_ptr);
            // SAFETY: the program's promise, or a path of ours.
            unsafe { sys::openat(directory, path, flags, mode) }
        }
    }
}

macro_rules! opens {
    ($($name:ident ( $($argument:ident : $type:ty),* ) => ($directory:expr, $path:ident, $flags:expr, $mode:expr);)*) => {$(
        /// As in C.
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: the program's promise.
            unsafe { open_in($directory, $path, $flags, $mode) }
        }
    )*};
}

opens! {
    open(path: *const c_char, flags: c_int, mode: c_uint) => (libc::AT_FDCWD, path, flags, mode);
    open64(path: *const c_char, flags: c_int, mode: c_uint) => (libc::AT_FDCWD, path, flags, mode);
    openat(directory: c_int, path: *const c_char, flags: c_int, mode: c_uint) => (directory, path, flags, mode);
    openat64(directory: c_int, path: *const c_char, flags: c_int, mode: c_uint) => (directory, path, flags, mode);
    __open_2(path: *const c_char, flags: c_int) => (libc::AT_FDCWD, path, flags, 0);
    __open64_2(path: *const c_char, flags: c_int) => (libc::AT_FDCWD, path, flags, 0);
    __openat_2(directory: c_int, path: *const c_char, flags: c_int) => (directory, path, flags, 0);
    __openat64_2(directory: c_int, path: *const c_char, flags: c_int) => (directory, path, flags, 0);
}

type Fopen = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut libc::FILE;

macro_rules! fopens {
    ($($name:ident)*) => {$(
        /// As in C.
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
            // SAFETY: the program's promise.
            let target = unsafe { target(libc::AT_FDCWD, path) };
            let path = target.path().map_or(path, std::ffi::CStr::as_ptr);
            next!($name(path, mode) as Fopen, else std::ptr::null_mut())
        }
    )*};
}

fopens! { fopen fopen64 }
