//! PRIME: a buffer as a file descriptor. The kernel makes descriptors unforgeable; who holds one was given it.

use virgld_protocol::client::{Call, PrimeFdToHandle, PrimeHandleToFd, Reply};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, ExportKey};
use virgld_protocol::rights::Rights;

use crate::file::Origin;
use crate::state::{Caller, Effect, Outcome, State};

impl State {
    pub(crate) fn prime_export(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        /// `DRM_CLOEXEC` and `DRM_RDWR`.
        const FLAGS: u32 = 0o2000000 | 0o2;
        const BAD_FLAGS: Refusal = Refusal::new(Errno::EINVAL, "unknown flags");
        const MAPPED: Refusal =
            Refusal::new(Errno::ENOMEM, "its memory is mapped as a part of the arena: create it as shared");
        let asked = call.parse::<PrimeHandleToFd>()?.fixed;
        if asked.flags & !FLAGS != 0 {
            return Err(BAD_FLAGS);
        }
        let resource = self.file(caller.file)?.with_rights(asked.handle, Rights::SHARE)?.resource;
        match self.buffers.get(&resource) {
            Some(buffer) if buffer.backing.isolated && !buffer.stale => {
                self.export(caller.file, asked.handle)
            }
            Some(buffer) if buffer.mapped && !buffer.stale => Err(MAPPED),
            _ => {
                self.await_isolation(caller, asked.handle, resource, effects);
                Ok(Outcome::Later)
            }
        }
    }

    /// Gives out a descriptor for a buffer whose memory holds nothing else.
    pub(crate) fn export(&mut self, id: FileId, handle: u32) -> Result<Outcome, Refusal> {
        const GONE: Refusal = Refusal::new(Errno::ENOENT, "the buffer is gone");
        let fresh = ExportKey(self.fresh());
        let resource = self.file(id)?.with_rights(handle, Rights::SHARE)?.resource;
        let buffer = self.buffers.get_mut(&resource).ok_or(GONE)?;
        let export = *buffer.export.get_or_insert(fresh);
        let memory = buffer.backing.region.memory.clone();
        self.exports.insert(export, resource);
        Ok(Outcome::AnswerWith(
            Reply::fixed(&PrimeHandleToFd { handle, flags: 0, fd: -1 }),
            Attach::Buffer { export, memory },
        ))
    }

    pub(crate) fn prime_import(
        &mut self,
        id: FileId,
        call: &Call,
        attached: Option<Attached>,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        // What Linux says of a descriptor that is no dma-buf, or one of another device.
        const NOT_OURS: Refusal = Refusal::new(Errno::EINVAL, "the descriptor is no buffer of this device");
        let asked = call.parse::<PrimeFdToHandle>()?.fixed;
        let Some(Attached::Buffer(export)) = attached else { return Err(NOT_OURS) };
        let resource = *self.exports.get(&export).ok_or(NOT_OURS)?;
        let rights = self.buffers.get(&resource).ok_or(NOT_OURS)?.offer;
        let file = self.file(id)?;
        let (handle, fresh) = file.enter(resource, rights, Origin::Derived(export));
        let usable = file.context.is_open() && rights.contains(Rights::EXECUTE);
        if fresh {
            if let Some(buffer) = self.buffers.get_mut(&resource) {
                buffer.holders.push(id);
            }
            if usable {
                self.attach(id, resource, effects);
            }
        }
        let fixed = PrimeFdToHandle { handle: handle.0, ..asked };
        Ok(Outcome::Answer(Reply::fixed(&fixed)))
    }
}
