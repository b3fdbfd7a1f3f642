//! A C structure of the program, as bytes on the wire and back, by the table of its ioctl.

use std::ptr;

use virgld_protocol::channel::{ANSWER_BYTES, Answer, MAX_RECORD};
use virgld_protocol::client::{Array, Direction, Layout, MAX_ARRAYS, MAX_FIXED};
use virgld_protocol::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use crate::channel::Answered;
use crate::errno::Outcome;
use crate::foreign::{Frame, check_readable, check_writable};
use crate::ring::Part;

/// Stands for arrays that are only for the answer.
static NOTHING: [u8; ANSWER_BYTES] = [0; ANSWER_BYTES];

/// The most parts that a call has: the fixed part and the arrays.
pub(crate) const MAX_PARTS: usize = 1 + MAX_ARRAYS;

/// An ioctl's argument, copied from the program once.
pub(crate) struct Argument {
    layout: &'static Layout,
    address: *mut u8,
    /// Bytes that the program's structure has and the table knows.
    size: usize,
    shape: Shape,
    /// Whether it is known that the structure can be written.
    writable: bool,
    raw: [u8; MAX_FIXED],
    fixed: [u8; MAX_FIXED],
    arrays: [Bytes; MAX_ARRAYS],
}

/// What a request says of its structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How many bytes it has.
    pub(crate) size: usize,
    /// Whether the program has filled it in.
    pub(crate) goes: bool,
    /// Whether the program wants it back.
    pub(crate) returns: bool,
    /// Where on the stack the call came in: most structures lie near.
    pub(crate) frame: Frame,
}

/// An array: the program's, until it is replaced by one of ours.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    start: *mut u8,
    length: usize,
    own: bool,
}

impl Bytes {
    const NONE: Self = Self { start: ptr::null_mut(), length: 0, own: false };
}

impl Argument {
    /// Takes the argument at `address`. EFAULT if it is not there.
    ///
    /// # Safety
    ///
    /// No other thread of the program unmaps it meanwhile, nor what it points to.
    pub(crate) unsafe fn take(layout: &'static Layout, address: *mut u8, shape: Shape) -> Outcome<Self> {
        let size = shape.size.min(layout.size);
        let near = shape.frame.holds(address, size);
        if shape.goes && !near {
            check_readable(address, size)?;
        }
        let mut raw = [0; MAX_FIXED];
        if shape.goes && size > 0 {
            // SAFETY: it is there, as was looked; `size` is no more than the table's, which fits `raw`.
            unsafe { ptr::copy(address, raw.as_mut_ptr(), size) };
        }
        let (fixed, arrays) = ([0; MAX_FIXED], [Bytes::NONE; MAX_ARRAYS]);
        let mut argument = Self { layout, address, size, shape, writable: near, raw, fixed, arrays };
        argument.fill_fixed();
        argument.find_arrays()?;
        Ok(argument)
    }

    /// EFAULT if the structure cannot be written though the program wants it back. A call that changes something is not to
    /// find that out when it is done.
    pub(crate) fn check_return(&mut self) -> Outcome<()> {
        if self.shape.returns && !self.writable {
            check_writable(self.address, self.size)?;
            self.writable = true;
        }
        Ok(())
    }

    /// The 32-bit field at `offset` of the C structure.
    pub(crate) fn field(&self, offset: usize) -> u32 {
        u32::from_le_bytes([
            self.raw[offset],
            self.raw[offset + 1],
            self.raw[offset + 2],
            self.raw[offset + 3],
        ])
    }

    /// The descriptor at `offset` of the C structure.
    pub(crate) fn descriptor(&self, offset: usize) -> i32 {
        self.field(offset).cast_signed()
    }

    /// Sets the 32-bit field at `offset` of the fixed part on the wire.
    pub(crate) fn set_wire(&mut self, offset: usize, value: u32) {
        self.fixed[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Sets the 64-bit field at `offset` of the fixed part on the wire.
    pub(crate) fn set_wire_64(&mut self, offset: usize, value: u64) {
        self.fixed[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// How many bytes the array with this index of the table has.
    pub(crate) fn length(&self, index: usize) -> usize {
        self.arrays[index].length
    }

    /// Copies bytes from the program's memory, `offset` bytes behind the beginning of an array.
    pub(crate) fn copy_array(&self, index: usize, offset: usize, into: &mut [u8]) -> Outcome<()> {
        let from = self.arrays[index].start.wrapping_add(offset);
        check_readable(from, into.len())?;
        // SAFETY: they are there, as was looked.
        unsafe { ptr::copy(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Replaces an array by bytes of our own, which must be there when the parts are used.
    pub(crate) fn set_array(&mut self, index: usize, bytes: &mut [u8]) {
        self.arrays[index] = Bytes { start: bytes.as_mut_ptr(), length: bytes.len(), own: true };
    }

    /// Says how long an array of the program's is whose length no count in its structure tells.
    pub(crate) fn set_length(&mut self, index: usize, length: usize) -> Outcome<()> {
        let start = self.pointer(self.layout.arrays[index].pointer);
        if start.is_null() && length > 0 {
            return Err(Errno::EFAULT);
        }
        self.arrays[index] = Bytes { start, length, own: false };
        self.fit()
    }

    /// The payload: the fixed part, then the arrays. It borrows from this argument without saying so. EFAULT if an array
    /// is not there.
    pub(crate) fn parts(&self) -> Outcome<[Part; MAX_PARTS]> {
        let mut parts = [Part::EMPTY; MAX_PARTS];
        parts[0] = Part::own(&self.fixed[..self.layout.wire]);
        for ((part, bytes), array) in parts[1..].iter_mut().zip(self.arrays).zip(self.layout.arrays) {
            let Bytes { start, length, own } = bytes;
            *part = match array.direction {
                Direction::In => {
                    if !own {
                        check_readable(start, length)?;
                    }
                    // SAFETY: they are there, as was looked, and the ioctl is not over; or they are ours.
                    unsafe { Part::foreign(start, length) }
                }
                // Kernels do not read what is only for the answer, nor write more of it than they have to say: a
                // program may have told of more room than there is.
                Direction::Out | Direction::Unused => Part::own(&NOTHING[..length]),
            };
        }
        Ok(parts)
    }

    /// Puts an answer into the program's memory. `descriptor` is what goes where the table says that one comes.
    pub(crate) fn put(&mut self, answer: &Answered<'_>, descriptor: Option<i32>) -> Outcome<()> {
        let mut head = Answer::new_zeroed();
        answer.read(0, head.as_mut_bytes())?;
        if head.fixed as usize == self.layout.wire {
            let wire = self.layout.wire;
            answer.read(size_of::<Answer>(), &mut self.fixed[..wire])?;
            self.take_fixed()?;
        } else if head.fixed != 0 {
            return Err(Errno::EIO);
        }
        if let (Some(offset), Some(descriptor)) = (self.layout.fd_out, descriptor) {
            self.raw[offset..offset + 4].copy_from_slice(&descriptor.to_le_bytes());
        }
        if head.fixed != 0 || descriptor.is_some() {
            self.put_raw()?;
        }
        let mut at = size_of::<Answer>() + head.fixed as usize;
        for (array, bytes) in self.arrays.iter().zip(head.arrays) {
            let length = (bytes as usize).min(array.length);
            check_writable(array.start, length)?;
            // SAFETY: there is room, as was looked.
            unsafe { answer.read_foreign(at, array.start, length)? };
            at += bytes as usize;
        }
        Ok(())
    }

    /// Puts one 32-bit field of the C structure into the program's memory, if its structure has it. That it can be written
    /// must have been looked at.
    pub(crate) fn put_field(&mut self, offset: usize, value: u32) {
        if self.shape.returns && self.writable && offset + 4 <= self.size {
            // SAFETY: inside the structure, which can be written.
            unsafe { ptr::copy(value.to_le_bytes().as_ptr(), self.address.add(offset), 4) };
        }
    }

    /// Puts the fixed part on the wire, as it is, into the program's memory: the answer is known.
    pub(crate) fn put_fixed(&mut self) -> Outcome<()> {
        self.take_fixed()?;
        self.put_raw()
    }

    fn put_raw(&mut self) -> Outcome<()> {
        if self.shape.returns && self.size > 0 {
            self.check_return()?;
            // SAFETY: it can be written, as was looked.
            unsafe { ptr::copy(self.raw.as_ptr(), self.address, self.size) };
        }
        Ok(())
    }

    /// The fixed part on the wire.
    pub(crate) fn fixed(&self) -> &[u8] {
        &self.fixed[..self.layout.wire]
    }

    /// The 32-bit word at `offset` of the fixed part on the wire.
    pub(crate) fn wire(&self, offset: usize) -> u32 {
        u32::from_le_bytes([
            self.fixed[offset],
            self.fixed[offset + 1],
            self.fixed[offset + 2],
            self.fixed[offset + 3],
        ])
    }

    fn fill_fixed(&mut self) {
        for field in self.layout.fields {
            self.fixed[field.to..field.to + field.size]
                .copy_from_slice(&self.raw[field.from..field.from + field.size]);
        }
        if let Some(at) = self.layout.indirect.and_then(|offset| self.wire_offset(offset)) {
            self.fixed[at..at + 8].fill(0);
        }
        if let Some(at) = self.layout.fd_in.and_then(|offset| self.wire_offset(offset)) {
            self.fixed[at..at + 4].fill(0xff);
        }
    }

    /// The way back of [`Argument::fill_fixed`], but for what is the program's own.
    fn take_fixed(&mut self) -> Outcome<()> {
        let before = self.raw;
        for field in self.layout.fields {
            self.raw[field.from..field.from + field.size]
                .copy_from_slice(&self.fixed[field.to..field.to + field.size]);
        }
        if let Some(offset) = self.layout.indirect {
            let value: [u8; 4] = std::array::from_fn(|index| self.raw[offset + index]);
            self.raw[offset..offset + 8].copy_from_slice(&before[offset..offset + 8]);
            let target = self.pointer(offset);
            check_writable(target, value.len())?;
            // SAFETY: it can be written, as was looked.
            unsafe { ptr::copy(value.as_ptr(), target, value.len()) };
        }
        if let Some(offset) = self.layout.fd_in {
            self.raw[offset..offset + 4].copy_from_slice(&before[offset..offset + 4]);
        }
        Ok(())
    }

    fn find_arrays(&mut self) -> Outcome<()> {
        for array in self.layout.arrays {
            // Kernels answer without an array that has no room, and do not look at what is unused. Before any
            // length is taken: arrays can share a count.
            let absent = match array.direction {
                Direction::In => false,
                Direction::Out => self.pointer(array.pointer).is_null(),
                Direction::Unused => true,
            };
            let count = &mut self.fixed[array.wire_count..array.wire_count + array.count_size];
            if absent {
                count.fill(0);
            } else if array.direction == Direction::Out && !names_each(self.layout, array) {
                // No answer is longer.
                let most = (NOTHING.len() / array.element).to_le_bytes();
                let mut told = [0; 8];
                told[..count.len()].copy_from_slice(count);
                if u64::from_le_bytes(told) > u64::from_le_bytes(most) {
                    count.copy_from_slice(&most[..array.count_size]);
                }
            }
        }
        for (index, array) in self.layout.arrays.iter().enumerate() {
            let start = self.pointer(array.pointer);
            let count = self.count(array);
            let length = count.checked_mul(array.element).ok_or(Errno::EINVAL)?;
            if start.is_null() && length > 0 {
                return Err(Errno::EFAULT);
            }
            self.arrays[index] = Bytes { start, length, own: false };
        }
        self.fit()
    }

    /// Refuses what no record holds, or no answer, before anything of that size is read or kept. A program can say any
    /// count.
    fn fit(&self) -> Outcome<()> {
        let mut most = MAX_RECORD - self.layout.wire;
        for (Bytes { length, .. }, array) in self.arrays.iter().zip(self.layout.arrays) {
            let answer = match array.direction {
                Direction::In => MAX_RECORD,
                Direction::Out if names_each(self.layout, array) => {
                    NOTHING.len() - size_of::<Answer>() - self.layout.wire
                }
                Direction::Out | Direction::Unused => NOTHING.len(),
            };
            most = most.checked_sub(*length).filter(|_| *length <= answer).ok_or(Errno::ENOMEM)?;
        }
        Ok(())
    }

    fn count(&self, array: &Array) -> usize {
        let mut bytes = [0; 8];
        bytes[..array.count_size]
            .copy_from_slice(&self.fixed[array.wire_count..array.wire_count + array.count_size]);
        usize::from_le_bytes(bytes)
    }

    fn pointer(&self, offset: usize) -> *mut u8 {
        let bytes: [u8; 8] = std::array::from_fn(|index| self.raw[offset + index]);
        ptr::with_exposed_provenance_mut(usize::from_le_bytes(bytes))
    }

    fn wire_offset(&self, offset: usize) -> Option<usize> {
        let inside =
            |field: &&virgld_protocol::client::Field| (field.from..field.from + field.size).contains(&offset);
        self.layout.fields.iter().find(inside).map(|field| field.to + offset - field.from)
    }
}

/// Whether the program names each element of an array that is only for the answer, so that fewer would be a wrong one.
fn names_each(layout: &Layout, array: &Array) -> bool {
    let names = |other: &Array| other.direction == Direction::In && other.wire_count == array.wire_count;
    layout.arrays.iter().any(names)
}

#[cfg(test)]
mod tests {
    use virgld_protocol::client::layout_of;

    use super::*;

    fn take(number: u8, bytes: &mut [u8]) -> Outcome<Argument> {
        let shape = Shape { size: bytes.len(), goes: true, returns: true, frame: Frame::here() };
        // SAFETY: nobody unmaps anything.
        unsafe { Argument::take(layout_of(number).unwrap(), bytes.as_mut_ptr(), shape) }
    }

    #[test]
    fn a_smaller_structure_is_extended_with_zeroes() {
        let mut bytes = [0xee_u8; 32];
        bytes[8..24].fill(0);
        bytes[4..8].fill(0);
        bytes[24..28].fill(0);
        let argument = take(0x42, &mut bytes).unwrap();
        assert_eq!(argument.wire(0), 0xeeee_eeee);
        assert_eq!(argument.wire(12), 0xeeee_eeee, "fence_fd");
        assert_eq!((argument.wire(16), argument.wire(28)), (0, 0), "beyond 32 bytes");
    }

    #[test]
    fn a_pointer_to_a_value_travels_as_zero_and_a_descriptor_as_minus_one() {
        let mut bytes = [1_u8; 16];
        assert_eq!(take(0x43, &mut bytes).unwrap().wire(8), 0);
        let mut bytes = [1_u8; 12];
        let argument = take(0x2e, &mut bytes).unwrap();
        assert_eq!((argument.wire(8), argument.descriptor(8)), (u32::MAX, 0x0101_0101));
    }

    #[test]
    fn a_missing_array_is_a_fault_unless_it_is_only_for_the_answer() {
        let mut bytes = [0_u8; 64];
        bytes[16] = 7;
        assert_eq!(take(0x00, &mut bytes).unwrap().wire(16), 0, "VERSION without a name");
        let mut bytes = [0_u8; 64];
        bytes[4] = 4;
        assert_eq!(take(0x42, &mut bytes).err(), Some(Errno::EFAULT), "EXECBUFFER without a stream");
        let shape = Shape { size: 16, goes: true, returns: false, frame: Frame::here() };
        // SAFETY: as above.
        let missing = unsafe { Argument::take(layout_of(0x41).unwrap(), ptr::null_mut(), shape) };
        assert_eq!(missing.err(), Some(Errno::EFAULT));
    }

    #[test]
    fn arrays_that_share_a_count_have_the_same_room() {
        let mut room = [0_u32; 2];
        let mut bytes = [0_u8; 80];
        bytes[36] = 2;
        bytes[16..24].copy_from_slice(&(room.as_mut_ptr() as u64).to_le_bytes());
        let argument = take(0xa7, &mut bytes).unwrap();
        assert_eq!((argument.wire(4), argument.length(2), argument.length(3)), (0, 0, 0), "no values wanted");
    }

    #[test]
    fn more_room_than_any_answer_needs_is_no_error() {
        let mut bytes = [0xff_u8; 80];
        let argument = take(0xa7, &mut bytes).unwrap();
        let lengths: Vec<usize> = (0..4).map(|index| argument.length(index)).collect();
        assert!(lengths.iter().all(|length| *length <= ANSWER_BYTES), "{lengths:?}");
        assert_eq!(lengths[2] * 2, lengths[3], "as many properties as values");
        assert_eq!((lengths[0], lengths[3]), (ANSWER_BYTES, ANSWER_BYTES));
        let mut version = [0xff_u8; 64];
        assert_eq!(take(0x00, &mut version).unwrap().length(0), ANSWER_BYTES, "a count of 64 bits");
    }

    #[test]
    fn what_is_unused_does_not_travel_and_what_has_no_argument_needs_none() {
        let mut bytes = [0xee_u8; 104];
        let argument = take(0xa1, &mut bytes).unwrap();
        assert_eq!((argument.wire(0), argument.length(0), argument.wire(4)), (0, 0, 0xeeee_eeee), "GETCRTC");
        let nothing = Shape { size: 0, goes: false, returns: false, frame: Frame::here() };
        // SAFETY: SET_MASTER has no structure; nothing is read.
        let master = unsafe { Argument::take(layout_of(0x1e).unwrap(), ptr::null_mut(), nothing) };
        assert!(master.is_ok());
    }

    #[test]
    fn more_than_a_record_holds_is_refused_before_it_is_read() {
        // The pointers lead nowhere.
        let mut bytes = [0xff_u8; 64];
        assert_eq!(take(0xbf, &mut bytes[..8]).map(|_| ()), Ok(()), "it has no array");
        assert_eq!(take(0x42, &mut bytes).err(), Some(Errno::ENOMEM), "EXECBUFFER");
        for (number, size) in [(0xc3, 32), (0xc4, 16), (0xc5, 16), (0xca, 48), (0xcd, 24), (0x4b, 16)] {
            assert_eq!(take(number, &mut bytes[..size]).err(), Some(Errno::ENOMEM), "{number:#x}");
        }
    }

    #[test]
    fn a_list_is_answered_whole_or_not_at_all() {
        let mut handles = vec![0_u32; 10_000];
        let query = |handles: &mut [u32]| {
            let address = handles.as_mut_ptr() as u64;
            let mut bytes = [0_u8; 24];
            bytes[..8].copy_from_slice(&address.to_le_bytes());
            bytes[8..16].copy_from_slice(&address.to_le_bytes());
            bytes[16..20].copy_from_slice(&u32::try_from(handles.len()).unwrap().to_le_bytes());
            take(0xcb, &mut bytes).map(|argument| argument.length(0))
        };
        assert_eq!(query(&mut handles[..8188]), Ok(4 * 8188));
        assert_eq!(
            query(&mut handles[..8189]),
            Err(Errno::ENOMEM),
            "with its points, more than an answer holds"
        );
        assert_eq!(query(&mut handles), Err(Errno::ENOMEM));
    }
}
