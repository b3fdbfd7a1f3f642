//! Fence descriptors: `SYNC_IOC_MERGE` and `SYNC_IOC_FILE_INFO` (`sync_file.h`), and what Linux asks of a dmabuf.
//!
//! A fence is the reading end of a pipe. When it signals, four bytes of status arrive and the writing end closes.
//! They are never read, only looked at: every copy of the descriptor stays readable.

use std::ffi::c_int;
use std::os::fd::RawFd;

use virgld_protocol::channel::SERVICE_MERGE;
use virgld_protocol::errno::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::errno::Outcome;
use crate::foreign::check_writable;
use crate::{nodes, process, sys};

/// Type of the ioctls of sync files.
pub(crate) const SYNC_TYPE: u8 = b'>';
/// Type of the ioctls of dmabufs.
pub(crate) const DMABUF_TYPE: u8 = b'b';

/// `struct sync_merge_data`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct MergeData {
    name: [u8; 32],
    other: i32,
    fence: i32,
    flags: u32,
    pad: u32,
}

/// `struct sync_file_info`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct FileInfo {
    name: [u8; 32],
    status: i32,
    flags: u32,
    fences: u32,
    pad: u32,
    details: u64,
}

/// `struct sync_fence_info`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct FenceInfo {
    object: [u8; 32],
    driver: [u8; 32],
    status: i32,
    flags: u32,
    timestamp: u64,
}

/// An ioctl that the kernel refused on `fd` because it is not what the program thinks.
///
/// # Safety
///
/// As the ioctl demands.
pub(crate) unsafe fn ioctl(fd: RawFd, kind: u8, number: u8, address: *mut u8) -> Outcome<()> {
    let mode = sys::fstat(fd)?.st_mode & libc::S_IFMT;
    match (kind, number) {
        // The memory is coherent.
        (DMABUF_TYPE, DMABUF_SYNC) if mode == libc::S_IFREG => Ok(()),
        _ if mode != libc::S_IFIFO => Err(Errno::ENOTTY),
        // SAFETY: the caller's promise.
        (SYNC_TYPE, MERGE) => unsafe { merge(fd, address) },
        // SAFETY: the caller's promise.
        (SYNC_TYPE, FILE_INFO) => unsafe { describe(fd, address) },
        _ => Err(Errno::ENOTTY),
    }
}

/// # Safety
///
/// No other thread unmaps what is at `address` meanwhile.
unsafe fn merge(fd: RawFd, address: *mut u8) -> Outcome<()> {
    check_writable(address, size_of::<MergeData>())?;
    let address = address.cast::<MergeData>();
    // SAFETY: it is there, as was looked.
    let mut data = unsafe { address.read_unaligned() };
    if data.flags != 0 || data.pad != 0 {
        return Err(Errno::EINVAL);
    }
    let merged = with_any_file(|channel| {
        let mut answer = channel.service(SERVICE_MERGE, &[], &[fd, data.other])?;
        answer.descriptor()
    })?;
    data.fence = merged.release();
    // SAFETY: the caller's promise.
    unsafe { address.write_unaligned(data) };
    Ok(())
}

/// A merge is no DRM file's affair, but the daemon hears us only through one.
fn with_any_file<T>(ask: impl FnOnce(&crate::channel::Channel) -> Outcome<T>) -> Outcome<T> {
    if let Some(channel) = process::any_channel() {
        return ask(&channel);
    }
    let fd = nodes::open(nodes::Node::Render, libc::O_RDWR | libc::O_CLOEXEC)?;
    let fd = crate::own::OwnFd::adopt(fd);
    ask(&*process::channel_of(fd.raw())?.ok_or(Errno::EIO)?)
}

/// # Safety
///
/// No other thread unmaps what is at `address` meanwhile, nor what that points to.
unsafe fn describe(fd: RawFd, address: *mut u8) -> Outcome<()> {
    check_writable(address, size_of::<FileInfo>())?;
    let address = address.cast::<FileInfo>();
    // SAFETY: it is there, as was looked.
    let mut info = unsafe { address.read_unaligned() };
    if info.flags != 0 || info.pad != 0 {
        return Err(Errno::EINVAL);
    }
    let status = status(fd)?;
    let details = std::ptr::with_exposed_provenance_mut::<FenceInfo>(
        usize::try_from(info.details).map_err(|_| Errno::EFAULT)?,
    );
    if info.fences > 0 {
        check_writable(details.cast(), size_of::<FenceInfo>())?;
        let mut detail = FenceInfo::new_zeroed();
        detail.driver[..NAME.len()].copy_from_slice(NAME);
        detail.status = status;
        // SAFETY: there is room for one, as was looked.
        unsafe { details.write_unaligned(detail) };
    }
    info.name.fill(0);
    info.name[..NAME.len()].copy_from_slice(NAME);
    info.fences = 1;
    info.status = status;
    // SAFETY: the caller's promise.
    unsafe { address.write_unaligned(info) };
    Ok(())
}

/// 1: signalled; 0: not yet; below: signalled with this error.
fn status(fd: RawFd) -> Outcome<c_int> {
    let mut bytes = [0; 4];
    if sys::peek_pipe(fd, &mut bytes)? == bytes.len() {
        return Ok(match i32::from_le_bytes(bytes) {
            0 => 1,
            errno => -errno.abs(),
        });
    }
    // The writing end is gone without a word: so is the daemon.
    if sys::poll(fd, libc::POLLIN, 0) & libc::POLLHUP != 0 { Ok(-Errno::EIO.0) } else { Ok(0) }
}

const MERGE: u8 = 3;
const FILE_INFO: u8 = 4;
const DMABUF_SYNC: u8 = 0;
const NAME: &[u8] = b"virgld";
