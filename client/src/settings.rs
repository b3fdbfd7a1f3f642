//! Where the daemon is: `VIRGLD_DIR`, read at the first call that could concern us.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use crate::sys;

/// The daemon's runtime directory and what follows from it.
pub(crate) struct Settings {
    /// The directory, without a slash at the end.
    pub(crate) directory: Vec<u8>,
    /// The tree that stands in for parts of /dev and /sys.
    pub(crate) sysroot: Vec<u8>,
}

static SETTINGS: OnceLock<Option<Settings>> = OnceLock::new();

/// The settings; nothing if this program is to be left alone.
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get_or_init(|| std::env::var_os("VIRGLD_DIR").and_then(Settings::new)).as_ref()
}

impl Settings {
    fn new(directory: OsString) -> Option<Self> {
        let mut directory = directory.into_vec();
        while directory.len() > 1 && directory.last() == Some(&b'/') {
            directory.pop();
        }
        // The daemon binds its sockets under an absolute path without links, and that is what the kernel will
        // tell; a relative one would also change its meaning when the program changes its directory.
        let name = CString::new(directory.clone()).ok()?;
        if let Some(real) = sys::real_directory(&name) {
            directory = real;
        }
        let sound = directory.first() == Some(&b'/');
        sound.then(|| Self { sysroot: [&directory, &b"/sysroot"[..]].concat(), directory })
    }

    /// The path of a file of the runtime directory.
    pub(crate) fn file(&self, name: &str) -> Option<CString> {
        CString::new([&self.directory, &b"/"[..], name.as_bytes()].concat()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_directory_counts() {
        assert!(Settings::new("".into()).is_none());
        assert!(Settings::new("no/such/relative".into()).is_none());
        let settings = Settings::new("/no/such/directory//".into()).unwrap();
        assert_eq!(settings.sysroot, b"/no/such/directory/sysroot");
        assert_eq!(settings.file("card0").unwrap().as_bytes(), b"/no/such/directory/card0");
    }
}
