//! `libvirgld_drm.so`: put before an unmodified program by `LD_PRELOAD`, it carries the program's DRM calls to
//! virgld.
//!
//! A DRM file is a connection to the daemon, so polling, passing on, duplicating and closing it is the kernel's
//! affair and needs nothing here. What is left is: opening the nodes and the files that describe them
//! (`paths`, `nodes`), `ioctl` (`drm`, `fence`), `mmap` (`map`) and the edges of `read` (`event`). Without `VIRGLD_DIR` every call goes
//! straight through.
//!
//! Everything here runs inside somebody else's program: it does not panic into it, does not rely on having been
//! initialised, keeps `errno` on success, and calls the kernel itself where its own wrappers would answer. A call
//! from a signal handler that interrupted another on the same DRM file is not supported (it isn't by libdrm).
#![cfg(target_os = "linux")]
#![cfg(all(target_pointer_width = "64", target_endian = "little"))]

mod atomic;
mod channel;
mod create;
mod drm;
mod errno;
mod event;
mod execbuffer;
mod fence;
mod fences;
mod foreign;
mod handles;
mod hotplug;
mod interpose;
mod map;
mod marshal;
mod memory;
mod nodes;
mod own;
mod paths;
mod patience;
mod process;
mod remembered;
mod ring;
mod settings;
mod share;
mod slots;
mod socket;
mod stock;
mod sys;
