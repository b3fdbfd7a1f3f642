//! Mode setting (`drm_mode.h`, and of `drm.h` what belongs to it): a file per family of ioctls.
//!
//! The C structures of a family hold few pointers and many numbers. As everywhere ([`super`]), what travels is the
//! numbers in the order of the structure, then the arrays in the order of their pointers: for the calls that relibc
//! knows (`redox-ioctl/src/drm.rs`) these are its bytes, for the others what its macro would make of them. Two
//! structures cannot be told in that way, and say in their own words how they travel: [`Atomic`], whose lists are
//! as long as the sum of another list, and [`WaitVblank`], which is a union.

/// The table of a structure without pointers.
macro_rules! whole {
    ($number:literal, $name:literal) => {
        Layout::plain($number, $name, size_of::<Self>(), &[Field { from: 0, to: 0, size: size_of::<Self>() }])
    };
}

mod atomic;
mod connector;
mod crtc;
mod cursor;
mod dumb;
mod event;
mod framebuffer;
mod lease;
mod master;
mod mode;
mod object;
mod plane;
mod property;
mod resources;
mod vblank;

pub use atomic::{Atomic, AtomicFlags, Change, NO_FENCE};
pub use connector::{Connection, GetConnector, GetEncoder};
pub use crtc::{GetCrtc, GetGamma, PageFlip, PageFlipFlags, SetCrtc, SetGamma};
pub use cursor::{Cursor, Cursor2, CursorFlags};
pub use dumb::{CreateDumb, DestroyDumb, MapDumb};
pub use event::{EventHead, EventSequence, EventVblank, wants_event};
pub use framebuffer::{
    AddFb, AddFb2, Clip, CloseFb, DirtyFb, DirtyFlags, FramebufferFlags, GetFb, GetFb2, RmFb,
};
pub use lease::{CreateLease, GetLease, ListLessees, RevokeLease};
pub use master::{AuthMagic, DropMaster, SetMaster};
pub use mode::{ModeFlags, ModeInfo, ModeType};
pub use object::ObjectType;
pub use plane::{GetPlane, PlaneType, SetPlane};
pub use property::{
    CreatePropBlob, DestroyPropBlob, FENCE_PROPERTIES, GetPropBlob, GetProperty, IN_FENCE_FD, OUT_FENCE_PTR,
    ObjGetProperties, ObjSetProperty, PropertyEnum, PropertyFlags, SetProperty, name_of,
};
pub use resources::{GetPlaneResources, GetResources};
pub use vblank::{CrtcGetSequence, CrtcQueueSequence, SequenceFlags, VblankFlags, WaitVblank};

pub(super) use self::tables::TABLES;

mod tables {
    use super::super::layout::{Ioctl, Layout};
    use super::*;

    /// Every table of this module.
    pub(in super::super) const TABLES: [Layout; 41] = [
        AuthMagic::TABLE,
        SetMaster::TABLE,
        DropMaster::TABLE,
        WaitVblank::TABLE,
        CrtcGetSequence::TABLE,
        CrtcQueueSequence::TABLE,
        GetResources::TABLE,
        GetCrtc::TABLE,
        SetCrtc::TABLE,
        Cursor::TABLE,
        GetGamma::TABLE,
        SetGamma::TABLE,
        GetEncoder::TABLE,
        GetConnector::TABLE,
        GetProperty::TABLE,
        SetProperty::TABLE,
        GetPropBlob::TABLE,
        GetFb::TABLE,
        AddFb::TABLE,
        RmFb::TABLE,
        PageFlip::TABLE,
        DirtyFb::TABLE,
        CreateDumb::TABLE,
        MapDumb::TABLE,
        DestroyDumb::TABLE,
        GetPlaneResources::TABLE,
        GetPlane::TABLE,
        SetPlane::TABLE,
        AddFb2::TABLE,
        ObjGetProperties::TABLE,
        ObjSetProperty::TABLE,
        Cursor2::TABLE,
        Atomic::TABLE,
        CreatePropBlob::TABLE,
        DestroyPropBlob::TABLE,
        CreateLease::TABLE,
        ListLessees::TABLE,
        GetLease::TABLE,
        RevokeLease::TABLE,
        GetFb2::TABLE,
        CloseFb::TABLE,
    ];
}
