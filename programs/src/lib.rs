//! Ordinary GL programs that know nothing of virgld.
//!
//! They talk EGL and GLES to whatever Mesa is installed, so one binary runs on llvmpipe, on virpipe and
//! on virgld without a change: a difference in what they print is a difference between drivers.

pub mod bench;
pub mod canvas;
pub mod check;
pub mod egl;
pub mod fence;
pub mod gbm;
pub mod gl;
pub mod image;
pub mod pace;
pub mod picture;
pub mod scene;
pub mod share;
pub mod stop;
pub mod udev;
