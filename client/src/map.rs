//! `mmap` of a DRM file: the kernel maps the memfd that lies behind the offset.

use std::ffi::{c_int, c_void};

use virgld_protocol::channel::{HUGE_PAGE, Mapped, SERVICE_MAP};
use virgld_protocol::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use crate::channel::Channel;
use crate::errno::Outcome;
use crate::own::OwnFd;
use crate::sys;

/// What the program asked for.
pub(crate) struct Wish {
    /// Address or hint.
    pub(crate) address: *mut c_void,
    /// Bytes.
    pub(crate) length: usize,
    /// `PROT_*`.
    pub(crate) protection: c_int,
    /// `MAP_*`.
    pub(crate) flags: c_int,
    /// As MAP gave it.
    pub(crate) offset: i64,
}

/// Descriptors that cover more than one buffer, the last used last.
#[derive(Default)]
pub(crate) struct Arenas {
    kept: Vec<Arena>,
}

struct Arena {
    base: u64,
    covers: u64,
    memory: OwnFd,
}

/// Maps a buffer of the file.
///
/// # Safety
///
/// As for `mmap`.
pub(crate) unsafe fn map(channel: &Channel, wish: &Wish) -> Outcome<*mut c_void> {
    let offset = u64::try_from(wish.offset).map_err(|_| Errno::EINVAL)?;
    let mut arenas = channel.arenas.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let length = wish.length as u64;
    let index = match arenas.kept.iter().position(|arena| arena.holds(offset, length)) {
        Some(index) => index,
        None => {
            let arena = ask(channel, offset, length)?;
            if arena.covers <= length.next_multiple_of(PAGE) {
                // It serves nobody else.
                // SAFETY: the caller's promise.
                return unsafe { arena.map(wish, offset) };
            }
            if arenas.kept.len() == MOST_ARENAS {
                arenas.kept.remove(0);
            }
            arenas.kept.push(arena);
            arenas.kept.len() - 1
        }
    };
    // SAFETY: the caller's promise.
    unsafe { arenas.kept[index].map(wish, offset) }
}

fn ask(channel: &Channel, offset: u64, length: u64) -> Outcome<Arena> {
    let mut answer = channel.service(SERVICE_MAP, [offset, length].as_bytes(), &[])?;
    let mut mapped = Mapped::new_zeroed();
    answer.read(0, mapped.as_mut_bytes())?;
    let memory = answer.descriptor()?;
    let arena = Arena { base: mapped.base, covers: mapped.covers, memory };
    if arena.holds(offset, length) { Ok(arena) } else { Err(Errno::EINVAL) }
}

impl Arena {
    fn holds(&self, offset: u64, length: u64) -> bool {
        let within = offset.checked_sub(self.base).and_then(|within| within.checked_add(length));
        within.is_some_and(|end| end <= self.covers)
    }

    /// # Safety
    ///
    /// As for `mmap`.
    unsafe fn map(&self, wish: &Wish, offset: u64) -> Outcome<*mut c_void> {
        let offset = i64::try_from(offset - self.base).map_err(|_| Errno::EINVAL)?;
        let anywhere =
            wish.address.is_null() && wish.flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) == 0;
        let address = if anywhere { free_address(wish.length, offset) } else { wish.address };
        // SAFETY: the caller's promise.
        let mapped = unsafe {
            sys::mmap(address, wish.length, wish.protection, wish.flags, self.memory.raw(), offset)
        };
        if mapped == libc::MAP_FAILED { Err(sys::errno()) } else { Ok(mapped) }
    }
}

/// Where so much is free just now, as far behind a multiple of [`HUGE_PAGE`] as `offset` is: only there are huge pages of a file
/// mapped whole. Null, which is anywhere, if none would fit in.
fn free_address(length: usize, offset: i64) -> *mut c_void {
    let anywhere = std::ptr::null_mut();
    let Some(room) = length.checked_add(HUGE_PAGE).filter(|_| length >= HUGE_PAGE) else { return anywhere };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: no address is asked for, so the kernel picks a range that nothing else uses.
    let start = unsafe { sys::mmap(anywhere, room, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return anywhere;
    }
    // SAFETY: the range is the one just mapped.
    unsafe { libc::munmap(start, room) };
    let behind = usize::try_from(offset).unwrap_or(0) % HUGE_PAGE;
    start.wrapping_byte_add(behind.wrapping_sub(start.addr()) % HUGE_PAGE)
}

const PAGE: u64 = 4096;
const MOST_ARENAS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_mappings_lie_in_memory_as_in_their_file() {
        for offset in [0, 4096, 3 << 20, 1 << 40] {
            let address = free_address(5 << 20, offset).addr();
            assert_ne!(address, 0);
            assert_eq!(address % HUGE_PAGE, usize::try_from(offset).unwrap() % HUGE_PAGE);
        }
        assert!(free_address(HUGE_PAGE - 4096, 0).is_null());
        assert!(free_address(usize::MAX, 0).is_null());
        assert!(free_address(usize::MAX - HUGE_PAGE, 0).is_null(), "more than there can be");
    }
}
