//! What the client does, scenario by scenario. All of it goes through the preloaded library.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use crate::calls::*;
use crate::scheme::{ARENA, FAIL, HOLD, SCARCE};

pub(crate) fn run(scenario: &str) {
    match scenario {
        "nodes" => nodes(),
        "calls" => calls(),
        "submit" => submits(),
        "share" => share(),
        "stock" => stock(),
        "ahead" => ahead(),
        "hotplug" => crate::udev::hear(),
        "reopen" => reopens(),
        "busy" => busy(),
        "threads" => threads(),
        "fork" => fork(),
        "flood" => flood(),
        "break" => breaks(),
        "hammer" => hammer(),
        "modes" => crate::modes::calls(),
        "events" => crate::modes::events(),
        "atomic" => crate::modes::atomic(),
        "pointers" => crate::pointers::run(),
        "heap" => crate::heap::program::run(),
        "late" => crate::silence::late(),
        "hung" => crate::silence::hung(),
        "stocked" => crate::silence::stocked(),
        "reader" => crate::modes::reader(),
        "orphan" => orphan(),
        "descriptors" => descriptors(),
        "measure" => crate::measure::run(),
        other => panic!("no scenario {other}"),
    }
}

fn nodes() {
    let mut names: Vec<_> =
        fs::read_dir("/dev/dri").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["card0", "renderD128"]);
    for (path, minor) in [("/dev/dri/card0", 0), ("/dev/dri/renderD128", 128)] {
        let status = fs::metadata(path).unwrap();
        assert!(status.file_type().is_char_device());
        assert_eq!(status.rdev(), libc::makedev(226, minor));
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        assert_eq!(file.metadata().unwrap().rdev(), libc::makedev(226, minor));
        let device = format!("/sys/dev/char/226:{minor}/device");
        let real = fs::canonicalize(&device).unwrap();
        assert_eq!(real.to_str(), Some("/sys/devices/pci5647:00/5647:00:02.0/virtio0"));
        assert_eq!(fs::read_to_string(real.join("device")).unwrap(), "0x0010\n");
        let bus = fs::read_link(format!("{device}/../subsystem")).unwrap();
        assert_eq!(bus.file_name().unwrap(), "pci");
    }
    // SAFETY: a zeroed structure and C strings.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        assert_eq!(libc::stat(c"/dev/dri/renderD128".as_ptr(), &raw mut status), 0);
        assert_eq!((status.st_mode & libc::S_IFMT, status.st_rdev), (libc::S_IFCHR, libc::makedev(226, 128)));
        let directory = libc::open(c"/dev/dri".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
        assert_eq!(libc::fstatat(directory, c"card0".as_ptr(), &raw mut status, 0), 0);
        assert_eq!(status.st_rdev, libc::makedev(226, 0));
        let card = libc::openat(directory, c"card0".as_ptr(), libc::O_RDWR);
        assert_eq!(get_cap(card, 5), Ok(6));
        assert_eq!(libc::access(c"/dev/dri/card0".as_ptr(), libc::R_OK | libc::W_OK), 0);
        assert_ne!(libc::access(c"/dev/dri/card1".as_ptr(), libc::R_OK), 0);
    }
    libdrm();
    crate::udev::find();
    let mut classes: Vec<_> =
        fs::read_dir("/sys/class").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    classes.sort();
    assert_eq!(classes.iter().filter(|name| *name == "drm").count(), 1);
    if fs::metadata("/sys/class/net/lo").is_ok() {
        assert!(classes.contains(&"net".into()), "{classes:?}");
    }
    assert!(!fs::metadata("/dev/null").unwrap().file_type().is_socket());
    assert_eq!(fs::read("/dev/null").unwrap(), b"");
}

/// What libdrm makes of it, where it is installed.
fn libdrm() {
    /// The beginning of `struct _drmDevice`.
    #[repr(C)]
    struct Device {
        nodes: *const *const std::ffi::c_char,
        available: i32,
        bus: i32,
    }
    type GetDevices = unsafe extern "C" fn(u32, *mut *const Device, i32) -> i32;
    // SAFETY: libdrm's function of this name has this type, and fills in one device that lives from then on.
    unsafe {
        let library = libc::dlopen(c"libdrm.so.2".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            return;
        }
        let function = libc::dlsym(library, c"drmGetDevices2".as_ptr());
        let get_devices: GetDevices = std::mem::transmute(function);
        let mut device = std::ptr::null();
        assert_eq!(get_devices(0, &raw mut device, 1), 1);
        assert_eq!(((*device).available, (*device).bus), (0b101, 0), "a primary and a render node, on PCI");
        let render = CStr::from_ptr(*(*device).nodes.add(2));
        assert_eq!(render, c"/dev/dri/renderD128");
    }
}

fn calls() {
    let fd = render();
    let mut version = [0_u64; 8];
    drm(fd, 0, &mut version).unwrap();
    assert_eq!((version[0], version[2], version[4], version[6]), (1 << 32, 10, 1, 6));
    let mut name = [0_u8; 16];
    (version[2], version[3]) = (16, name.as_mut_ptr() as u64);
    (version[4], version[6]) = (0, 0);
    drm(fd, 0, &mut version).unwrap();
    assert_eq!(&name, b"virtio_gpu\0\0\0\0\0\0");
    let mut value = [0_i32, 77];
    drm(fd, 0x43, &mut [6_u64, value.as_mut_ptr() as u64]).unwrap();
    assert_eq!(value, [18, 77], "four bytes are written");
    let mut caps = [9_u8; 8];
    drm(fd, 0x49, &mut [2_u64, caps.as_mut_ptr() as u64, 8]).unwrap();
    assert_eq!(caps, [7, 7, 7, 7, 9, 9, 9, 9], "what the host does not have stays");
    assert_eq!(get_cap(fd, 5), Ok(6));
    assert_eq!(drm(fd, 0x0a, &mut [1_u32, 0]), Err(libc::EOPNOTSUPP));
    assert_eq!(drm(fd, 0xee, &mut [0_u32]), Err(libc::EINVAL));
    // SAFETY: an ioctl without an argument.
    unsafe {
        *libc::__errno_location() = 99;
        assert_eq!(get_cap(fd, 1), Ok(2));
        assert_eq!(*libc::__errno_location(), 99, "success leaves errno alone");
        let copy = libc::dup(fd);
        assert_eq!(get_cap(copy, 1), Ok(2));
        close(fd);
        assert_eq!(get_cap(copy, 2), Ok(3), "a copy keeps the file open");
        close(copy);
        assert_eq!(get_cap(copy, 2), Err(libc::EBADF));
    }
    for _ in 0..100 {
        let fd = render();
        assert_eq!(get_cap(fd, 3), Ok(4));
        close(fd);
    }
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < 20, "closed files leave nothing behind");
}

fn submits() {
    let fd = render();
    let handle = create(fd);
    for words in [1, 5, 1000, 66_560] {
        let fence = submit(fd, 2, &stream(0, words), &[handle, handle], -1).unwrap();
        assert!(readable(fence, 5000));
        assert_eq!(fence_status(fence), Ok(1));
        assert_eq!(fence_status(fence), Ok(1));
        close(fence);
    }
    let failed = submit(fd, 2, &stream(FAIL, 4), &[handle], -1).unwrap();
    assert!(readable(failed, 5000));
    assert_eq!(fence_status(failed), Ok(-libc::EIO));
    // Fences without end, more than are ever in stock.
    for _ in 0..500 {
        let fence = submit(fd, 2, &stream(0, 64), &[handle], -1).unwrap();
        assert!(readable(fence, 5000));
        close(fence);
    }
    foreign_fences(fd, handle, failed);
    // A handle that nobody gave, and objects: asked and answered.
    assert!(submit(fd, 0, &stream(0, 4), &[999], -1).is_ok());
    let objects: Vec<[u64; 3]> = (1..4).map(|number| [number, number, 0xeeee]).collect();
    let words = stream(0, 4);
    let mut call = Execbuffer {
        size: 16,
        command: words.as_ptr() as u64,
        syncobj_stride: 24,
        num_in_syncobjs: 3,
        in_syncobjs: objects.as_ptr() as u64,
        ..Execbuffer::default()
    };
    drm(fd, 0x42, &mut call).unwrap();
    assert_eq!(submit(fd, 1 << 20, &words, &[], -1), Err(libc::EINVAL));
    assert_eq!(submit(fd, 0, &vec![0; 1 << 20], &[handle], -1), Err(libc::ENOMEM));
    assert_eq!(submit(fd, 1, &words, &[handle], 555), Err(libc::EBADF));
}

fn foreign_fences(fd: i32, handle: u32, signalled: i32) {
    let mut ends = [0; 2];
    // SAFETY: room for two.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let fence = submit(fd, 3, &stream(0, 4), &[handle], ends[0]).unwrap();
    assert!(!readable(fence, 50), "it waits for ours");
    assert_eq!(fence_status(fence), Ok(0));
    close(ends[1]);
    assert!(readable(fence, 5000));
    let last = submit(fd, 3, &stream(0, 4), &[handle], signalled).unwrap();
    assert!(readable(last, 5000), "one that signalled long ago");
    let mut merge = [0_u32; 12];
    merge[8] = last.cast_unsigned();
    ioctl(fence, b'>', 3, &mut merge).unwrap();
    assert_eq!(fence_status(merge[9].cast_signed()), Ok(1));
    assert_eq!(fence_status(fd), Err(libc::ENOTTY));
}

/// A fence is given away before the door has taken the call that it belongs to: that waits in the ring for its turn.
fn ahead() {
    let (fd, other, releases) = (render(), render(), render());
    let (handle, theirs) = (create(fd), create(other));
    for _ in 0..64 {
        submit(fd, 0, &stream(HOLD, 4), &[handle], -1).unwrap();
    }
    let fence = submit(fd, 2, &stream(0, 4), &[handle], -1).unwrap();
    let follows = submit(other, 3, &stream(0, 4), &[theirs], fence).unwrap();
    assert!(!readable(follows, 300), "it waits for a call that is not taken yet");
    drm(releases, 0x0d, &mut [0_u64, 0]).unwrap();
    assert!(readable(fence, 5000) && readable(follows, 5000));
}

fn map(fd: i32, offset: u64, length: usize) -> Option<*mut u32> {
    let offset = i64::try_from(offset).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: no address is asked for.
    let mapped =
        unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, offset) };
    (mapped != libc::MAP_FAILED).then_some(mapped.cast())
}

fn share() {
    let fd = render();
    let handle = create(fd);
    let mut call = [0_u64, u64::from(handle)];
    drm(fd, 0x41, &mut call).unwrap();
    let first = map(fd, call[0], 4096).unwrap();
    let second = map(fd, call[0], 4096).unwrap();
    // SAFETY: both are mapped.
    unsafe {
        first.write_volatile(0x1234_5678);
        assert_eq!(second.read_volatile(), 0x1234_5678);
    }
    assert!(map(fd, 0x1000, 4096).is_none(), "no such offset");
    assert!(map(-1, 0, 4096).is_none());
    let mut export = [handle, libc::O_CLOEXEC.cast_unsigned() | 2, 0];
    drm(fd, 0x2d, &mut export).unwrap();
    let dmabuf = export[2].cast_signed();
    // The scheme exports its whole arena: the page of the handle is where MAP said.
    let shared = map(dmabuf, call[0] - ARENA, 4096).unwrap();
    // SAFETY: mapped.
    assert_eq!(unsafe { shared.read_volatile() }, 0x1234_5678);
    assert_eq!(ioctl(dmabuf, b'b', 0, &mut 0_u64), Ok(()));
    let other = render();
    let mut import = [0, 0, dmabuf.cast_unsigned()];
    drm(other, 0x2e, &mut import).unwrap();
    assert_eq!(import, [handle, 0, dmabuf.cast_unsigned()]);
    assert_eq!(drm(other, 0x2e, &mut [0, 0, other.cast_unsigned()]), Err(libc::EBADF));
    let mut object = [5_u32, 0, 0, 0, 0, 0];
    drm(fd, 0xc1, &mut object).unwrap();
    let mut back = [0, 0, object[2], 0, 0, 0];
    drm(other, 0xc2, &mut back).unwrap();
    assert_eq!(back[0], 5);
    close(object[2].cast_signed());
    drm(fd, 0x09, &mut [handle, 0]).unwrap();
    close(dmabuf);
    // SAFETY: nobody uses it any more.
    unsafe { libc::munmap(shared.cast(), 4096) };
    // The door looks every 100 ms, and this file must be there to have been told by.
    std::thread::sleep(std::time::Duration::from_millis(300));
}

/// Buffers of one kind, again and again; and then other things.
fn stock() {
    let fd = render();
    let mut all = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let handle = create(fd);
        assert!(all.insert(handle), "{handle} was given twice");
        assert_eq!(offset_of(fd, handle), ARENA + 4096 * u64::from(handle));
        let mapped = map(fd, offset_of(fd, handle), 4096).unwrap();
        // SAFETY: mapped, by nobody else.
        unsafe {
            mapped.write_volatile(handle);
            libc::munmap(mapped.cast(), 4096);
        }
    }
    for handle in &all {
        drm(fd, 0x09, &mut [*handle, 0]).unwrap();
    }
    // What is shared can be moved: it is asked for.
    let shared = create_wide(fd, 1).unwrap();
    drm(fd, 0x2d, &mut [shared, 0, 0]).unwrap();
    offset_of(fd, shared);
    let scarce: Vec<_> = (0..9).map(|_| create_wide(fd, SCARCE)).collect();
    assert!(scarce[..6].iter().all(Result::is_ok) && scarce[6..].iter().all(|it| *it == Err(libc::ENOMEM)));
    // The first kind gives way, and goes back as soon as something is made.
    for width in 100..104 {
        create_wide(fd, width).unwrap();
    }
    assert_eq!(get_cap(fd, 1), Ok(2));
    create_wide(fd, 104).unwrap();
    assert_eq!(get_cap(fd, 1), Ok(2));
}

/// Breaks the daemon's leases, or tries to: opens what it gave away from a path that counts for nobody.
fn reopens() {
    let fd = render();
    let handle = create(fd);
    let mut export = [handle, libc::O_CLOEXEC.cast_unsigned() | 2, 0];
    drm(fd, 0x2d, &mut export).unwrap();
    let dmabuf = export[2].cast_signed();
    // SAFETY: a C string.
    let path = unsafe { libc::open(proc_path(dmabuf).as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    assert!(path >= 0);
    drm(fd, 0x09, &mut [handle, 0]).unwrap();
    close(dmabuf);
    let (name, start) = (proc_path(path), Instant::now());
    // The daemon looks every 100 ms.
    while start.elapsed() < Duration::from_millis(350) {
        // SAFETY: a C string; what was opened is closed.
        unsafe {
            let again = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK);
            if again >= 0 {
                libc::close(again);
            }
        }
    }
    close(path);
}

fn proc_path(fd: i32) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap()
}

fn busy() {
    let (fd, other) = (render(), render());
    let (busy, idle) = (create(fd), create(fd));
    submit(fd, 0, &stream(HOLD, 4), &[busy], -1).unwrap();
    for _ in 0..1000 {
        assert_eq!(wait(fd, busy, true), Err(libc::EBUSY));
    }
    assert_eq!(wait(fd, idle, true), Ok(()), "its own use has retired: never was");
    drm(fd, 0x47, &mut [idle, 0, 0, 0, 1, 1, 1, 0, 0]).unwrap();
    assert_eq!(wait(fd, idle, true), Err(libc::EBUSY), "behind what is held");
    drm(other, 0x0d, &mut [0_u64, 0]).unwrap();
    while wait(fd, busy, true).is_err() {}
    assert_eq!(wait(fd, busy, false), Ok(()));
    assert_eq!(wait(fd, idle, false), Ok(()));
}

fn threads() {
    let fd = render();
    std::thread::scope(|scope| {
        for thread in 0..80_u64 {
            scope.spawn(move || {
                let handle = create(fd);
                for round in 0..100 {
                    assert_eq!(get_cap(fd, thread << 32 | round), Ok((thread << 32 | round) + 1));
                    let fence = submit(fd, 2, &stream(0, 300), &[handle], -1).unwrap();
                    assert!(readable(fence, 10_000));
                    close(fence);
                }
                drm(fd, 9, &mut [handle, 0]).unwrap();
            });
        }
    });
}

fn fork() {
    let fd = render();
    let handle = create(fd);
    assert_eq!(get_cap(fd, 1), Ok(2));
    let (busy, stop) = (std::sync::atomic::AtomicBool::new(true), std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        // Another thread is inside the library, perhaps with its locks, whenever the fork happens.
        scope.spawn(|| {
            while busy.load(stop) {
                assert_eq!(get_cap(fd, 9), Ok(10));
            }
        });
        for _ in 0..20 {
            // SAFETY: the child makes a few calls and leaves.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let right = get_cap(fd, 41) == Ok(42) && submit(fd, 0, &stream(0, 8), &[handle], -1).is_ok();
                // SAFETY: ends the child.
                unsafe { libc::_exit(i32::from(!right)) };
            }
            let mut status = -1;
            // SAFETY: room for one status.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
            assert_eq!(get_cap(fd, 1), Ok(2));
        }
        busy.store(false, stop);
    });
    assert_eq!(wait(fd, handle, true), Ok(()));
}

fn flood() {
    let (fd, other) = (render(), render());
    let handle = create(fd);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                submit(fd, 0, &stream(HOLD, 16_000), &[handle], -1).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!done.load(std::sync::atomic::Ordering::Acquire), "it must wait");
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            // The other file is not held up, and lets the work go.
            assert_eq!(get_cap(other, 1), Ok(2));
            drm(other, 0x0d, &mut [0_u64, 0]).unwrap();
        }
    });
    drm(other, 0x0d, &mut [0_u64, 0]).unwrap();
}

fn breaks() {
    let (fd, other) = (render(), render());
    assert_eq!(get_cap(fd, 1), Ok(2));
    // SAFETY: four bytes.
    assert_eq!(unsafe { libc::send(fd, c"rude".as_ptr().cast(), 4, 0) }, 4);
    while get_cap(fd, 1).is_ok() {}
    assert_eq!(get_cap(fd, 1), Err(libc::EIO));
    assert_eq!(get_cap(other, 1), Ok(2));
}

fn descriptors() {
    let directory = std::env::var_os("VIRGLD_DIR").unwrap();
    let _daemon = crate::daemon::Daemon::start_in(directory.into());
    let first = render();
    assert_eq!(get_cap(first, 1), Ok(2));
    let open_now = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    // Room for a few more, of which each open file takes two: the client's end and the daemon's.
    let limit = libc::rlimit { rlim_cur: open_now + 15, rlim_max: 4096 };
    // SAFETY: the limit is ours.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let path = c"/dev/dri/renderD128".as_ptr();
    // SAFETY: a C string.
    let more: Vec<i32> = (0..40).map(|_| unsafe { libc::open(path, libc::O_RDWR) }).collect();
    assert_eq!(more.last(), Some(&-1));
    let before = processor_time();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(processor_time() - before < 100_000, "microseconds while nothing can be done");
    assert_eq!(get_cap(first, 1), Ok(2));
    more.into_iter().filter(|fd| *fd >= 0).for_each(close);
    let again = render();
    assert_eq!(get_cap(again, 1), Ok(2));
    close(again);
    close(first);
}

/// Of this process, in microseconds.
fn processor_time() -> i64 {
    // SAFETY: zeroed integers, and room for them.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime].iter().map(|time| time.tv_sec * 1_000_000 + time.tv_usec).sum()
}

fn hammer() {
    let fd = render();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let handle = create(fd);
                loop {
                    let fence = submit(fd, 2, &stream(0, 3000), &[handle], -1).unwrap();
                    close(fence);
                }
            });
        }
    });
}

fn orphan() {
    let fd = render();
    let handle = create(fd);
    // From the fourth on, four are in stock.
    for _ in 0..3 {
        create(fd);
    }
    let error = loop {
        if let Err(error) = submit(fd, 0, &stream(0, 100), &[handle], -1).and_then(|_| get_cap(fd, 1)) {
            break error;
        }
    };
    assert_eq!(error, libc::EIO);
    while submit(fd, 0, &stream(0, 100), &[handle], -1).is_ok() {}
    // The ring is full: no more can be called for, but those in stock are the program's.
    let made: Vec<_> = (0..5).map(|_| create_wide(fd, 0)).collect();
    assert!(made[..4].iter().all(Result::is_ok) && made[4] == Err(libc::EIO), "{made:?}");
    let path: &CStr = c"/dev/dri/renderD128";
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::open(path.as_ptr(), libc::O_RDWR) }, -1);
}
