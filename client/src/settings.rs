//! What the environment says, read at the first call that could concern us: where the daemon is (`VIRGLD_DIR`), and for
//! how many seconds it is waited for when it shows no sign of life (`VIRGLD_PATIENCE`).

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;
use std::time::Duration;

use crate::{patience, sys};

/// The daemon's runtime directory and what follows from it, and how patient we are.
pub(crate) struct Settings {
    /// The directory, without a slash at the end.
    pub(crate) directory: Vec<u8>,
    /// The tree that stands in for parts of /dev and /sys.
    pub(crate) sysroot: Vec<u8>,
    /// For how long a daemon is waited for that shows no sign of life; none: for ever.
    pub(crate) patience: Option<Duration>,
}

static SETTINGS: OnceLock<Option<Settings>> = OnceLock::new();

/// The settings; nothing if this program is to be left alone.
pub(crate) fn settings() -> Option<&'static Settings> {
    let read = || {
        let patience = std::env::var_os("VIRGLD_PATIENCE");
        std::env::var_os("VIRGLD_DIR").and_then(|directory| Settings::new(directory, patience))
    };
    SETTINGS.get_or_init(read).as_ref()
}

impl Settings {
    fn new(directory: OsString, patience: Option<OsString>) -> Option<Self> {
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
        let patience = patience.map_or(Some(patience::DEFAULT), |text| seconds(&text));
        sound.then(|| Self { sysroot: [&directory, &b"/sysroot"[..]].concat(), directory, patience })
    }

    /// The path of a file of the runtime directory.
    pub(crate) fn file(&self, name: &str) -> Option<CString> {
        CString::new([&self.directory, &b"/"[..], name.as_bytes()].concat()).ok()
    }
}

/// A number of seconds; none for 0.
fn seconds(text: &OsString) -> Option<Duration> {
    let Some(seconds) = text.to_str().and_then(|text| text.parse::<u32>().ok()) else {
        let line = format!(
            "virgld: VIRGLD_PATIENCE is {text:?} and no number of seconds: {} is taken\n",
            patience::DEFAULT.as_secs()
        );
        // Whoever closed standard error does not want to know.
        let _ = sys::write(libc::STDERR_FILENO, line.as_bytes());
        return Some(patience::DEFAULT);
    };
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_number_of_seconds() {
        let patience = |text: &str| Settings::new("/no/such".into(), Some(text.into())).unwrap().patience;
        assert_eq!(patience("7"), Some(Duration::from_secs(7)));
        assert_eq!(patience("0"), None);
        for nonsense in ["", "-1", "1.5", "soon", "99999999999"] {
            assert_eq!(patience(nonsense), Some(patience::DEFAULT), "{nonsense:?}");
        }
        assert_eq!(Settings::new("/no/such".into(), None).unwrap().patience, Some(patience::DEFAULT));
    }

    #[test]
    fn only_an_absolute_directory_counts() {
        assert!(Settings::new("".into(), None).is_none());
        assert!(Settings::new("no/such/relative".into(), None).is_none());
        let settings = Settings::new("/no/such/directory//".into(), None).unwrap();
        assert_eq!(settings.sysroot, b"/no/such/directory/sysroot");
        assert_eq!(settings.file("card0").unwrap().as_bytes(), b"/no/such/directory/card0");
    }
}
