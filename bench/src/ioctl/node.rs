//! A DRM node by its C interface: the only unsafe code of the benchmark.
//!
//! The calls go through libc, not straight to the kernel, so that a preloaded library sees them, as it sees
//! Mesa's.
#![expect(unsafe_code, reason = "ioctl is a C interface")]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use virgld_protocol::client::kms::EventVblank;
use virgld_protocol::client::{DRM_TYPE, Execbuffer, ExecbufferFlags, Ioctl, MAX_FIXED, Map};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An open DRM file.
pub(super) struct Node(File);

impl Node {
    /// Opens it for reading and writing.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    /// One call whose structure holds no pointers.
    pub(super) fn call<T>(&self, argument: &mut T) -> io::Result<()>
    where
        T: Ioctl + FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        const {
            assert!(T::TABLE.arrays.is_empty() && T::TABLE.indirect.is_none());
            // What goes beyond the C structure is between client library and daemon.
            assert!(T::TABLE.fields.len() == 1 && T::TABLE.fields[0].from == T::TABLE.fields[0].to);
            assert!(T::TABLE.fields[0].size == T::TABLE.size && T::TABLE.size <= size_of::<T>());
        }
        // SAFETY: the structure is no smaller than the size says, any bytes make one, and it holds no pointers.
        unsafe { self.ioctl(T::TABLE.number, T::TABLE.size, argument) }
    }

    /// One call whose structure names arrays; those that are not given here are named by no pointer.
    pub(super) fn call_with<T>(&self, argument: &mut T, arrays: &mut [&mut [u8]]) -> io::Result<()>
    where
        T: Ioctl + FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        const {
            assert!(T::TABLE.fields.len() == 1 && T::TABLE.indirect.is_none() && T::TABLE.fd_in.is_none());
            assert!(T::TABLE.size <= MAX_FIXED);
        }
        let field = T::TABLE.fields[0];
        let mut call = Structure([0; MAX_FIXED]);
        let (outer, inner) = (field.from..field.from + field.size, field.to..field.to + field.size);
        call.0[outer.clone()].copy_from_slice(&argument.as_bytes()[inner.clone()]);
        for (array, memory) in T::TABLE.arrays.iter().zip(arrays) {
            let count = &call.0[array.count..array.count + array.count_size];
            let count = count.iter().rev().fold(0, |count, byte| count << 8 | usize::from(*byte));
            if count.checked_mul(array.element).is_none_or(|bytes| bytes > memory.len()) {
                return Err(ErrorKind::InvalidInput.into());
            }
            let pointer = memory.as_mut_ptr().expose_provenance() as u64;
            call.0[array.pointer..array.pointer + 8].copy_from_slice(&pointer.to_ne_bytes());
        }
        // SAFETY: the table tells the structure's size, and where pointers are in it. Each is null, or points to memory
        // that is no smaller than the count beside it says and that is lent to this call alone.
        unsafe { self.ioctl(T::TABLE.number, T::TABLE.size, &mut call) }?;
        argument.as_mut_bytes()[inner].copy_from_slice(&call.0[outer]);
        Ok(())
    }

    /// Waits for an event, as a program does that has nothing else to do.
    pub(super) fn event(&self) -> io::Result<EventVblank> {
        let mut event = EventVblank::default();
        // Through the C library, where a preloaded library sees it.
        (&self.0).read_exact(event.as_mut_bytes())?;
        Ok(event)
    }

    /// EXECBUFFER of nothing that uses these buffers.
    pub(super) fn submit(&self, buffers: &[u32]) -> io::Result<()> {
        self.execbuffer(ExecbufferFlags::empty(), buffers).map(drop)
    }

    /// EXECBUFFER of nothing, with a fence.
    pub(super) fn submit_fenced(&self) -> io::Result<OwnedFd> {
        let fence = self.execbuffer(ExecbufferFlags::FENCE_FD_OUT, &[])?;
        if fence < 0 {
            return Err(io::Error::new(ErrorKind::InvalidData, "no fence was handed out"));
        }
        // SAFETY: with the flag, a successful call hands out a descriptor that is ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fence) })
    }

    /// MAP, and the memory that it tells of.
    pub(super) fn map(&self, handle: u32, bytes: usize) -> io::Result<Mapping> {
        let mut asked = Map { handle, ..Map::default() };
        self.call(&mut asked)?;
        let offset = libc::off_t::try_from(asked.offset).map_err(|_| ErrorKind::InvalidData)?;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, wherever there is room, touches nothing that exists.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, self.0.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: start.cast(), bytes })
    }

    fn execbuffer(&self, flags: ExecbufferFlags, buffers: &[u32]) -> io::Result<i32> {
        let num_bo_handles = u32::try_from(buffers.len()).map_err(|_| ErrorKind::InvalidInput)?;
        let mut call = ExecbufferCall {
            flags: flags.bits(),
            bo_handles: buffers.as_ptr(),
            num_bo_handles,
            ..ExecbufferCall::NOTHING
        };
        // SAFETY: the only pointer that is not null points to as many handles as the structure says, and they
        // are only read.
        unsafe { self.ioctl(Execbuffer::TABLE.number, Execbuffer::TABLE.size, &mut call) }?;
        Ok(call.fence_fd)
    }

    /// As libdrm makes them.
    ///
    /// # Safety
    ///
    /// `argument` must be what the call of that number takes, and have `size` bytes or more.
    unsafe fn ioctl<T>(&self, number: u8, size: usize, argument: &mut T) -> io::Result<()> {
        let size = size as libc::c_ulong;
        let request =
            READ_WRITE | size << 16 | libc::c_ulong::from(DRM_TYPE) << 8 | libc::c_ulong::from(number);
        loop {
            // SAFETY: the descriptor is open, and the caller vouches for the argument.
            let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, &raw mut *argument) };
            if result == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) {
                return Err(error);
            }
        }
    }
}

/// A buffer's memory. It stays mapped as long as the program runs.
pub(super) struct Mapping {
    start: *mut u8,
    bytes: usize,
}

impl Mapping {
    /// Writes one value everywhere.
    pub(super) fn fill(&mut self, value: u8) {
        // SAFETY: these bytes were mapped for writing and are never unmapped. No reference to them exists: daemon and
        // device may write there too.
        unsafe { self.start.write_bytes(value, self.bytes) };
    }

    /// Copies everything out.
    pub(super) fn read(&self, into: &mut [u8]) {
        let bytes = into.len().min(self.bytes);
        // SAFETY: as above, for reading; `into` has as many bytes and is nobody else's.
        unsafe { self.start.copy_to_nonoverlapping(into.as_mut_ptr(), bytes) };
    }
}

/// A structure as C has it: as large, and aligned as strictly, as any.
#[repr(C, align(8))]
struct Structure([u8; MAX_FIXED]);

/// `struct drm_virtgpu_execbuffer`.
#[repr(C)]
struct ExecbufferCall {
    flags: u32,
    size: u32,
    command: *const u8,
    bo_handles: *const u32,
    num_bo_handles: u32,
    fence_fd: i32,
    ring_idx: u32,
    syncobj_stride: u32,
    num_in_syncobjs: u32,
    num_out_syncobjs: u32,
    in_syncobjs: *const u8,
    out_syncobjs: *const u8,
}

impl ExecbufferCall {
    const NOTHING: Self = Self {
        flags: 0,
        size: 0,
        command: std::ptr::null(),
        bo_handles: std::ptr::null(),
        num_bo_handles: 0,
        fence_fd: -1,
        ring_idx: 0,
        syncobj_stride: 0,
        num_in_syncobjs: 0,
        num_out_syncobjs: 0,
        in_syncobjs: std::ptr::null(),
        out_syncobjs: std::ptr::null(),
    };
}

const _: () = assert!(size_of::<ExecbufferCall>() == Execbuffer::TABLE.size);

/// `_IOC_READ | _IOC_WRITE`, in place.
const READ_WRITE: libc::c_ulong = 3 << 30;
