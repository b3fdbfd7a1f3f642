//! What a program reads from the file: events, 32 bytes each.

use std::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Call, Ioctl};
use super::{Atomic, AtomicFlags, CrtcQueueSequence, PageFlip, PageFlipFlags, VblankFlags, WaitVblank};

/// Heads every event (`struct drm_event`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EventHead {
    /// One of the constants; `type` in C.
    pub kind: u32,
    /// Bytes, with this head.
    pub length: u32,
}

impl EventHead {
    /// `DRM_EVENT_VBLANK`: WAIT_VBLANK with EVENT; an [`EventVblank`].
    pub const VBLANK: u32 = 1;
    /// `DRM_EVENT_FLIP_COMPLETE`: PAGE_FLIP or ATOMIC with EVENT; an [`EventVblank`].
    pub const FLIP_COMPLETE: u32 = 2;
    /// `DRM_EVENT_CRTC_SEQUENCE`: CRTC_QUEUE_SEQUENCE; an [`EventSequence`].
    pub const CRTC_SEQUENCE: u32 = 3;
}

/// A refresh or a flip has happened (`struct drm_event_vblank`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EventVblank {
    /// [`EventHead::VBLANK`] or [`EventHead::FLIP_COMPLETE`].
    pub head: EventHead,
    /// What the call brought.
    pub user_data: u64,
    /// Seconds of CLOCK_MONOTONIC.
    pub tv_sec: u32,
    /// Microseconds.
    pub tv_usec: u32,
    /// Which refresh.
    pub sequence: u32,
    /// The CRTC.
    pub crtc_id: u32,
}

impl EventVblank {
    /// An event of this kind: its head says the length.
    pub const fn of(kind: u32) -> Self {
        let head = EventHead { kind, length: LENGTH };
        Self { head, user_data: 0, tv_sec: 0, tv_usec: 0, sequence: 0, crtc_id: 0 }
    }
}

/// A refresh has begun (`struct drm_event_crtc_sequence`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EventSequence {
    /// [`EventHead::CRTC_SEQUENCE`].
    pub head: EventHead,
    /// What the call brought.
    pub user_data: u64,
    /// When, of CLOCK_MONOTONIC.
    pub time_ns: i64,
    /// Which refresh.
    pub sequence: u64,
}

impl EventSequence {
    /// An empty event: its head says the length.
    pub const EMPTY: Self = Self {
        head: EventHead { kind: EventHead::CRTC_SEQUENCE, length: LENGTH },
        user_data: 0,
        time_ns: 0,
        sequence: 0,
    };
}

/// Whether a call asks for an event, to be read later. Counts of bytes are as in its table.
pub fn wants_event(call: &Call) -> bool {
    let flags = |offset: usize| {
        let bytes = call.bytes.get(offset..offset + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    const FLIP: u8 = PageFlip::TABLE.number;
    const ATOMIC: u8 = Atomic::TABLE.number;
    const WAIT: u8 = WaitVblank::TABLE.number;
    const QUEUE: u8 = CrtcQueueSequence::TABLE.number;
    match call.number {
        FLIP => flags(offset_of!(PageFlip, flags)) & PageFlipFlags::EVENT.bits() != 0,
        ATOMIC => flags(offset_of!(Atomic, flags)) & AtomicFlags::PAGE_FLIP_EVENT.bits() != 0,
        WAIT => flags(offset_of!(WaitVblank, flags)) & VblankFlags::EVENT.bits() != 0,
        QUEUE => true,
        _ => false,
    }
}

const LENGTH: u32 = 32;
const _: () = assert!(size_of::<EventVblank>() == 32 && size_of::<EventSequence>() == 32);
