//! Error numbers as Linux and Redox share them.

use std::fmt;

/// An error number, positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($value);)*

            /// The symbol, for messages.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($value => stringify!($name),)*
                    _ => "unknown errno",
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such object.";
    EINTR = 4, "Interrupted.";
    EIO = 5, "Input or output error.";
    ENXIO = 6, "No such address on the device.";
    E2BIG = 7, "Too much at once.";
    EBADF = 9, "Bad file descriptor.";
    EAGAIN = 11, "Nothing there yet; try again.";
    ENOMEM = 12, "Out of memory, or over a quota.";
    EACCES = 13, "Permission denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Busy.";
    EEXIST = 17, "Exists already.";
    ENODEV = 19, "No such device.";
    EINVAL = 22, "Invalid argument.";
    EMFILE = 24, "Too many descriptors.";
    ENOTTY = 25, "No such ioctl here.";
    ENOSPC = 28, "No space left.";
    ERANGE = 34, "Out of range.";
    ENOSYS = 38, "Not implemented by this device.";
    ETIME = 62, "Timer expired.";
    EOPNOTSUPP = 95, "Not supported.";
    ETIMEDOUT = 110, "Timed out.";
    ECANCELED = 125, "Cancelled.";
}

impl fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}({})", self.name(), self.0)
    }
}

/// A client's request that is refused: the client erred, or may not. Nobody else is touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{errno:?}: {why}")]
pub struct Refusal {
    /// What the client is told.
    pub errno: Errno,
    /// What the trace is told.
    pub why: &'static str,
}

impl Refusal {
    /// A refusal.
    pub const fn new(errno: Errno, why: &'static str) -> Self {
        Self { errno, why }
    }
}
