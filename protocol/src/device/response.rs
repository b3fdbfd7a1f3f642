//! What the device answers, and how a word of its own becomes an error number.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Code, MAX_SCANOUTS};
use crate::errno::Errno;
use crate::message::ctrlq::Rectangle;

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

/// The displays.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OkDisplayInfo {
    /// One for each scanout that there could be.
    pub displays: [DisplayOne; MAX_SCANOUTS],
}

/// One display.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DisplayOne {
    /// Where it is and how large.
    pub rectangle: Rectangle,
    /// Whether there is one.
    pub enabled: u32,
    /// Zero.
    pub flags: u32,
}

impl Response for OkDisplayInfo {
    const CODE: Code = Code::OK_DISPLAY_INFO;
}

/// An EDID.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OkEdid {
    /// How many bytes are meant.
    pub size: u32,
    /// Zero.
    pub padding: u32,
    /// The bytes.
    pub edid: [u8; 1024],
}

impl Response for OkEdid {
    const CODE: Code = Code::OK_EDID;
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
