//! Why a piece of work ended early.

use std::fmt;
use std::io;

/// What ends a case before its last line.
#[derive(Debug)]
pub enum Stop {
    /// The driver did something wrong.
    Failed(String),
    /// The driver does not offer what the work needs.
    Skipped(String),
}

/// The result of a piece of work that may be skipped.
pub type Verdict<T = ()> = Result<T, Stop>;

impl Stop {
    /// A failure, in words.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }

    /// A reason not to try.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => formatter.write_str(reason),
            Self::Skipped(reason) => write!(formatter, "not offered: {reason}"),
        }
    }
}

impl std::error::Error for Stop {}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<rustix::io::Errno> for Stop {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<khronos_egl::Error> for Stop {
    fn from(error: khronos_egl::Error) -> Self {
        Self::Failed(format!("EGL: {error}"))
    }
}

/// Fails with the words of `reason` unless `condition` holds.
pub fn ensure(condition: bool, reason: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(Stop::Failed(reason())) }
}
