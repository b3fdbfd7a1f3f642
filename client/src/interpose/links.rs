//! `readlink`, `realpath`, `access` and their kin.

use std::ffi::{CStr, c_char, c_int};

use super::next::next;
use super::target;
use crate::settings::settings;
use crate::{paths, sys};

/// # Safety
///
/// As `readlinkat` demands.
unsafe fn link_in(directory: c_int, path: *const c_char, into: *mut c_char, size: usize) -> isize {
    // SAFETY: the program's promise.
    let target = unsafe { target(directory, path) };
    let path = target.path().map_or(path, CStr::as_ptr);
    // SAFETY: the program's promise, or a path of ours. The links of the daemon's tree are relative, so what they
    // say needs no change.
    unsafe { sys::readlinkat(directory, path, into, size) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn readlink(path: *const c_char, into: *mut c_char, size: usize) -> isize {
    // SAFETY: the program's promise.
    unsafe { link_in(libc::AT_FDCWD, path, into, size) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __readlink_chk(
    path: *const c_char,
    into: *mut c_char,
    size: usize,
    room: usize,
) -> isize {
    // SAFETY: the program's promise. glibc would abort where the room is smaller than was claimed.
    unsafe { link_in(libc::AT_FDCWD, path, into, size.min(room)) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn readlinkat(
    directory: c_int,
    path: *const c_char,
    into: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: the program's promise.
    unsafe { link_in(directory, path, into, size) }
}

/// Takes the daemon's tree from the front of a result.
///
/// # Safety
///
/// `result` is null or a C string that may be written.
unsafe fn strip(result: *mut c_char) -> *mut c_char {
    if result.is_null() {
        return result;
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(result) }.to_bytes_with_nul();
    let rest = settings().and_then(|settings| paths::without_sysroot(bytes, &settings.sysroot));
    if let Some(rest) = rest {
        let (from, length) = (rest.as_ptr(), rest.len());
        // SAFETY: it becomes shorter in its own room; the zero byte at the end moves along.
        unsafe { std::ptr::copy(from, result.cast(), length) };
    }
    result
}

type Realpath = unsafe extern "C" fn(*const c_char, *mut c_char) -> *mut c_char;
type RealpathChecked = unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> *mut c_char;
type Canonicalize = unsafe extern "C" fn(*const c_char) -> *mut c_char;

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn realpath(path: *const c_char, into: *mut c_char) -> *mut c_char {
    // SAFETY: the program's promise.
    let target = unsafe { target(libc::AT_FDCWD, path) };
    let path = target.path().map_or(path, CStr::as_ptr);
    let result = next!(realpath(path, into) as Realpath, else std::ptr::null_mut());
    // SAFETY: what glibc returned.
    unsafe { strip(result) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __realpath_chk(
    path: *const c_char,
    into: *mut c_char,
    room: usize,
) -> *mut c_char {
    // SAFETY: the program's promise.
    let target = unsafe { target(libc::AT_FDCWD, path) };
    let path = target.path().map_or(path, CStr::as_ptr);
    let result = next!(__realpath_chk(path, into, room) as RealpathChecked, else std::ptr::null_mut());
    // SAFETY: what glibc returned.
    unsafe { strip(result) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn canonicalize_file_name(path: *const c_char) -> *mut c_char {
    // SAFETY: the program's promise.
    let target = unsafe { target(libc::AT_FDCWD, path) };
    let path = target.path().map_or(path, CStr::as_ptr);
    let result = next!(canonicalize_file_name(path) as Canonicalize, else std::ptr::null_mut());
    // SAFETY: what glibc returned.
    unsafe { strip(result) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    // SAFETY: the program's promise.
    unsafe { faccessat(libc::AT_FDCWD, path, mode, 0) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn faccessat(
    directory: c_int,
    path: *const c_char,
    mode: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: the program's promise.
    let target = unsafe { target(directory, path) };
    let path = target.path().map_or(path, CStr::as_ptr);
    // SAFETY: the program's promise, or a path of ours.
    unsafe { sys::faccessat(directory, path, mode, flags) }
}
