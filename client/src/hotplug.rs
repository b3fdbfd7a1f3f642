//! Displays that change, as libudev hears of them.
//!
//! libudev's monitor is a netlink socket that only the kernel and udevd can send to. A monitor that asks for nothing but
//! `drm` gets another descriptor in the socket's place: one of inotify, which becomes readable when the daemon writes to
//! a file of its runtime directory. Polling, passing on, duplicating and closing it is then the kernel's affair. What is
//! left is `recvmsg`, which a descriptor of inotify does not know, and `recv`, by which newer libudevs ask for the length:
//! there libudev is given the message that udevd would have sent.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use virgld_protocol::channel::{CARD, HOTPLUG};
use virgld_protocol::errno::Errno;
use virgld_protocol::pci::DEVICE_PATH;

use crate::errno::Outcome;
use crate::nodes::{MAJOR, Node};
use crate::settings::settings;
use crate::sys;

/// Puts a descriptor that tells of our displays in the place of `monitor`.
pub(crate) fn take_over(monitor: RawFd) -> Outcome<()> {
    let path = settings().and_then(|settings| settings.file(HOTPLUG)).ok_or(Errno::ENODEV)?;
    replace(monitor, &path)
}

fn replace(monitor: RawFd, path: &CStr) -> Outcome<()> {
    let fd = sys::watch_file(path)?;
    let replaced = sys::put_in_place(fd, monitor);
    sys::close(fd);
    replaced
}

/// Whether this monitor's descriptor is one of ours: libudev's own are sockets.
pub(crate) fn is_taken_over(fd: RawFd) -> bool {
    sys::path_of(fd).is_some_and(|path| path.ends_with(b"inotify"))
}

/// The length of the message that is there to be received.
pub(crate) fn length(fd: RawFd) -> Outcome<usize> {
    if !is_taken_over(fd) {
        return Err(Errno(libc::ENOTSOCK));
    }
    if sys::poll(fd, libc::POLLIN, 0) & libc::POLLIN == 0 {
        return Err(Errno::EAGAIN);
    }
    Ok(change(SEQUENCE.load(Ordering::Relaxed)).len())
}

/// What udevd would have sent, if a display has changed since it was asked last. Gives the bytes of the message, which
/// are fewer than it has where there is no room for all.
///
/// # Safety
///
/// `message` is as `recvmsg` demands.
pub(crate) unsafe fn receive(fd: RawFd, message: *mut libc::msghdr) -> Outcome<usize> {
    if !is_taken_over(fd) {
        return Err(Errno(libc::ENOTSOCK));
    }
    sys::drain(fd)?;
    let text = change(SEQUENCE.fetch_add(1, Ordering::Relaxed));
    // SAFETY: the caller's promise.
    let message = unsafe { &mut *message };
    message.msg_flags = 0;
    // SAFETY: the caller's promise.
    let taken = unsafe { fill(message, &text) };
    // SAFETY: the caller's promise.
    unsafe { sign(message) };
    Ok(taken)
}

/// Puts `text` where the message's parts are to be.
///
/// # Safety
///
/// As `recvmsg` demands of what the message names.
unsafe fn fill(message: &mut libc::msghdr, text: &[u8]) -> usize {
    let mut rest = text;
    for index in 0..message.msg_iovlen {
        // SAFETY: so many parts are there, by the caller's promise.
        let part = unsafe { &*message.msg_iov.add(index) };
        let (now, later) = rest.split_at(rest.len().min(part.iov_len));
        if !now.is_empty() {
            // SAFETY: the part has room for as much.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), part.iov_base.cast(), now.len()) };
        }
        rest = later;
    }
    if !rest.is_empty() {
        message.msg_flags |= libc::MSG_TRUNC;
    }
    text.len() - rest.len()
}

/// Says that it is from udevd, which is root's. libudev believes nobody else.
///
/// # Safety
///
/// As `recvmsg` demands of what the message names.
unsafe fn sign(message: &mut libc::msghdr) {
    // SAFETY: all zero is a value of it.
    let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    sender.nl_family = FAMILY;
    sender.nl_groups = GROUP_OF_UDEVD;
    if !message.msg_name.is_null() {
        let length = size_of_val(&sender).min(message.msg_namelen as usize);
        let from = (&raw const sender).cast::<u8>();
        // SAFETY: the caller has so much room there.
        unsafe { std::ptr::copy_nonoverlapping(from, message.msg_name.cast(), length) };
        message.msg_namelen = SENDER;
    }
    // SAFETY: computes sizes.
    let (whole, length) = unsafe { (libc::CMSG_SPACE(CREDENTIALS), libc::CMSG_LEN(CREDENTIALS)) };
    if message.msg_control.is_null() || message.msg_controllen < whole as usize {
        message.msg_controllen = 0;
        return;
    }
    message.msg_controllen = whole as usize;
    // SAFETY: there is room for a header and the credentials.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_CREDENTIALS;
        (*header).cmsg_len = length as usize;
        let root = libc::ucred { pid: 0, uid: 0, gid: 0 };
        libc::CMSG_DATA(header).cast::<libc::ucred>().write_unaligned(root);
    }
}

/// udevd's message: a header, by which sockets filter, and the properties of the device and of what happened to it.
fn change(sequence: u64) -> Vec<u8> {
    let device = DEVICE_PATH.trim_start_matches("/sys");
    let minor = Node::Card.minor();
    let properties = format!(
        "ACTION=change\0DEVPATH={device}/virtio0/drm/{CARD}\0SUBSYSTEM=drm\0HOTPLUG=1\0DEVNAME=/dev/dri/{CARD}\0\
         DEVTYPE=drm_minor\0SEQNUM={sequence}\0MAJOR={MAJOR}\0MINOR={minor}\0"
    );
    let mut message = b"libudev\0".to_vec();
    message.extend(MAGIC.to_be_bytes());
    let length = u32::try_from(properties.len()).unwrap_or(u32::MAX);
    for word in [HEADER, HEADER, length, 0, 0, 0, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(properties.as_bytes());
    message
}

/// Numbers of events begin at 1.
static SEQUENCE: AtomicU64 = AtomicU64::new(1);

const FAMILY: libc::sa_family_t = 16;
const GROUP_OF_UDEVD: u32 = 2;
const SENDER: libc::socklen_t = 12;
const CREDENTIALS: u32 = 12;
/// Of the version of the header.
const MAGIC: u32 = 0xfeed_cafe;
/// Bytes of the header.
const HEADER: u32 = 40;

#[cfg(test)]
mod tests {
    use std::ffi::{CString, c_void};
    use std::fs;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    struct Received {
        length: Outcome<usize>,
        bytes: Vec<u8>,
        sender: [u8; 12],
        control: [u64; 8],
        flags: i32,
    }

    fn receive_from(fd: RawFd, room: usize) -> Received {
        let (mut bytes, mut sender, mut control) = (vec![0; room], [0_u8; 12], [0_u64; 8]);
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast::<c_void>(), iov_len: room };
        // SAFETY: all zero is a value of it.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_name = sender.as_mut_ptr().cast();
        message.msg_namelen = 12;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: what the message names is there.
        let length = unsafe { receive(fd, &raw mut message) };
        Received { length, bytes, sender, control, flags: message.msg_flags }
    }

    #[test]
    fn a_monitor_hears_of_a_change_once_and_believes_it() {
        let path = std::env::temp_dir().join(format!("virgld-hotplug-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let name = CString::new(path.to_str().unwrap()).unwrap();
        let monitor: OwnedFd = UnixDatagram::unbound().unwrap().into();
        let fd = monitor.as_raw_fd();
        assert!(!is_taken_over(fd));
        assert_eq!(receive_from(fd, 100).length, Err(Errno(libc::ENOTSOCK)));
        replace(fd, &name).unwrap();
        assert!(is_taken_over(fd));
        assert_eq!((receive_from(fd, 8192).length, length(fd)), (Err(Errno::EAGAIN), Err(Errno::EAGAIN)));
        fs::write(&path, "1").unwrap();
        fs::write(&path, "2").unwrap();
        let expected = length(fd);
        let heard = receive_from(fd, 8192);
        assert_eq!(heard.length, expected);
        let text = &heard.bytes[..heard.length.unwrap()];
        assert!(text.starts_with(b"libudev\0\xfe\xed\xca\xfe\x28\0\0\0\x28\0\0\0"));
        assert_eq!(text[20..24], u32::try_from(text.len() - 40).unwrap().to_ne_bytes());
        let properties: Vec<&[u8]> = text[40..].split(|byte| *byte == 0).collect();
        for property in [&b"ACTION=change"[..], b"SUBSYSTEM=drm", b"HOTPLUG=1", b"DEVNAME=/dev/dri/card0"] {
            assert!(properties.contains(&property), "{}", text.escape_ascii());
        }
        assert_eq!(heard.sender, [16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        // Length, level and kind, process and user, group.
        assert_eq!(heard.control[..4], [28, 1 | 2 << 32, 0, 0]);
        assert_eq!(heard.flags, 0);
        assert_eq!(receive_from(fd, 8192).length, Err(Errno::EAGAIN), "told twice");
        fs::write(&path, "3").unwrap();
        let short = receive_from(fd, 10);
        assert_eq!((short.length, short.flags), (Ok(10), libc::MSG_TRUNC));
        fs::remove_file(&path).unwrap();
    }
}
