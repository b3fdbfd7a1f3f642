//! EGL fences that are file descriptors (EGL_ANDROID_native_fence_sync).

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use khronos_egl as egl;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::egl::Display;
use crate::stop::{Stop, Verdict, ensure};

const EXTENSION: &str = "EGL_ANDROID_native_fence_sync";
const SYNC_NATIVE_FENCE: egl::Enum = 0x3144;
const SYNC_NATIVE_FENCE_FD: egl::Attrib = 0x3145;

type DupNativeFence = unsafe extern "system" fn(*mut c_void, *mut c_void) -> i32;

/// Whether the display can pass fences as file descriptors.
pub fn offered(display: &Display) -> bool {
    display.has(EXTENSION)
}

/// Flushes the current context and gives a descriptor that becomes readable when its work is done.
pub fn export(display: &Display) -> Verdict<OwnedFd> {
    display.require(EXTENSION)?;
    let sync = create(display, &[egl::ATTRIB_NONE])?;
    // A native fence has no descriptor before the flush.
    // SAFETY: the sync belongs to this display, and is destroyed once, below.
    unsafe { display.api().client_wait_sync(display.raw(), sync, egl::SYNC_FLUSH_COMMANDS_BIT, 0) }?;
    let function = display.function("eglDupNativeFenceFDANDROID");
    ensure(!function.is_null(), || "no eglDupNativeFenceFDANDROID".to_owned())?;
    // SAFETY: the extension is offered, so this is its function and that is its signature.
    let duplicate: DupNativeFence = unsafe { std::mem::transmute(function) };
    // SAFETY: display and sync are live.
    let raw = unsafe { duplicate(display.raw().as_ptr(), sync.as_ptr()) };
    destroy(display, sync)?;
    ensure(raw >= 0, || format!("expected a fence's descriptor, saw {raw}"))?;
    // SAFETY: EGL gave us a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Makes the current context's further work wait for a fence from elsewhere.
pub fn wait_on(display: &Display, fence: OwnedFd) -> Verdict {
    display.require(EXTENSION)?;
    let raw = usize::try_from(fence.as_raw_fd()).map_err(|error| error.to_string())?;
    let sync = create(display, &[SYNC_NATIVE_FENCE_FD, raw, egl::ATTRIB_NONE])?;
    // EGL owns the descriptor from here on: it closes it with the sync.
    let _ = fence.into_raw_fd();
    display.api().wait_sync(display.raw(), sync, 0)?;
    destroy(display, sync)
}

/// Blocks until a fence is signalled.
pub fn poll_until_signalled(fence: &OwnedFd, limit: Duration) -> Verdict {
    let timeout = Timespec::try_from(limit).map_err(|error| error.to_string())?;
    let mut fds = [PollFd::new(fence, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&timeout))?;
    ensure(ready == 1, || format!("expected the fence to be signalled within {limit:?}; it was not"))?;
    let seen = fds[0].revents();
    let good = seen.contains(PollFlags::IN) && !seen.intersects(PollFlags::ERR | PollFlags::NVAL);
    ensure(good, || format!("expected the fence to poll as IN, saw {seen:?}"))
}

fn create(display: &Display, attributes: &[egl::Attrib]) -> Verdict<egl::Sync> {
    // SAFETY: a native fence takes no OpenCL event; the descriptor in the attributes is live.
    let sync = unsafe { display.api().create_sync(display.raw(), SYNC_NATIVE_FENCE, attributes) };
    sync.map_err(|error| Stop::failed(format!("eglCreateSync of a native fence: {error}")))
}

fn destroy(display: &Display, sync: egl::Sync) -> Verdict {
    // SAFETY: created on this display by `create`, and destroyed only here.
    Ok(unsafe { display.api().destroy_sync(display.raw(), sync) }?)
}
