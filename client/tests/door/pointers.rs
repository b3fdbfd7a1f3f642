//! Pointers that lead nowhere: EFAULT, as Linux says, and the program goes on.

use std::ffi::{c_int, c_ulong, c_void};
use std::io;

use virgld_protocol::client::kms::OUT_FENCE_PTR;
use virgld_protocol::client::{Direction, Layout, layout_of};

use crate::calls::*;

const PAGE: usize = 4096;
const GETPARAM: u8 = 0x43;
const EXECBUFFER: u8 = 0x42;
const ATOMIC: u8 = 0xbc;
/// EXECBUFFER, the transfers and WAIT: nothing is written into their structures, as a rule.
const UNCHANGED: [u8; 4] = [EXECBUFFER, 0x46, 0x47, 0x48];
/// Directions of a request, as the program sees them.
const GOES: c_ulong = 1;
const GOES_AND_RETURNS: c_ulong = 3;

/// Pages one after another: to be written, none; to be read, none. Each word of the pages is 1 or 0.
struct Places {
    writable: usize,
    readable: usize,
}

impl Places {
    fn new(word: u32) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a range that the kernel picks, and parts of it.
        unsafe {
            let start = libc::mmap(std::ptr::null_mut(), 4 * PAGE, both, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let words = start.cast::<u32>();
            (0..4 * PAGE / 4).for_each(|index| words.add(index).write(word));
            let page = |number: usize| start.cast::<u8>().add(number * PAGE).cast::<c_void>();
            assert_eq!(libc::munmap(page(1), PAGE), 0);
            assert_eq!(libc::munmap(page(3), PAGE), 0);
            assert_eq!(libc::mprotect(page(2), PAGE, libc::PROT_READ), 0);
            Self { writable: start.addr(), readable: page(2).addr() }
        }
    }

    /// None of it can be read.
    fn nowhere(&self) -> [usize; 5] {
        let end = self.writable + PAGE;
        // Nothing, a number that is no address, one of the kernel's, a page that is gone; and one whose end is gone.
        [0, 12, 0xffff_8000_0000_0000, end, end - 1]
    }

    /// The last `size` bytes that can be written.
    fn end(&self, size: usize) -> usize {
        self.writable + PAGE - size
    }
}

pub(crate) fn run() {
    let fd = open(c"/dev/dri/card0");
    let mut served = 0;
    for layout in (0..=u8::MAX).filter_map(layout_of) {
        structure(fd, layout);
        inputs(fd, layout);
        served += 1;
    }
    assert!(served > 50, "{served}");
    outputs(fd);
    objects_with_a_stride(fd);
    fences(fd);
    assert_eq!(get_cap(fd, 1), Ok(2), "the file is as good as ever");
}

fn ask(fd: c_int, kind: u8, number: u8, direction: c_ulong, size: usize, address: usize) -> Result<(), i32> {
    let request =
        direction << 30 | (size as c_ulong) << 16 | c_ulong::from(kind) << 8 | c_ulong::from(number);
    // SAFETY: whatever is there, or is not.
    match unsafe { libc::ioctl(fd, request, address) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

fn drm_at(fd: c_int, layout: &Layout, direction: c_ulong, address: usize) -> Result<(), i32> {
    ask(fd, b'd', layout.number, direction, layout.size, address)
}

/// The structure itself.
fn structure(fd: c_int, layout: &Layout) {
    if layout.size == 0 {
        return;
    }
    let places = Places::new(0);
    let name = layout.name;
    for address in places.nowhere() {
        for direction in [GOES, GOES_AND_RETURNS] {
            let asked = drm_at(fd, layout, direction, address);
            assert_eq!(asked, Err(libc::EFAULT), "{name} at {address:#x}");
        }
    }
    if layout.number == GETPARAM {
        // Its structure of zeroes leads nowhere too.
        return;
    }
    let read_only = drm_at(fd, layout, GOES_AND_RETURNS, places.readable);
    if !UNCHANGED.contains(&layout.number) {
        assert_eq!(read_only, Err(libc::EFAULT), "{name}: it could not be given back");
    }
    for (direction, address) in [(GOES, places.readable), (GOES_AND_RETURNS, places.end(layout.size))] {
        let asked = drm_at(fd, layout, direction, address);
        assert_ne!(asked, Err(libc::EFAULT), "{name}: it is there, and nothing behind it is looked at");
    }
}

/// The arrays that come from the program, one after the other.
fn inputs(fd: c_int, layout: &Layout) {
    const COUNT: usize = 8;
    let places = Places::new(1);
    let inputs = layout.arrays.iter().filter(|array| array.direction == Direction::In);
    for (index, array) in inputs.enumerate() {
        let mut call = vec![0_u8; layout.size];
        for other in layout.arrays {
            put(&mut call, other.count, &COUNT.to_le_bytes()[..other.count_size]);
            put(&mut call, other.pointer, &places.writable.to_le_bytes());
        }
        if layout.number == EXECBUFFER {
            put(&mut call, 36, &16_u32.to_le_bytes());
        }
        let mut with = |address: usize| {
            put(&mut call, array.pointer, &address.to_le_bytes());
            drm_at(fd, layout, GOES_AND_RETURNS, call.as_mut_ptr().addr())
        };
        let name = layout.name;
        for address in places.nowhere() {
            assert_eq!(with(address), Err(libc::EFAULT), "{name}: array {index} at {address:#x}");
        }
        let there = with(places.end(COUNT * array.element));
        assert_ne!(there, Err(libc::EFAULT), "{name}: array {index} is there");
    }
}

fn put(call: &mut [u8], at: usize, bytes: &[u8]) {
    call[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where answers are to be put.
fn outputs(fd: c_int) {
    let places = Places::new(0);
    let bad = places.nowhere().into_iter().chain([places.readable]);
    for address in bad {
        let to = address as u64;
        assert_eq!(drm(fd, GETPARAM, &mut [6, to]), Err(libc::EFAULT), "GETPARAM {address:#x}");
        // Lists that are nowhere are not wanted.
        if address != 0 {
            let mut version = [0, 0, 16, to, 0, 0, 0, 0];
            assert_eq!(drm(fd, 0, &mut version), Err(libc::EFAULT), "VERSION {address:#x}");
            assert_eq!(drm(fd, 0x49, &mut [2, to, 8]), Err(libc::EFAULT), "GET_CAPS {address:#x}");
            let mut resources = [0; 8];
            (resources[1], resources[4]) = (to, 2 << 32);
            assert_eq!(drm(fd, 0xa0, &mut resources), Err(libc::EFAULT), "GETRESOURCES {address:#x}");
        }
    }
    let end = places.end(4);
    assert_eq!(drm(fd, GETPARAM, &mut [6, end as u64]), Ok(()));
    assert_eq!(drm(fd, 0x49, &mut [2, end as u64, 8]), Ok(()), "room that is not used need not be there");
    // SAFETY: it is there.
    assert_eq!(unsafe { std::ptr::with_exposed_provenance::<u32>(end).read() }, 0x0707_0707);
}

/// Synchronisation objects need not lie one behind the other, nor be whole.
fn objects_with_a_stride(fd: c_int) {
    let places = Places::new(1);
    let with = |stride: u32, address: usize| {
        let mut call = Execbuffer {
            syncobj_stride: stride,
            num_in_syncobjs: 2,
            in_syncobjs: address as u64,
            ..Execbuffer::default()
        };
        drm(fd, EXECBUFFER, &mut call)
    };
    assert_ne!(with(8, places.end(16)), Err(libc::EFAULT), "two halves");
    assert_ne!(with(24, places.end(24 + 16)), Err(libc::EFAULT), "what is between them is not looked at");
    assert_eq!(with(24, places.end(24 + 15)), Err(libc::EFAULT));
    assert_eq!(with(2 * u32::try_from(PAGE).unwrap(), places.end(16)), Ok(()), "the second one can be read");
    assert_eq!(with(u32::try_from(PAGE).unwrap(), places.end(16)), Err(libc::EFAULT));
}

/// Fences that are to be put where nothing is, and what is asked of fences.
fn fences(fd: c_int) {
    let places = Places::new(0);
    let mut flags = Execbuffer { flags: 2, ..Execbuffer::default() };
    assert_eq!(drm(fd, EXECBUFFER, &mut flags), Ok(()));
    let fence = flags.fence_fd;
    // SAFETY: it is there; the page is put back as it was.
    unsafe {
        let page = std::ptr::with_exposed_provenance_mut::<c_void>(places.readable);
        libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE);
        page.cast::<u32>().write(2);
        libc::mprotect(page, PAGE, libc::PROT_READ);
    }
    let open_before = open_files();
    for _ in 0..40 {
        let asked = ask(fd, b'd', EXECBUFFER, GOES_AND_RETURNS, 64, places.readable);
        assert_eq!(asked, Err(libc::EFAULT), "where would the fence go");
    }
    for address in places.nowhere() {
        let mut call = Execbuffer { flags: 2, size: 8, command: address as u64, ..Execbuffer::default() };
        assert_eq!(drm(fd, EXECBUFFER, &mut call), Err(libc::EFAULT));
        let (properties, values, one) = ([OUT_FENCE_PTR], [address as u64], [1_u32]);
        let at = |list: *const u32| list as u64;
        let lists = [at(one.as_ptr()), at(one.as_ptr()), at(properties.as_ptr()), values.as_ptr() as u64];
        let mut commit = [1 << 32, lists[0], lists[1], lists[2], lists[3], 0, 0];
        let asked = drm(fd, ATOMIC, &mut commit);
        // 0 stands for no fence.
        assert_eq!(asked == Err(libc::EFAULT), address != 0, "{asked:?} at {address:#x}");
        for (number, size) in [(3, 48), (4, 56)] {
            let asked = ask(fence, b'>', number, GOES_AND_RETURNS, size, address);
            assert_eq!(asked, Err(libc::EFAULT), "sync ioctl {number} at {address:#x}");
        }
        let mut info = [0_u64; 7];
        (info[5], info[6]) = (1, address as u64);
        assert_eq!(ioctl(fence, b'>', 4, &mut info), Err(libc::EFAULT), "details at {address:#x}");
    }
    assert!(open_files() <= open_before + 16, "fences of calls that failed are kept, for others");
    close(fence);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
