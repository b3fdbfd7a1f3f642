//! Descriptors that go and come: what is made for an answer, and what a client's is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use virgld_protocol::channel::Mapped;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, DoorEvent, SyncobjKey};
use virgld_runtime::Fault;
use virgld_runtime::memory::Memory;

use super::actor::Door;
use super::answer::errno_of;
use super::fences::{Fences, Identity, result_of};
use super::token::Source;
use crate::host::memory::SharedMemory;
use crate::host::reactor::{Interest, Trigger};

/// A descriptor on its way to a client.
pub(super) struct Given {
    descriptor: Descriptor,
    /// Goes with it, if it is memory to map.
    pub(super) mapped: Option<Mapped>,
}

enum Descriptor {
    Own(OwnedFd),
    Of(Arc<SharedMemory>),
}

impl AsFd for Given {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.descriptor {
            Descriptor::Own(descriptor) => descriptor.as_fd(),
            Descriptor::Of(memory) => memory.fd(),
        }
    }
}

impl Door {
    /// Makes the descriptor that goes with an answer, or says why there can be none.
    pub(super) fn give(&mut self, attach: Attach) -> Result<Result<Given, Errno>, Fault> {
        let own = |made: Result<OwnedFd, rustix::io::Errno>| {
            made.map(|made| Given { descriptor: Descriptor::Own(made), mapped: None }).map_err(errno_of)
        };
        Ok(match attach {
            Attach::Buffer { export, memory } => {
                shared(memory).and_then(|memory| own(self.exports.open_buffer(export, &memory)))
            }
            Attach::Fence { result: Some(result), .. } => own(Fences::signalled(result)),
            Attach::Fence { fence, result: None } => own(self.fences.open(fence)),
            Attach::Syncobj(syncobj) => {
                let made = self.give_syncobj(syncobj);
                if made.is_err() && !self.exports.has_syncobj(syncobj) {
                    self.tell(DoorEvent::SyncobjUnused { syncobj })?;
                }
                own(made)
            }
            Attach::Memory { memory, mapped } => shared(memory)
                .map(|memory| Given { descriptor: Descriptor::Of(memory), mapped: Some(mapped) }),
        })
    }

    fn give_syncobj(&mut self, key: SyncobjKey) -> Result<OwnedFd, rustix::io::Errno> {
        let (registrar, sinks) = (&self.registrar, &self.sinks);
        self.exports.open_syncobj(key, |writing| {
            let token = Source::Syncobj(key.0).pack();
            registrar.register(writing, Interest::Write, Trigger::Edge, token, sinks())
        })
    }

    /// What a descriptor is that came with a call. It is known by the file it refers to: whoever has that was given
    /// it.
    pub(super) fn recognise(&mut self, file: FileId, descriptor: OwnedFd) -> Attached {
        let Some((identity, pipe)) = Identity::of(&descriptor) else { return Attached::Unknown };
        if let Some(export) = self.exports.find_buffer(identity) {
            return Attached::Buffer(export);
        }
        if let Some(syncobj) = self.exports.find_syncobj(identity) {
            return Attached::Syncobj(syncobj);
        }
        if let Some(fence) = self.fences.find(identity)
            && !self.is_in_stock(fence)
        {
            return Attached::Fence(fence);
        }
        if pipe { self.watch_foreign(file, descriptor) } else { Attached::Unknown }
    }

    /// Whether no call has named this fence yet. The client may have given it away: the call that it belongs to is in a ring
    /// then, and waits there for its turn.
    fn is_in_stock(&self, fence: FenceKey) -> bool {
        self.files.values().any(|file| file.stock.values().any(|of_stock| *of_stock == fence))
    }

    /// A fence of somebody else's, one of ours that signalled long ago, or one of which the scheme has not heard yet.
    fn watch_foreign(&mut self, file: FileId, descriptor: OwnedFd) -> Attached {
        let fence = self.fences.fresh();
        if let Some(result) = result_of(descriptor.as_fd()) {
            self.signalled.push((fence, result));
            return Attached::ForeignFence(fence);
        }
        let Some(open) = self.files.get_mut(&file) else { return Attached::Unknown };
        if open.watched.len() >= self.limits.file.foreign_fences {
            return Attached::Unknown;
        }
        let (source, token) = (Arc::new(descriptor), Source::Fence(fence.0).pack());
        let watch =
            self.registrar.register(source.clone(), Interest::Read, Trigger::Edge, token, (self.sinks)());
        let Ok(watch) = watch else { return Attached::Unknown };
        open.watched.push(fence);
        self.fences.watch(fence, file, source, watch);
        Attached::ForeignFence(fence)
    }

    /// Reports foreign fences that had signalled when they came: after the call that they came with.
    pub(super) fn tell_signalled(&mut self) -> Result<(), Fault> {
        for (fence, result) in std::mem::take(&mut self.signalled) {
            self.tell(DoorEvent::FenceSignalled { fence, result })?;
        }
        Ok(())
    }

    /// A foreign fence that is watched may have signalled.
    pub(super) fn foreign_fence_ready(&mut self, fence: u64) -> Result<(), Fault> {
        let fence = FenceKey(fence);
        let Some((file, result)) = self.fences.take_foreign(fence) else { return Ok(()) };
        if let Some(open) = self.files.get_mut(&file) {
            open.watched.retain(|other| *other != fence);
        }
        self.tell(DoorEvent::FenceSignalled { fence, result })
    }
}

/// The file behind a memory. Memory without one cannot be shared with another process.
fn shared(memory: Arc<dyn Memory>) -> Result<Arc<SharedMemory>, Errno> {
    memory.as_any().downcast().map_err(|_| Errno::ENODEV)
}
