//! EGL displays and contexts without a window.

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use khronos_egl as egl;

use crate::gbm;
use crate::gl::Gl;
use crate::stop::{Stop, Verdict};

const PLATFORM_GBM: egl::Enum = 0x31D7;
const PLATFORM_SURFACELESS: egl::Enum = 0x31DD;

pub(crate) type Api = egl::DynamicInstance<egl::EGL1_5>;

/// How EGL is to reach the GPU.
#[derive(Clone, Debug)]
pub enum Platform {
    /// EGL looks for a device by itself and falls back to software.
    Surfaceless,
    /// A GBM device on this node.
    Gbm(PathBuf),
}

/// An initialized EGL display.
pub struct Display {
    api: Api,
    raw: egl::Display,
    gbm: Option<gbm::Device>,
    extensions: String,
}

// SAFETY: EGL takes its own locks: a display may be used from any thread. So may a GBM device, which
// only this crate's single-threaded checks use.
unsafe impl Sync for Display {}
// SAFETY: as above.
unsafe impl Send for Display {}

impl Display {
    /// Opens and initializes a display.
    pub fn open(platform: &Platform) -> Verdict<Self> {
        let gbm = match platform {
            Platform::Surfaceless => None,
            Platform::Gbm(path) => Some(open_gbm(path)?),
        };
        Self::with(gbm)
    }

    /// A GBM device on a node that is open already.
    pub fn on(node: OwnedFd) -> Verdict<Self> {
        Self::with(Some(gbm::Device::open(node)?))
    }

    fn with(gbm: Option<gbm::Device>) -> Verdict<Self> {
        // SAFETY: libEGL's constructors are sound to run; its version is checked by the crate.
        let api = unsafe { Api::load_required() }.map_err(|error| Stop::failed(error.to_string()))?;
        let kind = if gbm.is_some() { PLATFORM_GBM } else { PLATFORM_SURFACELESS };
        let native = gbm.as_ref().map_or(egl::DEFAULT_DISPLAY, gbm::Device::raw);
        // SAFETY: `native` is what the platform asks for: the default display, or a live GBM device,
        // which `Display` keeps until after eglTerminate.
        let raw = unsafe { api.get_platform_display(kind, native, &[egl::ATTRIB_NONE]) }?;
        api.initialize(raw)?;
        api.bind_api(egl::OPENGL_ES_API)?;
        let extensions = api.query_string(Some(raw), egl::EXTENSIONS)?.to_string_lossy().into_owned();
        Ok(Self { api, raw, gbm, extensions })
    }

    /// The surfaceless display.
    pub fn surfaceless() -> Verdict<Self> {
        Self::open(&Platform::Surfaceless)
    }

    /// Whether the display offers an extension.
    pub fn has(&self, extension: &str) -> bool {
        self.extensions.split_ascii_whitespace().any(|name| name == extension)
    }

    /// Skips unless the display offers an extension.
    pub fn require(&self, extension: &str) -> Verdict {
        if self.has(extension) { Ok(()) } else { Err(Stop::skipped(format!("no {extension}"))) }
    }

    /// The GBM device, on the GBM platform.
    pub fn gbm(&self) -> Option<&gbm::Device> {
        self.gbm.as_ref()
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) fn raw(&self) -> egl::Display {
        self.raw
    }

    /// An EGL function by name, null if there is none.
    pub(crate) fn function(&self, name: &str) -> *const c_void {
        self.api.get_proc_address(name).map_or(std::ptr::null(), |function| function as *const c_void)
    }

    /// A context, made current on this thread.
    pub fn context(&self) -> Verdict<Context<'_>> {
        Context::create(self, None)
    }

    /// A window surface on a GBM surface of `format`.
    pub fn window(&self, native: &gbm::Surface, format: u32) -> Verdict<Window<'_>> {
        let wanted =
            [egl::SURFACE_TYPE, egl::WINDOW_BIT, egl::RENDERABLE_TYPE, egl::OPENGL_ES3_BIT, egl::NONE];
        let mut configs = Vec::with_capacity(256);
        self.api.choose_config(self.raw, &wanted, &mut configs)?;
        let visual = |config: &egl::Config| {
            self.api.get_config_attrib(self.raw, *config, egl::NATIVE_VISUAL_ID).map(egl::Int::cast_unsigned)
        };
        let config = configs
            .into_iter()
            .find(|config| visual(config) == Ok(format))
            .ok_or_else(|| Stop::skipped("no window configuration of that format"))?;
        let attributes = [egl::ATTRIB_NONE];
        // SAFETY: the GBM surface is live, and the caller keeps it as long as the window.
        let raw =
            unsafe { self.api.create_platform_window_surface(self.raw, config, native.raw(), &attributes) }?;
        Ok(Window { display: self, raw })
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the process is about to end.
        let _ = self.api.terminate(self.raw);
    }
}

fn open_gbm(path: &Path) -> Verdict<gbm::Device> {
    let node = OpenOptions::new().read(true).write(true).open(path);
    let node = node.map_err(|error| Stop::failed(format!("{}: {error}", path.display())))?;
    gbm::Device::open(node.into())
}

/// A GLES 3 context without a surface of its own.
pub struct Context<'d> {
    display: &'d Display,
    raw: egl::Context,
    gl: Gl,
}

impl<'d> Context<'d> {
    fn create(display: &'d Display, share: Option<egl::Context>) -> Verdict<Self> {
        // SAFETY: EGL_NO_CONFIG_KHR is null; only eglCreateContext sees it.
        let no_config = unsafe { egl::Config::from_ptr(std::ptr::null_mut()) };
        let version = [egl::CONTEXT_MAJOR_VERSION, 3, egl::CONTEXT_MINOR_VERSION, 0, egl::NONE];
        // The API is bound per thread, and this thread may be new.
        display.api.bind_api(egl::OPENGL_ES_API)?;
        let raw = display.api.create_context(display.raw, no_config, share, &version)?;
        display.api.make_current(display.raw, None, None, Some(raw))?;
        let gl = Gl::load(|name| display.function(name));
        Ok(Self { display, raw, gl })
    }

    /// Another context that shares this one's objects, made current.
    pub fn sharing(&self) -> Verdict<Self> {
        Self::create(self.display, Some(self.raw))
    }

    /// A context on another thread may share this one's objects by this token.
    pub fn share_token(&self) -> ShareToken<'d> {
        ShareToken { display: self.display, raw: self.raw }
    }

    /// Makes the context current on this thread.
    pub fn activate(&self) -> Verdict {
        Ok(self.display.api.make_current(self.display.raw, None, None, Some(self.raw))?)
    }

    /// Makes the context current with a window to draw into.
    pub fn activate_on(&self, window: &Window<'_>) -> Verdict {
        let surface = Some(window.raw);
        Ok(self.display.api.make_current(self.display.raw, surface, surface, Some(self.raw))?)
    }

    /// The context's functions; they act on it while it is current.
    pub fn gl(&self) -> &Gl {
        &self.gl
    }

    /// The display.
    pub fn display(&self) -> &'d Display {
        self.display
    }

    pub(crate) fn raw(&self) -> egl::Context {
        self.raw
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        let api = &self.display.api;
        if api.get_current_context() == Some(self.raw) {
            // A context that stays current would outlive its destruction.
            let _ = api.make_current(self.display.raw, None, None, None);
        }
        let _ = api.destroy_context(self.display.raw, self.raw);
    }
}

/// Lets another thread create a context that shares objects.
#[derive(Clone, Copy)]
pub struct ShareToken<'d> {
    display: &'d Display,
    raw: egl::Context,
}

// SAFETY: a context may be named on any thread; it is only made current by its own `Context`.
unsafe impl Send for ShareToken<'_> {}
// SAFETY: as above.
unsafe impl Sync for ShareToken<'_> {}

impl<'d> ShareToken<'d> {
    /// A sharing context, current on the calling thread.
    pub fn context(self) -> Verdict<Context<'d>> {
        Context::create(self.display, Some(self.raw))
    }
}

/// An EGL window surface.
pub struct Window<'d> {
    display: &'d Display,
    raw: egl::Surface,
}

impl Window<'_> {
    /// Hands the drawn picture to the native surface.
    pub fn swap(&self) -> Verdict {
        Ok(self.display.api.swap_buffers(self.display.raw, self.raw)?)
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // EGL keeps the surface until it is no longer current.
        let _ = self.display.api.destroy_surface(self.display.raw, self.raw);
    }
}
