//! What the device answers, and how a word of its own becomes an error number.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Code;
use crate::errno::Errno;

/// The part of an answer behind its header.
pub trait Response: FromBytes + Immutable + KnownLayout {
    /// The code of success.
    const CODE: Code;
}

/// Success.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OkNoData {}

impl Response for OkNoData {
    const CODE: Code = Code::OK_NO_DATA;
}

/// A capability set's description.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OkCapsetInfo {
    /// Its number.
    pub capset_id: u32,
    /// Its newest version.
    pub capset_max_version: u32,
    /// Its size in bytes.
    pub capset_max_size: u32,
    /// Zero.
    pub padding: u32,
}

impl Response for OkCapsetInfo {
    const CODE: Code = Code::OK_CAPSET_INFO;
}

/// A capability set; its bytes follow.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OkCapset {}

impl Response for OkCapset {
    const CODE: Code = Code::OK_CAPSET;
}

/// The error number for an answer that is not the success that was expected.
pub fn errno_of(code: Code) -> Errno {
    match code {
        Code::ERR_OUT_OF_MEMORY => Errno::ENOMEM,
        Code::ERR_INVALID_SCANOUT | Code::ERR_INVALID_PARAMETER => Errno::EINVAL,
        Code::ERR_INVALID_RESOURCE | Code::ERR_INVALID_CONTEXT => Errno::ENOENT,
        _ => Errno::EIO,
    }
}
