//! Mode setting as a program does it: calls, events, commits.

use std::io;

use virgld_protocol::client::kms::{EventHead, EventVblank, IN_FENCE_FD, OUT_FENCE_PTR};
use zerocopy::FromBytes;

use crate::calls::*;

fn card() -> i32 {
    open(c"/dev/dri/card0")
}

/// Lists with room for less than there is, for more, and for nothing.
pub(crate) fn calls() {
    let fd = card();
    // SAFETY: an ioctl without an argument.
    unsafe { assert_eq!(libc::ioctl(fd, 0x641e, 0), 0, "SET_MASTER") };
    assert_eq!(drm(fd, 0x1f, &mut ()), Ok(()), "DROP_MASTER");

    let mut resources = [0_u32; 16];
    drm(fd, 0xa0, &mut resources).unwrap();
    assert_eq!((resources[8], resources[9], resources[13]), (0, 3, 8192));
    let mut crtcs = [99_u32; 4];
    let put = |resources: &mut [u32; 16], at: usize, list: *mut u32| {
        let [a, b, c, d, e, f, g, h] = (list as u64).to_le_bytes();
        (resources[at], resources[at + 1]) =
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    };
    put(&mut resources, 2, crtcs.as_mut_ptr());
    (resources[9], resources[10]) = (2, 1);
    drm(fd, 0xa0, &mut resources).unwrap();
    assert_eq!((crtcs, resources[9]), ([10, 11, 99, 99], 3), "no more than there is room for");
    resources[9] = 4;
    drm(fd, 0xa0, &mut resources).unwrap();
    assert_eq!((crtcs, resources[9]), ([10, 11, 12, 99], 3));

    let mut crtc = [0xee_u8; 104];
    drm(fd, 0xa1, &mut crtc).unwrap();
    assert_eq!(crtc[16..20], [5, 0, 0, 0], "what GETCRTC does not look at does not travel");

    let (mut modes, mut properties, mut values) = ([0_u8; 68], [0_u32; 2], [0_u64; 2]);
    let mut connector = [0_u64; 10];
    connector[1] = modes.as_mut_ptr() as u64;
    connector[2] = properties.as_mut_ptr() as u64;
    connector[4] = 1 | 2 << 32;
    drm(fd, 0xa7, &mut connector).unwrap();
    assert_eq!(connector[4], 1 | 1 << 32, "properties whose values are not wanted");
    assert_eq!((properties, modes[4], &modes[36..43]), ([0, 0], 128, &b"640x480"[..]));
    connector[3] = values.as_mut_ptr() as u64;
    connector[4] = 2 << 32;
    drm(fd, 0xa7, &mut connector).unwrap();
    assert_eq!((properties, values), ([7, 0], [77, 0]));
    close(fd);
}

fn flip(fd: i32, events: u32, user_data: u64) -> Result<(), i32> {
    drm(fd, 0xb0, &mut [10 | u64::from(events) << 32, 1, user_data])
}

/// Bytes read, or the error.
fn read(fd: i32, into: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: the room is ours.
    let got = unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap())
}

fn set_nonblocking(fd: i32) {
    // SAFETY: no memory.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) }, 0);
}

/// As from the kernel's DRM: whole events, several at a time, none lost to a buffer that is too small.
pub(crate) fn events() {
    let fd = card();
    flip(fd, 1, 42).unwrap();
    assert!(readable(fd, 5000));
    let mut bytes = [0_u8; 1024];
    assert_eq!(read(fd, &mut bytes[..8]), Ok(0), "no room: nothing, and the event stays");
    assert_eq!(read(fd, &mut bytes), Ok(32));
    let event = EventVblank::read_from_bytes(&bytes[..32]).unwrap();
    let head = EventHead { kind: EventHead::FLIP_COMPLETE, length: 32 };
    assert_eq!((event.head, event.user_data, event.crtc_id), (head, 42, 10));
    assert!(!readable(fd, 0));

    set_nonblocking(fd);
    assert_eq!(read(fd, &mut bytes), Err(libc::EAGAIN));
    assert_eq!(read(fd, &mut bytes[..8]), Err(libc::EAGAIN));
    flip(fd, 5, 43).unwrap();
    // The flip was answered before its events were sent: this call is behind them.
    get_cap(fd, 1).unwrap();
    assert_eq!(read(fd, &mut bytes[..63]), Ok(32), "one fits");
    assert_eq!(read(fd, &mut bytes[..100]), Ok(96), "three fit");
    assert_eq!(read(fd, &mut bytes), Ok(32));
    assert_eq!(read(fd, &mut []), Ok(0));

    let mut asked = 0_usize;
    let refused = loop {
        match flip(fd, 1, 0) {
            Ok(()) => asked += 1,
            Err(errno) => break errno,
        }
        assert!(asked < 1000, "events that nobody reads pile up");
    };
    assert_eq!(refused, libc::ENOMEM);
    assert!(asked >= 64, "{asked}");
    assert_eq!(drm(fd, 0xb0, &mut [10_u64, 0, 0]), Ok(()), "a flip without an event is not refused");
    get_cap(fd, 1).unwrap();
    let mut got = 0;
    while let Ok(count) = read(fd, &mut bytes) {
        got += count / 32;
    }
    assert_eq!(got, asked, "what was promised came");
    assert_eq!(flip(fd, 1, 0), Ok(()));
    close(fd);
}

/// Objects with as many properties as their number says.
fn commit(fd: i32, flags: u32, changes: &mut [(u32, u64)]) -> Result<(), i32> {
    let objects = [0_u32, u32::try_from(changes.len()).unwrap()];
    let (properties, values): (Vec<u32>, Vec<u64>) = changes.iter().copied().unzip();
    let lists = [objects.as_ptr() as u64, objects.as_ptr() as u64, properties.as_ptr() as u64];
    let count = 2 << 32;
    let mut call = [u64::from(flags) | count, lists[0], lists[1], lists[2], values.as_ptr() as u64, 0, 9];
    drm(fd, 0xbc, &mut call)
}

pub(crate) fn atomic() {
    let fd = card();
    assert_eq!(commit(fd, 0, &mut [(3, 3), (4, 4), (5, 5)]), Ok(()));
    assert_eq!(commit(fd, 0, &mut [(3, 4)]), Err(libc::ERANGE));
    assert_eq!(commit(fd, 0, &mut []), Ok(()));
    let handle = create(fd);
    let fences: Vec<i32> = (0..2).map(|_| submit(fd, 2, &stream(0, 4), &[handle], -1).unwrap()).collect();
    let mut out = [7_i32; 2];
    let place = |out: &mut i32| std::ptr::from_mut(out) as u64;
    let mut changes = [
        (IN_FENCE_FD, fences[0] as u64),
        (8, 8),
        (OUT_FENCE_PTR, place(&mut out[0])),
        (IN_FENCE_FD, fences[1] as u64),
        (OUT_FENCE_PTR, place(&mut out[1])),
    ];
    assert_eq!(commit(fd, 0, &mut changes), Ok(()));
    for fence in out {
        assert!(fence >= 0 && readable(fence, 5000));
        assert_eq!(fence_status(fence), Ok(1));
        close(fence);
    }
    assert_eq!(commit(fd, 0, &mut [(IN_FENCE_FD, u64::MAX), (OUT_FENCE_PTR, 0)]), Ok(()));
    let mut refused = 7;
    let mut changes = [(OUT_FENCE_PTR, place(&mut refused)), (3, 4)];
    assert_eq!((commit(fd, 0, &mut changes), refused), (Err(libc::ERANGE), -1));
    assert_eq!(commit(fd, 0, &mut [(IN_FENCE_FD, 999)]), Err(libc::EINVAL));
    fences.into_iter().for_each(close);
    // A list that is not there.
    assert_eq!(drm(fd, 0xbc, &mut [1_u64 << 32, 0, 0, 0, 0, 0, 0]), Err(libc::EFAULT));
    close(fd);
}

/// Waits for an event that never comes, because the daemon goes.
pub(crate) fn reader() {
    let fd = card();
    let handle = create(fd);
    // Says that it is about to read.
    submit(fd, 0, &stream(0, 4), &[handle], -1).unwrap();
    assert_eq!(read(fd, &mut [0; 1024]), Err(libc::ENODEV));
    assert_eq!(read(fd, &mut [0; 8]), Err(libc::ENODEV));
}
