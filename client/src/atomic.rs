//! ATOMIC: its lists counted, and its fences taken out of the values.
//!
//! The values of two properties mean something in this process alone: a descriptor and an address
//! ([`virgld_protocol::client::kms::Atomic`]). They do not travel.

use std::mem::offset_of;
use std::os::fd::RawFd;
use std::ptr;

use virgld_protocol::channel::{KIND_IOCTL, MAX_RECORD, SERVICE_MERGE};
use virgld_protocol::client::Ioctl;
use virgld_protocol::client::kms::{Atomic, AtomicFlags, IN_FENCE_FD, NO_FENCE, OUT_FENCE_PTR};
use virgld_protocol::errno::Errno;

use crate::channel::Channel;
use crate::errno::Outcome;
use crate::fences::writer_with_fence;
use crate::foreign::check_writable;
use crate::marshal::Argument;
use crate::own::OwnFd;
use crate::sys;

/// Makes the call. Its answer is waited for; the daemon does not keep one that must not wait.
pub(crate) fn commit(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    let changes = count(argument)?;
    argument.set_wire(offset_of!(Atomic, count_changes), changes);
    argument.set_length(PROPERTIES, changes as usize * size_of::<u32>())?;
    argument.set_length(VALUES, changes as usize * size_of::<u64>())?;
    let properties = words(argument, PROPERTIES)?;
    let mut values = words(argument, VALUES)?;
    let fences = take_fences(&properties, &mut values)?;
    let test = argument.wire(offset_of!(Atomic, flags)) & AtomicFlags::TEST_ONLY.bits() != 0;
    // What is only tried signals nothing.
    let fence_out = match fences.out.is_empty() || test {
        true => None,
        false => writer_with_fence(channel).map(|(_, token, fence)| Some((token, fence)))?,
    };
    let token = fence_out.as_ref().map_or(NO_FENCE, |(token, _)| *token);
    argument.set_wire(offset_of!(Atomic, fence_out), token);
    argument.set_array(VALUES, values.as_flattened_mut());
    let fence_in = merge(channel, &fences.within)?;
    channel.call(KIND_IOCTL, Atomic::TABLE.number, &argument.parts()?, fence_in.descriptor().as_slice())?;
    fence_out.map_or(Ok(()), |(_, fence)| hand_out(fence, &fences.out))
}

/// How many properties there are in all.
fn count(argument: &Argument) -> Outcome<u32> {
    // More than a record holds is refused before it is read.
    if argument.length(COUNTS) > MAX_RECORD {
        return Err(Errno::ENOMEM);
    }
    let each = words::<4>(argument, COUNTS)?.into_iter().map(|count| u64::from(u32::from_le_bytes(count)));
    u32::try_from(each.sum::<u64>()).ok().filter(|sum| (*sum as usize) < MAX_RECORD).ok_or(Errno::ENOMEM)
}

/// A list of the program's, copied. How long it is has been looked at.
fn words<const N: usize>(argument: &Argument, index: usize) -> Outcome<Vec<[u8; N]>> {
    let mut words = vec![[0; N]; argument.length(index) / N];
    argument.copy_array(index, 0, words.as_flattened_mut())?;
    Ok(words)
}

/// The fences of a commit, as the program named them.
#[derive(Default)]
struct Fences {
    /// To be waited for.
    within: Vec<RawFd>,
    /// Where the program wants to find descriptors.
    out: Vec<*mut i32>,
}

/// Takes descriptors and addresses out of the values.
fn take_fences(properties: &[[u8; 4]], values: &mut [[u8; 8]]) -> Outcome<Fences> {
    let mut fences = Fences::default();
    for (property, value) in properties.iter().zip(values) {
        match u32::from_le_bytes(*property) {
            IN_FENCE_FD if i64::from_le_bytes(*value) != -1 => {
                let fd = i32::try_from(i64::from_le_bytes(*value)).map_err(|_| Errno::EINVAL)?;
                sys::fstat(fd).map_err(|_| Errno::EINVAL)?;
                fences.within.push(fd);
                *value = 0_u64.to_le_bytes();
            }
            OUT_FENCE_PTR if u64::from_le_bytes(*value) != 0 => {
                let address = usize::from_le_bytes(*value);
                let pointer = ptr::with_exposed_provenance_mut::<i32>(address);
                check_writable(pointer.cast(), size_of::<i32>())?;
                // SAFETY: it can be written, as was looked. Linux says "none" there first.
                unsafe { pointer.write_unaligned(-1) };
                fences.out.push(pointer);
                *value = 1_u64.to_le_bytes();
            }
            _ => {}
        }
    }
    Ok(fences)
}

/// What goes with the call.
enum FenceIn {
    None,
    Of(RawFd),
    Merged(OwnFd),
}

impl FenceIn {
    fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::None => None,
            Self::Of(fd) => Some(*fd),
            Self::Merged(fd) => Some(fd.raw()),
        }
    }
}

/// One fence that signals when all have.
fn merge(channel: &Channel, fences: &[RawFd]) -> Outcome<FenceIn> {
    let mut merged = FenceIn::None;
    for fence in fences {
        merged = match merged.descriptor() {
            None => FenceIn::Of(*fence),
            Some(before) => {
                let mut answer = channel.service(SERVICE_MERGE, &[], &[before, *fence])?;
                FenceIn::Merged(answer.descriptor()?)
            }
        };
    }
    Ok(merged)
}

/// Gives the program a descriptor of `fence` at each address.
fn hand_out(fence: OwnFd, addresses: &[*mut i32]) -> Outcome<()> {
    for address in addresses {
        let fd = sys::duplicate_above(fence.raw(), 0)?;
        // SAFETY: as above.
        unsafe { address.write_unaligned(fd) };
    }
    Ok(())
}

// Places in the table.
const COUNTS: usize = 1;
const PROPERTIES: usize = 2;
const VALUES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(changes: &[(u32, u64)]) -> (Vec<[u8; 4]>, Vec<[u8; 8]>) {
        changes.iter().map(|(property, value)| (property.to_le_bytes(), value.to_le_bytes())).unzip()
    }

    #[test]
    fn descriptors_and_addresses_do_not_travel_and_the_rest_is_left_alone() {
        let mut place = 7_i32;
        let address = (&raw mut place).expose_provenance() as u64;
        let (properties, mut values) = changes(&[
            (5, 99),
            (IN_FENCE_FD, 0),
            (OUT_FENCE_PTR, address),
            (IN_FENCE_FD, u64::MAX),
            (OUT_FENCE_PTR, 0),
        ]);
        let fences = take_fences(&properties, &mut values).unwrap();
        assert_eq!((fences.within, fences.out), (vec![0], vec![&raw mut place]));
        assert_eq!(place, -1);
        let values: Vec<u64> = values.into_iter().map(u64::from_le_bytes).collect();
        assert_eq!(values, [99, 0, 1, u64::MAX, 0]);
    }

    #[test]
    fn what_is_no_descriptor_is_refused() {
        for value in [1 << 20, 1 << 40, u64::MAX - 1] {
            let (properties, mut values) = changes(&[(IN_FENCE_FD, value)]);
            assert_eq!(take_fences(&properties, &mut values).err(), Some(Errno::EINVAL), "{value}");
        }
    }
}
