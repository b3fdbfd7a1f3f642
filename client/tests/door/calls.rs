//! DRM calls as a C program makes them.

use std::ffi::{CStr, c_ulong};
use std::io;

/// Opens a file.
pub(crate) fn open(path: &CStr) -> i32 {
    // SAFETY: a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    assert!(fd >= 0, "{path:?}: {}", io::Error::last_os_error());
    fd
}

/// The render node.
pub(crate) fn render() -> i32 {
    open(c"/dev/dri/renderD128")
}

/// Closes.
pub(crate) fn close(fd: i32) {
    // SAFETY: no memory.
    assert_eq!(unsafe { libc::close(fd) }, 0);
}

/// Makes an ioctl; an error is its number.
pub(crate) fn ioctl<T>(fd: i32, kind: u8, number: u8, argument: &mut T) -> Result<(), i32> {
    let request =
        3 << 30 | (size_of::<T>() as c_ulong) << 16 | c_ulong::from(kind) << 8 | c_ulong::from(number);
    // SAFETY: the argument is of the size that the request tells.
    match unsafe { libc::ioctl(fd, request, std::ptr::from_mut(argument)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

/// Makes a DRM ioctl.
pub(crate) fn drm<T>(fd: i32, number: u8, argument: &mut T) -> Result<(), i32> {
    ioctl(fd, b'd', number, argument)
}

/// GET_CAP.
pub(crate) fn get_cap(fd: i32, capability: u64) -> Result<u64, i32> {
    let mut call = [capability, 0];
    drm(fd, 0x0c, &mut call).map(|()| call[1])
}

/// RESOURCE_CREATE; gives the handle.
pub(crate) fn create(fd: i32) -> u32 {
    create_wide(fd, 0).unwrap()
}

/// RESOURCE_CREATE of a certain width, in a structure that was used before; gives the handle.
pub(crate) fn create_wide(fd: i32, width: u32) -> Result<u32, i32> {
    static USED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let mut call = [0_u32; 14];
    call[3] = width;
    call[10] = USED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    drm(fd, 0x44, &mut call)?;
    assert_eq!((call[3], call[11]), (width, call[10] + 100));
    Ok(call[10])
}

/// MAP; gives the offset.
pub(crate) fn offset_of(fd: i32, handle: u32) -> u64 {
    let mut call = [0_u64, u64::from(handle)];
    drm(fd, 0x41, &mut call).unwrap();
    call[0]
}

/// `struct drm_virtgpu_execbuffer`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Execbuffer {
    pub(crate) flags: u32,
    pub(crate) size: u32,
    pub(crate) command: u64,
    pub(crate) bo_handles: u64,
    pub(crate) num_bo_handles: u32,
    pub(crate) fence_fd: i32,
    pub(crate) ring_idx: u32,
    pub(crate) syncobj_stride: u32,
    pub(crate) num_in_syncobjs: u32,
    pub(crate) num_out_syncobjs: u32,
    pub(crate) in_syncobjs: u64,
    pub(crate) out_syncobjs: u64,
}

/// A stream as the scheme expects it.
pub(crate) fn stream(first: u32, words: u32) -> Vec<u32> {
    let mut stream: Vec<u32> = (0..words).collect();
    stream[0] = first;
    stream
}

/// EXECBUFFER; gives the value of `fence_fd` after.
pub(crate) fn submit(fd: i32, flags: u32, stream: &[u32], handles: &[u32], fence: i32) -> Result<i32, i32> {
    let mut call = Execbuffer {
        flags,
        size: u32::try_from(size_of_val(stream)).unwrap(),
        command: stream.as_ptr() as u64,
        bo_handles: handles.as_ptr() as u64,
        num_bo_handles: u32::try_from(handles.len()).unwrap(),
        fence_fd: fence,
        ..Execbuffer::default()
    };
    drm(fd, 0x42, &mut call).map(|()| call.fence_fd)
}

/// WAIT; `only_ask` is NOWAIT.
pub(crate) fn wait(fd: i32, handle: u32, only_ask: bool) -> Result<(), i32> {
    drm(fd, 0x48, &mut [handle, u32::from(only_ask)])
}

/// Whether `fd` becomes readable within `milliseconds`.
pub(crate) fn readable(fd: i32, milliseconds: i32) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut entry, 1, milliseconds) == 1 && entry.revents & libc::POLLIN != 0 }
}

/// SYNC_IOC_FILE_INFO: the status.
pub(crate) fn fence_status(fd: i32) -> Result<i32, i32> {
    let mut info = [0_u32; 14];
    ioctl(fd, b'>', 4, &mut info).map(|()| info[8].cast_signed())
}
