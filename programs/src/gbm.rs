//! The dozen functions of libgbm that a program without a screen needs, bound at run time.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use libloading::{Library, Symbol};

use crate::image::{Dmabuf, Shape};
use crate::stop::{Stop, Verdict, ensure};

/// 32 bits a pixel: blue, green, red, alpha in memory.
pub const ARGB8888: u32 = u32::from_le_bytes(*b"AR24");
/// 32 bits a pixel: blue, green, red, nothing in memory.
pub const XRGB8888: u32 = u32::from_le_bytes(*b"XR24");

const USE_SCANOUT: u32 = 1 << 0;
const USE_RENDERING: u32 = 1 << 2;
const USE_LINEAR: u32 = 1 << 4;
const TRANSFER_READ: u32 = 1;
const TRANSFER_WRITE: u32 = 2;

type Pointer = *mut c_void;

struct Functions {
    create_device: unsafe extern "C" fn(i32) -> Pointer,
    device_destroy: unsafe extern "C" fn(Pointer),
    surface_create: unsafe extern "C" fn(Pointer, u32, u32, u32, u32) -> Pointer,
    surface_destroy: unsafe extern "C" fn(Pointer),
    lock_front: unsafe extern "C" fn(Pointer) -> Pointer,
    release: unsafe extern "C" fn(Pointer, Pointer),
    bo_create: unsafe extern "C" fn(Pointer, u32, u32, u32, u32) -> Pointer,
    bo_destroy: unsafe extern "C" fn(Pointer),
    bo_map: unsafe extern "C" fn(Pointer, u32, u32, u32, u32, u32, *mut u32, *mut Pointer) -> Pointer,
    bo_unmap: unsafe extern "C" fn(Pointer, Pointer),
    bo_fd: unsafe extern "C" fn(Pointer) -> i32,
    bo_stride: unsafe extern "C" fn(Pointer) -> u32,
    bo_offset: unsafe extern "C" fn(Pointer, i32) -> u32,
    bo_modifier: unsafe extern "C" fn(Pointer) -> u64,
    _library: Library,
}

impl Functions {
    fn load() -> Result<Self, libloading::Error> {
        // SAFETY: libgbm's constructors are sound to run, its interface has been stable for years, and
        // the library stays loaded as long as its functions are kept.
        unsafe {
            let library = Library::new("libgbm.so.1")?;
            Ok(Self {
                create_device: find(&library, b"gbm_create_device")?,
                device_destroy: find(&library, b"gbm_device_destroy")?,
                surface_create: find(&library, b"gbm_surface_create")?,
                surface_destroy: find(&library, b"gbm_surface_destroy")?,
                lock_front: find(&library, b"gbm_surface_lock_front_buffer")?,
                release: find(&library, b"gbm_surface_release_buffer")?,
                bo_create: find(&library, b"gbm_bo_create")?,
                bo_destroy: find(&library, b"gbm_bo_destroy")?,
                bo_map: find(&library, b"gbm_bo_map")?,
                bo_unmap: find(&library, b"gbm_bo_unmap")?,
                bo_fd: find(&library, b"gbm_bo_get_fd")?,
                bo_stride: find(&library, b"gbm_bo_get_stride")?,
                bo_offset: find(&library, b"gbm_bo_get_offset")?,
                bo_modifier: find(&library, b"gbm_bo_get_modifier")?,
                _library: library,
            })
        }
    }
}

/// # Safety
///
/// `T` is the type of the function of that name, used no longer than the library is loaded.
unsafe fn find<T: Copy>(library: &Library, name: &[u8]) -> Result<T, libloading::Error> {
    // SAFETY: passed on to the caller.
    let symbol: Symbol<'_, T> = unsafe { library.get(name) }?;
    Ok(*symbol)
}

/// A GBM device on an open node.
pub struct Device {
    raw: Pointer,
    functions: Rc<Functions>,
    _node: OwnedFd,
}

impl Device {
    /// A device on an open DRM node.
    pub fn open(node: OwnedFd) -> Verdict<Self> {
        let functions = Functions::load().map_err(|error| Stop::failed(error.to_string()))?;
        // SAFETY: the node is open and kept open as long as the device.
        let raw = unsafe { (functions.create_device)(node.as_raw_fd()) };
        ensure(!raw.is_null(), || "gbm_create_device failed".to_owned())?;
        Ok(Self { raw, functions: Rc::new(functions), _node: node })
    }

    pub(crate) fn raw(&self) -> Pointer {
        self.raw
    }

    /// A surface to render into.
    pub fn surface(&self, width: u32, height: u32, format: u32) -> Verdict<Surface> {
        self.surface_for(USE_RENDERING, width, height, format)
    }

    /// The same whose buffers can be shown on a screen.
    pub fn screen_surface(&self, width: u32, height: u32, format: u32) -> Verdict<Surface> {
        self.surface_for(USE_RENDERING | USE_SCANOUT, width, height, format)
    }

    fn surface_for(&self, usage: u32, width: u32, height: u32, format: u32) -> Verdict<Surface> {
        // SAFETY: the device is live.
        let raw = unsafe { (self.functions.surface_create)(self.raw, width, height, format, usage) };
        ensure(!raw.is_null(), || "gbm_surface_create failed".to_owned())?;
        Ok(Surface { raw, functions: Rc::clone(&self.functions), width, height, format })
    }

    /// A linear buffer.
    pub fn buffer(&self, width: u32, height: u32, format: u32) -> Verdict<Buffer<'_>> {
        let usage = USE_RENDERING | USE_LINEAR;
        // SAFETY: the device is live.
        let raw = unsafe { (self.functions.bo_create)(self.raw, width, height, format, usage) };
        ensure(!raw.is_null(), || "gbm_bo_create failed".to_owned())?;
        Ok(Buffer { raw, functions: &self.functions, surface: None, width, height, format })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: destroyed once; EGL was terminated before, as `egl::Display` drops its fields after.
        unsafe { (self.functions.device_destroy)(self.raw) }
    }
}

/// A GBM surface: a queue of buffers that EGL renders into.
pub struct Surface {
    raw: Pointer,
    functions: Rc<Functions>,
    width: u32,
    height: u32,
    format: u32,
}

impl Surface {
    pub(crate) fn raw(&self) -> Pointer {
        self.raw
    }

    /// The buffer of the last swap, held until dropped. Only after a swap.
    pub fn front(&self) -> Verdict<Buffer<'_>> {
        // SAFETY: the surface is live, and its EGL window was swapped.
        let raw = unsafe { (self.functions.lock_front)(self.raw) };
        ensure(!raw.is_null(), || "gbm_surface_lock_front_buffer failed".to_owned())?;
        let (width, height, format) = (self.width, self.height, self.format);
        Ok(Buffer { raw, functions: &self.functions, surface: Some(self.raw), width, height, format })
    }
}

impl Drop for Surface {
    fn drop(&mut self) {
        // SAFETY: destroyed once; buffers borrow the surface, so none is held.
        unsafe { (self.functions.surface_destroy)(self.raw) }
    }
}

/// A GBM buffer object.
pub struct Buffer<'a> {
    raw: Pointer,
    functions: &'a Functions,
    surface: Option<Pointer>,
    width: u32,
    height: u32,
    format: u32,
}

impl Buffer<'_> {
    /// The buffer as a dmabuf.
    pub fn export(&self) -> Verdict<Dmabuf> {
        // SAFETY: the buffer is live.
        let (raw, stride, offset, modifier) = unsafe {
            let functions = self.functions;
            let modifier = (functions.bo_modifier)(self.raw);
            let offset = (functions.bo_offset)(self.raw, 0);
            ((functions.bo_fd)(self.raw), (functions.bo_stride)(self.raw), offset, modifier)
        };
        ensure(raw >= 0, || format!("gbm_bo_get_fd: expected a descriptor, saw {raw}"))?;
        // SAFETY: GBM gave us a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let (width, height, fourcc) = (self.width, self.height, self.format);
        Ok(Dmabuf { fd, shape: Shape { width, height, fourcc, stride, offset, modifier } })
    }

    /// Maps the whole buffer while `work` runs, which is given its rows of pixels.
    pub fn map<T>(&self, work: impl FnOnce(&mut [u8], usize) -> T) -> Verdict<T> {
        let (mut stride, mut token) = (0, std::ptr::null_mut());
        let access = TRANSFER_READ | TRANSFER_WRITE;
        // SAFETY: the buffer is live, the rectangle is the whole of it, both out pointers are ours.
        let memory = unsafe {
            let map = self.functions.bo_map;
            map(self.raw, 0, 0, self.width, self.height, access, &mut stride, &mut token)
        };
        ensure(!memory.is_null(), || "gbm_bo_map failed".to_owned())?;
        // The last row need not reach the full stride.
        let size = stride as usize * (self.height as usize - 1) + self.width as usize * 4;
        // SAFETY: GBM maps `height` rows of four-byte pixels, `stride` apart, until the unmap below.
        let answer = work(unsafe { std::slice::from_raw_parts_mut(memory.cast(), size) }, stride as usize);
        // SAFETY: mapped above with this token.
        unsafe { (self.functions.bo_unmap)(self.raw, token) };
        Ok(answer)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: a surface's buffer goes back to it, one of our own is destroyed; each once.
        unsafe {
            match self.surface {
                Some(surface) => (self.functions.release)(surface, self.raw),
                None => (self.functions.bo_destroy)(self.raw),
            }
        }
    }
}
