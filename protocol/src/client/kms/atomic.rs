//! ATOMIC: many changes at once, or none.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::layout::{Array, Field, Ioctl, Layout, Wire};
use crate::errno::{Errno, Refusal};

/// ATOMIC. In C two of the four lists are as long as the sum of a third, which no count in the structure says;
/// here `count_changes` says it. Arrays: objects (u32), properties per object (u32), properties (u32), values (u64).
///
/// Two properties have values that mean something only in the program, and the client library deals with them. The
/// value of [`super::IN_FENCE_FD`] is a descriptor: if it is not -1, the fence that it stands for (all of them
/// merged, if there are several) goes with the call as its descriptor, and the value is 0 here. The value of
/// [`super::OUT_FENCE_PTR`] is an address: if it is not 0, the fence given in advance that `fence_out` names is to be
/// signalled when all has happened, the value is 1 here, and the program finds a descriptor at its address.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Atomic {
    /// [`AtomicFlags`].
    pub flags: u32,
    /// How many objects.
    pub count_objs: u32,
    /// How many properties, of all objects together.
    pub count_changes: u32,
    /// Which of the fences given in advance is to be signalled; [`NO_FENCE`] if none.
    pub fence_out: u32,
    /// Must be 0.
    pub reserved: u64,
    /// Comes back in the events.
    pub user_data: u64,
}

/// No fence, in [`Atomic::fence_out`].
pub const NO_FENCE: u32 = u32::MAX;

impl Ioctl for Atomic {
    const TABLE: Layout = Layout {
        size: 56,
        fields: &[Field { from: 0, to: 0, size: 8 }, Field { from: 40, to: 16, size: 16 }],
        arrays: &[
            Array::input(8, 4, 4, 4),
            Array::input(16, 4, 4, 4),
            // The client library counts these.
            Array::input(24, 4, 8, 4),
            Array::input(32, 4, 8, 8),
        ],
        ..whole!(0xbc, "DRM_IOCTL_MODE_ATOMIC")
    };
}

/// One property of one object that is to have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The object.
    pub object: u32,
    /// The property.
    pub property: u32,
    /// The value.
    pub value: u64,
}

impl Wire<'_, Atomic> {
    /// What is to change, in order. Refused if the objects' counts do not add up to `count_changes`. An object
    /// without a property is in no change.
    pub fn changes(&self) -> Result<Vec<Change>, Refusal> {
        let [objects, counts, properties, values] = self.arrays;
        let mut changes = numbers(properties).zip(values.as_chunks::<8>().0);
        let mut all = Vec::with_capacity(properties.len() / size_of::<u32>());
        for (object, count) in numbers(objects).zip(numbers(counts)) {
            for _ in 0..count {
                let (property, value) = changes.next().ok_or(UNEVEN)?;
                all.push(Change { object, property, value: u64::from_le_bytes(*value) });
            }
        }
        if changes.next().is_some() { Err(UNEVEN) } else { Ok(all) }
    }

    /// The objects that are named, with or without properties.
    pub fn objects(&self) -> impl Iterator<Item = u32> + '_ {
        numbers(self.arrays[0])
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number))
}

bitflags::bitflags! {
    /// Flags of ATOMIC.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct AtomicFlags: u32 {
        /// An event for each CRTC when it has happened.
        const PAGE_FLIP_EVENT = 0x1;
        /// At once, torn.
        const PAGE_FLIP_ASYNC = 0x2;
        /// Only say whether it could be done.
        const TEST_ONLY = 0x100;
        /// Do not wait until it is done.
        const NONBLOCK = 0x200;
        /// Modes may change.
        const ALLOW_MODESET = 0x400;
    }
}

const UNEVEN: Refusal =
    Refusal::new(Errno::EINVAL, "the properties per object do not add up to the properties that came");
