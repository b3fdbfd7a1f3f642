//! `stat` and its kin: a DRM file, and a node, is a character device.

use std::ffi::{c_char, c_int, c_uint};

use super::{Target, target};
use crate::nodes::{self, MAJOR, Node};
use crate::settings::settings;
use crate::{paths, sys};

fn dress(node: Node, status: &mut libc::stat) {
    status.st_mode = libc::S_IFCHR | 0o666;
    status.st_rdev = libc::makedev(MAJOR, node.minor());
    status.st_size = 0;
}

/// The node of an open DRM file that is behind `status` of `fd`.
fn node_behind(fd: c_int, mode: u32) -> Option<Node> {
    let before = sys::errno();
    let node = if mode & libc::S_IFMT == libc::S_IFSOCK { nodes::recognise(fd) } else { None };
    sys::set_errno(before);
    node
}

/// # Safety
///
/// As `fstatat` demands.
unsafe fn status_of(directory: c_int, path: *const c_char, status: *mut libc::stat, flags: c_int) -> c_int {
    // SAFETY: the program's promise.
    let target = unsafe { target(directory, path) };
    let used = target.path().map_or(path, std::ffi::CStr::as_ptr);
    // SAFETY: the program's promise, or a path of ours.
    let result = unsafe { sys::fstatat(directory, used, status, flags) };
    if result != 0 {
        return result;
    }
    // SAFETY: the kernel has just written it.
    let status = unsafe { &mut *status };
    let node = match target {
        Target::Node(node, _) => Some(node),
        Target::StandIn(_) => None,
        Target::Other if flags & libc::AT_EMPTY_PATH != 0 => node_behind(directory, status.st_mode),
        Target::Other => None,
    };
    if let Some(node) = node {
        dress(node, status);
    }
    0
}

/// # Safety
///
/// As `fstat` demands.
unsafe fn status_of_file(fd: c_int, status: *mut libc::stat) -> c_int {
    // SAFETY: an empty path with this flag means the descriptor itself; the rest is the program's promise.
    unsafe { status_of(fd, c"".as_ptr(), status, libc::AT_EMPTY_PATH) }
}

/// libudev takes a directory for sysfs only if its file system says so.
///
/// # Safety
///
/// As `fstatfs` demands.
unsafe fn file_system_of(fd: c_int, status: *mut libc::statfs) -> c_int {
    // SAFETY: the program's promise.
    let result = unsafe { sys::fstatfs(fd, status) };
    let before = sys::errno();
    let path = if result == 0 { sys::path_of(fd) } else { None };
    let ours = settings()
        .zip(path.as_deref())
        .and_then(|(settings, path)| paths::without_sysroot(path, &settings.sysroot))
        .is_some_and(|path| path.starts_with(b"/sys"));
    sys::set_errno(before);
    if ours {
        // SAFETY: the kernel has just written it.
        unsafe { (*status).f_type = SYSFS_MAGIC };
    }
    result
}

macro_rules! statuses {
    ($($name:ident ( $($argument:ident : $type:ty),* ) => $call:expr;)*) => {$(
        /// As in C.
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: the program's promise.
            unsafe { $call }
        }
    )*};
}

type Path = *const c_char;
type Status = *mut libc::stat;
const HERE: c_int = libc::AT_FDCWD;
const LINK: c_int = libc::AT_SYMLINK_NOFOLLOW;

statuses! {
    stat(path: Path, status: Status) => status_of(HERE, path, status, 0);
    stat64(path: Path, status: Status) => status_of(HERE, path, status, 0);
    lstat(path: Path, status: Status) => status_of(HERE, path, status, LINK);
    lstat64(path: Path, status: Status) => status_of(HERE, path, status, LINK);
    fstat(fd: c_int, status: Status) => status_of_file(fd, status);
    fstat64(fd: c_int, status: Status) => status_of_file(fd, status);
    fstatat(at: c_int, path: Path, status: Status, flags: c_int) => status_of(at, path, status, flags);
    fstatat64(at: c_int, path: Path, status: Status, flags: c_int) => status_of(at, path, status, flags);
    __xstat(_version: c_int, path: Path, status: Status) => status_of(HERE, path, status, 0);
    __xstat64(_version: c_int, path: Path, status: Status) => status_of(HERE, path, status, 0);
    __lxstat(_version: c_int, path: Path, status: Status) => status_of(HERE, path, status, LINK);
    __lxstat64(_version: c_int, path: Path, status: Status) => status_of(HERE, path, status, LINK);
    __fxstat(_version: c_int, fd: c_int, status: Status) => status_of_file(fd, status);
    __fxstat64(_version: c_int, fd: c_int, status: Status) => status_of_file(fd, status);
    __fxstatat(_version: c_int, at: c_int, path: Path, status: Status, flags: c_int)
        => status_of(at, path, status, flags);
    __fxstatat64(_version: c_int, at: c_int, path: Path, status: Status, flags: c_int)
        => status_of(at, path, status, flags);
    fstatfs(fd: c_int, status: *mut libc::statfs) => file_system_of(fd, status);
    fstatfs64(fd: c_int, status: *mut libc::statfs) => file_system_of(fd, status);
    statx(at: c_int, path: Path, flags: c_int, mask: c_uint, status: *mut libc::statx)
        => extended_status_of(at, path, flags, mask, status);
}

/// # Safety
///
/// As `statx` demands.
unsafe fn extended_status_of(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    status: *mut libc::statx,
) -> c_int {
    // SAFETY: the program's promise.
    let target = unsafe { target(directory, path) };
    let used = target.path().map_or(path, std::ffi::CStr::as_ptr);
    // SAFETY: the program's promise, or a path of ours.
    let result = unsafe { sys::statx(directory, used, flags, mask, status) };
    if result != 0 {
        return result;
    }
    // SAFETY: the kernel has just written it.
    let status = unsafe { &mut *status };
    let node = match target {
        Target::Node(node, _) => Some(node),
        Target::Other if flags & libc::AT_EMPTY_PATH != 0 => node_behind(directory, status.stx_mode.into()),
        _ => None,
    };
    if let Some(node) = node {
        status.stx_mode = MODE;
        (status.stx_rdev_major, status.stx_rdev_minor) = (MAJOR, node.minor());
        status.stx_size = 0;
    }
    0
}

/// `SYSFS_MAGIC`.
const SYSFS_MAGIC: libc::__fsword_t = 0x6265_6572;

#[expect(clippy::cast_possible_truncation, reason = "file types and permissions have 16 bits")]
const MODE: u16 = (libc::S_IFCHR | 0o666) as u16;
