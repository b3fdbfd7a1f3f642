//! EGL images: textures that leave as dmabufs and dmabufs that become textures.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use khronos_egl as egl;

use crate::egl::{Context, Display};
use crate::gl::{Gl, Texture};
use crate::stop::{Verdict, ensure};

const GL_TEXTURE_2D: egl::Enum = 0x30B1;
const LINUX_DMA_BUF: egl::Enum = 0x3270;
const LINUX_DRM_FOURCC: egl::Attrib = 0x3271;
const DMA_BUF_PLANE0_FD: egl::Attrib = 0x3272;
const DMA_BUF_PLANE0_OFFSET: egl::Attrib = 0x3273;
const DMA_BUF_PLANE0_PITCH: egl::Attrib = 0x3274;
const DMA_BUF_PLANE0_MODIFIER_LO: egl::Attrib = 0x3443;
const DMA_BUF_PLANE0_MODIFIER_HI: egl::Attrib = 0x3444;
const INVALID_MODIFIER: u64 = 0x00ff_ffff_ffff_ffff;

type ImageTarget = unsafe extern "system" fn(u32, *mut c_void);
type ExportQuery = unsafe extern "system" fn(*mut c_void, *mut c_void, *mut i32, *mut i32, *mut u64) -> u32;
type Export = unsafe extern "system" fn(*mut c_void, *mut c_void, *mut i32, *mut i32, *mut i32) -> u32;

/// A one-plane dmabuf and what one must know to read it.
#[derive(Debug)]
pub struct Dmabuf {
    /// The buffer.
    pub fd: OwnedFd,
    /// How its pixels lie.
    pub shape: Shape,
}

/// How the pixels of a one-plane dmabuf lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The DRM format.
    pub fourcc: u32,
    /// Bytes from row to row.
    pub stride: u32,
    /// Bytes before the first row.
    pub offset: u32,
    /// The DRM format modifier.
    pub modifier: u64,
}

/// An EGL image, destroyed when dropped.
pub struct Image<'d> {
    display: &'d Display,
    raw: egl::Image,
}

impl<'d> Image<'d> {
    /// The image of level 0 of a texture of the current context.
    pub fn of_texture(context: &Context<'d>, texture: Texture) -> Verdict<Self> {
        context.display().require("EGL_KHR_gl_texture_2D_image")?;
        let name = std::ptr::without_provenance_mut(texture.0.get() as usize);
        // SAFETY: for this target EGL takes a texture's name where a pointer stands.
        let buffer = unsafe { egl::ClientBuffer::from_ptr(name) };
        Self::create(context.display(), context.raw(), GL_TEXTURE_2D, buffer, &[egl::ATTRIB_NONE])
    }

    /// The image of a dmabuf; EGL keeps a reference of its own.
    pub fn import(display: &'d Display, dmabuf: &Dmabuf) -> Verdict<Self> {
        display.require("EGL_EXT_image_dma_buf_import")?;
        let Shape { width, height, fourcc, stride, offset, modifier } = dmabuf.shape;
        let fd = usize::try_from(dmabuf.fd.as_raw_fd()).map_err(|error| error.to_string())?;
        let mut attributes = vec![egl::WIDTH as usize, width as usize, egl::HEIGHT as usize, height as usize];
        attributes.extend([LINUX_DRM_FOURCC, fourcc as usize, DMA_BUF_PLANE0_FD, fd]);
        attributes.extend([DMA_BUF_PLANE0_OFFSET, offset as usize, DMA_BUF_PLANE0_PITCH, stride as usize]);
        if modifier != INVALID_MODIFIER && display.has("EGL_EXT_image_dma_buf_import_modifiers") {
            let [low, high] = [modifier & 0xffff_ffff, modifier >> 32].map(usize::try_from);
            let (low, high) = (low.unwrap_or(0), high.unwrap_or(0));
            attributes.extend([DMA_BUF_PLANE0_MODIFIER_LO, low, DMA_BUF_PLANE0_MODIFIER_HI, high]);
        }
        attributes.push(egl::ATTRIB_NONE);
        // SAFETY: EGL_NO_CONTEXT and a null buffer are what this target asks for.
        let (none, nothing) = unsafe {
            (egl::Context::from_ptr(egl::NO_CONTEXT), egl::ClientBuffer::from_ptr(std::ptr::null_mut()))
        };
        Self::create(display, none, LINUX_DMA_BUF, nothing, &attributes)
    }

    fn create(
        display: &'d Display,
        context: egl::Context,
        target: egl::Enum,
        buffer: egl::ClientBuffer,
        attributes: &[egl::Attrib],
    ) -> Verdict<Self> {
        let raw = display.api().create_image(display.raw(), context, target, buffer, attributes);
        Ok(Self { display, raw: raw.map_err(|error| format!("eglCreateImage: {error}"))? })
    }

    /// A texture of the current context whose storage is the image, left bound.
    pub fn texture(&self, gl: &Gl) -> Verdict<Texture> {
        ensure(gl.has("GL_OES_EGL_image"), || "no GL_OES_EGL_image".to_owned())?;
        let texture = gl.create_texture()?;
        gl.bind_texture(glow::TEXTURE_2D, Some(texture));
        gl.filter(glow::NEAREST, glow::NEAREST);
        let function = self.display.function("glEGLImageTargetTexture2DOES");
        ensure(!function.is_null(), || "no glEGLImageTargetTexture2DOES".to_owned())?;
        // SAFETY: the extension is offered, so this is its function and that is its signature.
        let target: ImageTarget = unsafe { std::mem::transmute(function) };
        // SAFETY: the image is live.
        unsafe { target(glow::TEXTURE_2D, self.raw.as_ptr()) };
        gl.check()?;
        Ok(texture)
    }

    /// The image as a dmabuf.
    pub fn export(&self, width: u32, height: u32) -> Verdict<Dmabuf> {
        self.display.require("EGL_MESA_image_dma_buf_export")?;
        let (display, image) = (self.display.raw().as_ptr(), self.raw.as_ptr());
        let query = self.display.function("eglExportDMABUFImageQueryMESA");
        let export = self.display.function("eglExportDMABUFImageMESA");
        ensure(!query.is_null() && !export.is_null(), || "no export functions".to_owned())?;
        // SAFETY: the extension is offered, so these are its functions and signatures.
        let (query, export) = unsafe {
            (
                std::mem::transmute::<*const c_void, ExportQuery>(query),
                std::mem::transmute::<*const c_void, Export>(export),
            )
        };

        let (mut fourcc, mut planes, mut modifiers) = (0, 0, [0; 4]);
        // SAFETY: one integer each; a modifier for each of at most four planes.
        let asked = unsafe { query(display, image, &mut fourcc, &mut planes, modifiers.as_mut_ptr()) };
        ensure(asked == egl::TRUE, || "eglExportDMABUFImageQueryMESA failed".to_owned())?;
        ensure(planes == 1, || format!("expected one plane, saw {planes}"))?;

        let (mut fds, mut strides, mut offsets) = ([-1; 4], [0; 4], [0; 4]);
        // SAFETY: room for four planes each.
        let exported =
            unsafe { export(display, image, fds.as_mut_ptr(), strides.as_mut_ptr(), offsets.as_mut_ptr()) };
        ensure(exported == egl::TRUE && fds[0] >= 0, || format!("export failed: descriptor {}", fds[0]))?;
        // SAFETY: EGL gave us a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        let (fourcc, stride, offset) =
            (i32::cast_unsigned(fourcc), i32::cast_unsigned(strides[0]), i32::cast_unsigned(offsets[0]));
        Ok(Dmabuf { fd, shape: Shape { width, height, fourcc, stride, offset, modifier: modifiers[0] } })
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        // The only failure is an image that is none, and there is nothing to do about it.
        let _ = self.display.api().destroy_image(self.display.raw(), self.raw);
    }
}
