//! The functions that stand before glibc's, by family. Each asks whether a path or descriptor is ours and passes
//! on what isn't.
//!
//! glibc's own calls among themselves cannot be interposed (its `fopen` does not call our `open`), so every public
//! name has a wrapper. `open` and `ioctl` are variadic in C; a fixed third argument is passed alike on the 64-bit
//! Linux ABIs.

mod directories;
mod links;
mod memory;
mod next;
mod open;
mod poll;
mod read;
mod status;
mod udev;

use std::ffi::{CStr, CString, c_char, c_int};

use crate::nodes::Node;
use crate::paths::{self, Meaning};
use crate::settings::settings;
use crate::sys;

/// What the program's path means.
enum Target {
    /// A DRM node, and the path of its stand-in.
    Node(Node, CString),
    /// A file in the daemon's tree.
    StandIn(CString),
    /// None of ours: pass the call on.
    Other,
}

impl Target {
    /// The path to use in place of the program's.
    fn path(&self) -> Option<&CStr> {
        match self {
            Self::Node(_, path) | Self::StandIn(path) => Some(path),
            Self::Other => None,
        }
    }
}

/// What `path`, relative to `directory`, means.
///
/// # Safety
///
/// `path` is null or a C string.
unsafe fn target(directory: c_int, path: *const c_char) -> Target {
    let Some(settings) = settings().filter(|_| !path.is_null()) else { return Target::Other };
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let meaning = match path.first() {
        Some(b'/') => paths::meaning(path, &settings.sysroot),
        // An open directory of the daemon's tree, where the nodes are no plain files, or one that leads to it.
        _ if path == b"card0" || path == b"renderD128" || paths::may_be_ours(path) => {
            let here =
                if directory == libc::AT_FDCWD { working_directory() } else { sys::path_of(directory) };
            let Some(here) = here else { return Target::Other };
            let here = paths::without_sysroot(&here, &settings.sysroot).unwrap_or(&here);
            paths::meaning(&[here, b"/", path].concat(), &settings.sysroot)
        }
        _ => Meaning::Other,
    };
    match meaning {
        Meaning::Node(node, path) => {
            CString::new(path).map_or(Target::Other, |path| Target::Node(node, path))
        }
        Meaning::StandIn(path) => CString::new(path).map_or(Target::Other, Target::StandIn),
        Meaning::Other => Target::Other,
    }
}

fn working_directory() -> Option<Vec<u8>> {
    let mut bytes = vec![0_u8; 4096];
    // SAFETY: the name is a C string, the room is ours.
    let length = unsafe {
        sys::readlinkat(libc::AT_FDCWD, c"/proc/self/cwd".as_ptr(), bytes.as_mut_ptr().cast(), bytes.len())
    };
    bytes.truncate(usize::try_from(length).ok()?);
    Some(bytes)
}
