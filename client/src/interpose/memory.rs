//! `ioctl` and `mmap`.

use std::ffi::{c_int, c_ulong, c_void};

use virgld_protocol::client::DRM_TYPE;
use virgld_protocol::errno::Errno;

use crate::errno::{Outcome, answer};
use crate::fence::{DMABUF_TYPE, SYNC_TYPE};
use crate::foreign::Frame;
use crate::map::{Wish, map};
use crate::marshal::Shape;
use crate::settings::settings;
use crate::{drm, fence, process, sys};

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let [number, kind, low, high, ..] = request.to_le_bytes();
    if settings().is_some() {
        match kind {
            DRM_TYPE => {
                let size = usize::from(u16::from_le_bytes([low, high & 0x3f]));
                // `_IOC_WRITE` and `_IOC_READ`: as the program sees it.
                let (goes, returns) = (high & 0x40 != 0, high & 0x80 != 0);
                let shape = Shape { size, goes, returns, frame: Frame::here() };
                // SAFETY: the program's promise.
                let done = answer(Some(-1), || unsafe { drm_ioctl(fd, number, argument.cast(), shape) });
                if let Some(result) = done {
                    return result;
                }
            }
            SYNC_TYPE | DMABUF_TYPE => {
                // SAFETY: the program's promise.
                return unsafe { ioctl_of_others(fd, request, argument, kind, number) };
            }
            _ => {}
        }
    }
    // SAFETY: the program's promise.
    unsafe { sys::ioctl(fd, request, argument) }
}

/// Nothing if `fd` is not a DRM file of ours.
///
/// # Safety
///
/// As the ioctl demands.
unsafe fn drm_ioctl(fd: c_int, number: u8, argument: *mut u8, shape: Shape) -> Outcome<Option<c_int>> {
    let Some(channel) = process::channel_of(fd)? else { return Ok(None) };
    // SAFETY: the caller's promise.
    unsafe { drm::ioctl(&channel, number, argument, shape)? };
    Ok(Some(0))
}

/// Real sync files and dmabufs are the kernel's; what it refuses may be one of ours.
///
/// # Safety
///
/// As the ioctl demands.
unsafe fn ioctl_of_others(fd: c_int, request: c_ulong, argument: *mut c_void, kind: u8, number: u8) -> c_int {
    let before = sys::errno();
    // SAFETY: the caller's promise.
    let result = unsafe { sys::ioctl(fd, request, argument) };
    if result != -1 || sys::errno() != Errno::ENOTTY {
        return result;
    }
    sys::set_errno(before);
    // SAFETY: the caller's promise.
    answer(-1, || unsafe { fence::ioctl(fd, kind, number, argument.cast()) }.map(|()| 0))
}

/// # Safety
///
/// As `mmap` demands.
unsafe fn map_file(fd: c_int, wish: &Wish) -> *mut c_void {
    if fd >= 0 && wish.flags & libc::MAP_ANONYMOUS == 0 && settings().is_some() {
        let mapped = answer(Some(libc::MAP_FAILED), || {
            let Some(channel) = process::channel_of(fd)? else { return Ok(None) };
            // SAFETY: the caller's promise.
            unsafe { map(&channel, wish) }.map(Some)
        });
        if let Some(mapped) = mapped {
            return mapped;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { sys::mmap(wish.address, wish.length, wish.protection, wish.flags, fd, wish.offset) }
}

macro_rules! mmaps {
    ($($name:ident)*) => {$(
        /// As in C.
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(
            address: *mut c_void,
            length: usize,
            protection: c_int,
            flags: c_int,
            fd: c_int,
            offset: i64,
        ) -> *mut c_void {
            let wish = Wish { address, length, protection, flags, offset };
            // SAFETY: the program's promise.
            unsafe { map_file(fd, &wish) }
        }
    )*};
}

mmaps! { mmap mmap64 }
