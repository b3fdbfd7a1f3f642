//! Refreshes: waiting for them and counting them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Field, Ioctl, Layout};

/// WAIT_VBLANK: a union in C. What is asked has two words and a `signal` where the answer has seconds.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WaitVblank {
    /// [`VblankFlags`]; `type` in C.
    pub flags: u32,
    /// In: which refresh; out: which it was.
    pub sequence: u32,
    /// In: comes back in the event; out: seconds of CLOCK_MONOTONIC.
    pub signal_or_seconds: u64,
    /// Out: microseconds.
    pub microseconds: i64,
}

impl Ioctl for WaitVblank {
    const TABLE: Layout = whole!(0x3a, "DRM_IOCTL_WAIT_VBLANK");
}

bitflags::bitflags! {
    /// `_DRM_VBLANK_*`. Without RELATIVE, `sequence` is absolute.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct VblankFlags: u32 {
        /// `sequence` refreshes from now.
        const RELATIVE = 1;
        /// The number of the CRTC (its place in GETRESOURCES).
        const HIGH_CRTC = 0x3e;
        /// Do not wait; send an event.
        const EVENT = 0x400_0000;
        /// No meaning any more.
        const FLIP = 0x800_0000;
        /// If it is over, the next one.
        const NEXT_ON_MISS = 0x1000_0000;
        /// The second CRTC, before HIGH_CRTC came to be.
        const SECONDARY = 0x2000_0000;
        /// Send a signal; never served.
        const SIGNAL = 0x4000_0000;
    }
}

impl VblankFlags {
    /// How far the CRTC's number is shifted in HIGH_CRTC.
    pub const HIGH_CRTC_SHIFT: u32 = 1;
}

/// CRTC_GET_SEQUENCE: how many refreshes there have been.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CrtcGetSequence {
    /// The CRTC.
    pub crtc_id: u32,
    /// Out: whether it is on.
    pub active: u32,
    /// Out: the last refresh.
    pub sequence: u64,
    /// Out: when it was, of CLOCK_MONOTONIC.
    pub sequence_ns: i64,
}

impl Ioctl for CrtcGetSequence {
    const TABLE: Layout = whole!(0x3b, "DRM_IOCTL_CRTC_GET_SEQUENCE");
}

/// CRTC_QUEUE_SEQUENCE: an event at a refresh.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CrtcQueueSequence {
    /// The CRTC.
    pub crtc_id: u32,
    /// [`SequenceFlags`].
    pub flags: u32,
    /// In: which refresh; out: which it will be.
    pub sequence: u64,
    /// Comes back in the event.
    pub user_data: u64,
}

impl Ioctl for CrtcQueueSequence {
    const TABLE: Layout = whole!(0x3c, "DRM_IOCTL_CRTC_QUEUE_SEQUENCE");
}

bitflags::bitflags! {
    /// `DRM_CRTC_SEQUENCE_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SequenceFlags: u32 {
        /// `sequence` refreshes from now.
        const RELATIVE = 1;
        /// If it is over, the next one.
        const NEXT_ON_MISS = 2;
    }
}
