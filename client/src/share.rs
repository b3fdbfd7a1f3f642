//! What DRM has no ioctl for: saying what others may do with a buffer that this process shares, and taking it back.
//! A program finds these functions by `dlsym`; on Linux's own driver they are not there.

use std::ffi::c_int;

use virgld_protocol::channel::{SERVICE_RESTRICT, SERVICE_REVOKE};
use virgld_protocol::errno::Errno;
use zerocopy::IntoBytes;

use crate::errno::{Outcome, answer};
use crate::process;

/// From now on, whoever imports the buffer gets `rights` (a sum of `virgld_protocol::rights::Rights`) and no more.
/// 0, or -1 with `errno`: ENOENT for no such handle, EACCES for a buffer that another file made or rights that one
/// lacks, EINVAL for unknown rights.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn virgld_restrict(fd: c_int, handle: u32, rights: u32) -> c_int {
    answer(-1, || service(fd, SERVICE_RESTRICT, [handle, rights].as_bytes()))
}

/// Takes a buffer back from all others: their handles go, and its memory moves to where they cannot see it. What this
/// process had mapped must be mapped again. 0, or -1 with `errno`: as above, and ENOMEM if there is no other memory:
/// then their handles are gone, but what they mapped is still the buffer's memory.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn virgld_revoke(fd: c_int, handle: u32) -> c_int {
    answer(-1, || service(fd, SERVICE_REVOKE, handle.as_bytes()))
}

fn service(fd: c_int, number: u8, payload: &[u8]) -> Outcome<c_int> {
    let channel = process::channel_of(fd)?.ok_or(Errno::ENODEV)?;
    channel.service(number, payload, &[]).map(|_| 0)
}
