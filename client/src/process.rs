//! The channels of this process, one per DRM file that it uses.
//!
//! After `fork` the child begins anew: the state is left behind (a lock of it may have been held by a thread
//! that the child does not have) and its descriptors are closed.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};

use crate::channel::Channel;
use crate::errno::Outcome;
use crate::{nodes, own, sys};

#[derive(Default)]
struct State {
    channels: RwLock<Vec<Arc<Channel>>>,
    /// Held while a channel is opened, so that a file gets one and not two.
    opening: Mutex<()>,
}

static STATE: AtomicPtr<State> = AtomicPtr::new(ptr::null_mut());
static FORK_HANDLER: Once = Once::new();

/// The channel for the DRM file `fd`; nothing if it is none.
pub(crate) fn channel_of(fd: RawFd) -> Outcome<Option<Arc<Channel>>> {
    let Ok(status) = sys::fstat(fd) else { return Ok(None) };
    if status.st_mode & libc::S_IFMT != libc::S_IFSOCK {
        return Ok(None);
    }
    let state = state();
    let inode = status.st_ino;
    if let Some(channel) = state.find(inode) {
        return Ok(Some(channel));
    }
    let Some(node) = nodes::recognise(fd) else { return Ok(None) };
    let _opening = state.opening.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(channel) = state.find(inode) {
        return Ok(Some(channel));
    }
    let channel = Arc::new(Channel::open(fd, inode, node)?);
    state.channels.write().unwrap_or_else(PoisonError::into_inner).push(channel.clone());
    Ok(Some(channel))
}

/// Whether this process has used a DRM file at all.
pub(crate) fn uses_any() -> bool {
    !STATE.load(Ordering::Acquire).is_null()
}

/// Any channel that lives.
pub(crate) fn any_channel() -> Option<Arc<Channel>> {
    let channels = state().channels.read().unwrap_or_else(PoisonError::into_inner);
    channels.iter().find(|channel| channel.lives()).cloned()
}

/// The channel to the file that the fence `fd` is of.
pub(crate) fn channel_of_fence(fd: RawFd) -> Option<Arc<Channel>> {
    let status = sys::fstat(fd).ok().filter(|status| status.st_mode & libc::S_IFMT == libc::S_IFIFO)?;
    let channels = state().channels.read().unwrap_or_else(PoisonError::into_inner);
    let remembers = |channel: &&Arc<Channel>| {
        channel.fences.lock().unwrap_or_else(PoisonError::into_inner).has(status.st_ino)
    };
    channels.iter().find(remembers).cloned()
}

/// Lets go of channels whose file is closed. One that was given up is kept while the daemon has its end: its file stays
/// lost.
pub(crate) fn sweep() {
    let mut channels = state().channels.write().unwrap_or_else(PoisonError::into_inner);
    channels.retain(|channel| !channel.is_over());
}

impl State {
    fn find(&self, inode: u64) -> Option<Arc<Channel>> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels.iter().find(|channel| channel.inode == inode).cloned()
    }
}

fn state() -> &'static State {
    FORK_HANDLER.call_once(|| {
        // SAFETY: the handler only stores a pointer and closes descriptors.
        unsafe { libc::pthread_atfork(None, None, Some(begin_anew)) };
    });
    let mut state = STATE.load(Ordering::Acquire);
    if state.is_null() {
        let new = Box::into_raw(Box::<State>::default());
        match STATE.compare_exchange(state, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => state = new,
            Err(other) => {
                // SAFETY: it was made here and nobody has seen it.
                drop(unsafe { Box::from_raw(new) });
                state = other;
            }
        }
    }
    // SAFETY: it came from `Box::into_raw` and is never freed.
    unsafe { &*state }
}

extern "C" fn begin_anew() {
    STATE.store(ptr::null_mut(), Ordering::Release);
    own::close_all();
}
