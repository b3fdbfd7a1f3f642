//! How one ioctl's argument turns into bytes and back: a table per ioctl that both ends read.

use virgld_runtime::lent::Lent;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Refusal};

/// The largest fixed part of any ioctl in bytes.
pub const MAX_FIXED: usize = 128;

/// The most arrays of any ioctl.
pub const MAX_ARRAYS: usize = 4;

/// A run of bytes of the C structure that goes into the fixed part of the wire form.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Offset in the C structure.
    pub from: usize,
    /// Offset on the wire.
    pub to: usize,
    /// Bytes.
    pub size: usize,
}

/// Which way an array's contents matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client only; not in the answer on grounds where the answer need not mirror the request.
    In,
    /// To the client; what the client's memory held travels too, so that an answer may leave it as it was.
    Out,
    /// Nobody looks at it, though structure and wire have a place for it; a Linux client sends none.
    Unused,
}

/// An array that a pointer in the C structure names.
#[derive(Debug, Clone, Copy)]
pub struct Array {
    /// Offset of the pointer in the C structure; it is 8 bytes wide.
    pub pointer: usize,
    /// Offset of the element count in the C structure.
    pub count: usize,
    /// Offset of the element count on the wire.
    pub wire_count: usize,
    /// Width of the count in bytes, 4 or 8.
    pub count_size: usize,
    /// Bytes per element.
    pub element: usize,
    /// Which way it goes.
    pub direction: Direction,
}

impl Array {
    /// An array from the client with a 32-bit count: offsets of pointer and count in C, offset of the count on the
    /// wire, bytes per element.
    pub const fn input(pointer: usize, count: usize, wire_count: usize, element: usize) -> Self {
        Self { pointer, count, wire_count, count_size: 4, element, direction: Direction::In }
    }

    /// The same to the client.
    pub const fn out(pointer: usize, count: usize, wire_count: usize, element: usize) -> Self {
        Self { direction: Direction::Out, ..Self::input(pointer, count, wire_count, element) }
    }

    /// The same that nobody looks at.
    pub const fn unused(pointer: usize, count: usize, wire_count: usize, element: usize) -> Self {
        Self { direction: Direction::Unused, ..Self::input(pointer, count, wire_count, element) }
    }
}

/// Everything needed to carry one ioctl.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The ioctl number.
    pub number: u8,
    /// As in the uapi headers.
    pub name: &'static str,
    /// Bytes of the newest C structure.
    pub size: usize,
    /// Bytes of the fixed part on the wire.
    pub wire: usize,
    /// The fields.
    pub fields: &'static [Field],
    /// The arrays, in wire order.
    pub arrays: &'static [Array],
    /// Offset in the C structure of a user pointer to 4 bytes that the answer is written through (GETPARAM);
    /// on the wire its 8 bytes carry the value itself.
    pub indirect: Option<usize>,
    /// Offset in the C structure of a file descriptor that goes with the call. It is -1 on the wire.
    pub fd_in: Option<usize>,
    /// Offset in the C structure where a descriptor that comes with the answer is stored.
    pub fd_out: Option<usize>,
    /// Which array is bulk: copied once, straight into memory of the device.
    pub bulk: Option<usize>,
}

impl Layout {
    /// A structure without pointers: it travels as it is.
    pub const fn plain(number: u8, name: &'static str, size: usize, whole: &'static [Field; 1]) -> Self {
        Self {
            number,
            name,
            size,
            wire: size,
            fields: whole,
            arrays: &[],
            indirect: None,
            fd_in: None,
            fd_out: None,
            bulk: None,
        }
    }

    /// Bytes of each array of a call whose fixed part is `fixed`; none where counts overflow.
    pub fn array_sizes(&self, fixed: &[u8]) -> Option<[usize; MAX_ARRAYS]> {
        let mut sizes = [0; MAX_ARRAYS];
        for (size, array) in sizes.iter_mut().zip(self.arrays) {
            let bytes = fixed.get(array.wire_count..array.wire_count + array.count_size)?;
            let count = match *bytes {
                [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                _ => return None,
            };
            *size = usize::try_from(count).ok()?.checked_mul(array.element)?;
        }
        Some(sizes)
    }
}

/// An ioctl: its fixed part on the wire as a type, and its table.
pub trait Ioctl: FromBytes + IntoBytes + KnownLayout + Immutable + Sized {
    /// The table.
    const TABLE: Layout;
}

/// One ioctl as a door received it: the fixed part and the arrays, but for the bulk array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The ioctl number.
    pub number: u8,
    /// Fixed part and arrays in wire order; without the bulk array.
    pub bytes: Lent,
}

/// A call taken apart.
#[derive(Debug)]
pub struct Wire<'a, T> {
    /// The fixed part.
    pub fixed: T,
    /// The arrays; the bulk one is empty here.
    pub arrays: [&'a [u8]; MAX_ARRAYS],
}

impl Call {
    /// Takes the call apart as `T`. Its bytes must be exactly as many as its counts say.
    pub fn parse<T: Ioctl>(&self) -> Result<Wire<'_, T>, Refusal> {
        const SHORT: Refusal = Refusal::new(Errno::EINVAL, "the call is shorter than its counts say");
        const LONG: Refusal = Refusal::new(Errno::EINVAL, "the call is longer than its counts say");
        let layout = &T::TABLE;
        let (head, mut rest) = self.bytes.split_at_checked(layout.wire).ok_or(SHORT)?;
        let fixed = T::read_from_bytes(head).map_err(|_| SHORT)?;
        let sizes = layout.array_sizes(head).ok_or(SHORT)?;
        let mut arrays: [&[u8]; MAX_ARRAYS] = [&[]; MAX_ARRAYS];
        for (index, _) in layout.arrays.iter().enumerate() {
            if layout.bulk == Some(index) {
                continue;
            }
            let (array, tail) = rest.split_at_checked(sizes[index]).ok_or(SHORT)?;
            arrays[index] = array;
            rest = tail;
        }
        if rest.is_empty() { Ok(Wire { fixed, arrays }) } else { Err(LONG) }
    }
}

/// An answer: the fixed part with what changed, and the outgoing arrays. An array that is shorter than what
/// the client has room for leaves the rest of the client's memory as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The fixed part; empty if nothing in it changed.
    pub fixed: Vec<u8>,
    /// The outgoing arrays in the order of the table, only those that are `Out`.
    pub arrays: Vec<Vec<u8>>,
}

impl Reply {
    /// Success with nothing to say.
    pub fn empty() -> Self {
        Self::default()
    }

    /// An answer in the fixed part alone.
    pub fn fixed<T: Ioctl>(fixed: &T) -> Self {
        Self { fixed: fixed.as_bytes().to_vec(), arrays: Vec::new() }
    }

    /// Adds the next outgoing array.
    #[must_use]
    pub fn with(mut self, array: impl Into<Vec<u8>>) -> Self {
        self.arrays.push(array.into());
        self
    }
}

/// Whether the ioctl with this number has a place in its file's order of asynchronous work, and is reported when
/// that has retired: EXECBUFFER and the transfers.
pub fn is_asynchronous(number: u8) -> bool {
    let numbers = [
        super::Execbuffer::TABLE.number,
        super::TransferToHost::TABLE.number,
        super::TransferFromHost::TABLE.number,
    ];
    numbers.contains(&number)
}

/// The table of the ioctl with this number, if it is served at all.
pub fn layout_of(number: u8) -> Option<&'static Layout> {
    ALL.iter().chain(MODE_SETTING).find(|layout| layout.number == number)
}

/// Every ioctl of mode setting that has a table.
static MODE_SETTING: &[Layout] = &super::kms::TABLES;

/// Every other ioctl that has a table.
static ALL: &[Layout] = &[
    super::Version::TABLE,
    super::GetUnique::TABLE,
    super::SetVersion::TABLE,
    super::GemClose::TABLE,
    super::GemFlink::TABLE,
    super::GemOpen::TABLE,
    super::GetCap::TABLE,
    super::SetClientCap::TABLE,
    super::GetMagic::TABLE,
    super::PrimeHandleToFd::TABLE,
    super::PrimeFdToHandle::TABLE,
    super::Map::TABLE,
    super::Execbuffer::TABLE,
    super::Getparam::TABLE,
    super::ResourceCreate::TABLE,
    super::ResourceInfo::TABLE,
    super::TransferFromHost::TABLE,
    super::TransferToHost::TABLE,
    super::Wait::TABLE,
    super::GetCaps::TABLE,
    super::ResourceCreateBlob::TABLE,
    super::ContextInit::TABLE,
    super::SyncobjCreate::TABLE,
    super::SyncobjDestroy::TABLE,
    super::SyncobjHandleToFd::TABLE,
    super::SyncobjFdToHandle::TABLE,
    super::SyncobjWait::TABLE,
    super::SyncobjReset::TABLE,
    super::SyncobjSignal::TABLE,
    super::SyncobjTimelineWait::TABLE,
    super::SyncobjQuery::TABLE,
    super::SyncobjTransfer::TABLE,
    super::SyncobjTimelineSignal::TABLE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sound() {
        for layout in ALL.iter().chain(MODE_SETTING) {
            assert!(layout.wire <= MAX_FIXED && layout.size <= MAX_FIXED, "{}", layout.name);
            assert!(layout.arrays.len() <= MAX_ARRAYS, "{}", layout.name);
            let copied: usize = layout.fields.iter().map(|field| field.size).sum();
            assert!(copied <= layout.wire, "{}", layout.name);
            for field in layout.fields {
                assert!(field.from + field.size <= layout.size, "{}", layout.name);
                assert!(field.to + field.size <= layout.wire, "{}", layout.name);
            }
            for array in layout.arrays {
                assert!(array.pointer + 8 <= layout.size, "{}", layout.name);
                assert!(array.wire_count + array.count_size <= layout.wire, "{}", layout.name);
            }
            assert_eq!(layout_of(layout.number).map(|found| found.name), Some(layout.name));
        }
    }
}
