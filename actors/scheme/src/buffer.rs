//! Buffers: who names them, and when nobody does any more.

use virgld_protocol::client::{Call, GemClose, Reply, ResourceInfo};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId, Serial};
use virgld_protocol::message::context;
use virgld_protocol::message::door::Command;
use virgld_protocol::message::resource::{Backing, Request, Shape};
use virgld_protocol::message::scheme::ExportKey;
use virgld_protocol::rights::Rights;

use crate::state::{Effect, Outcome, State};

/// A resource that some file names, or that a descriptor outside does.
pub(crate) struct Buffer {
    pub(crate) backing: Backing,
    /// Files that name it, and contexts that may still.
    pub(crate) holders: Vec<FileId>,
    /// Files that did not make it, and whose contexts could name it at some time: they may have views of it and the like.
    pub(crate) borrowers: Vec<FileId>,
    /// Files that name it no more, but whose contexts may have work under way that does.
    pub(crate) leaving: Vec<FileId>,
    /// What it is.
    pub(crate) shape: Shape,
    /// Framebuffers of the display that name it.
    pub(crate) framebuffers: usize,
    /// Work under way, of files that name it no more.
    pub(crate) last_uses: Vec<(FileId, Serial)>,
    /// The key of the descriptor that was given out for it.
    pub(crate) export: Option<ExportKey>,
    /// What who imports it gets.
    pub(crate) offer: Rights,
    /// Its memory is that of descriptors which were taken back: it must move before there can be another.
    pub(crate) stale: bool,
    /// MAP was called for it: some client may see its memory.
    pub(crate) mapped: bool,
    /// Nothing but copies to and from other buffers is done with it: the device is through with it when it has
    /// executed them.
    pub(crate) staging: bool,
    /// The result of a query comes in it.
    pub(crate) query: bool,
}

impl Buffer {
    /// Whether anybody in the daemon names it.
    fn is_named(&self) -> bool {
        !self.holders.is_empty() || !self.leaving.is_empty() || self.framebuffers > 0
    }
}

/// How a file comes to name a buffer no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It closed its handle: its context finishes what it has under way.
    Closed,
    /// The handle was taken away.
    Revoked,
}

impl State {
    pub(crate) fn info(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        let asked = call.parse::<ResourceInfo>()?.fixed;
        let resource = self.file(file)?.entry(asked.bo_handle)?.resource;
        let length = self.buffers.get(&resource).map_or(0, |buffer| buffer.backing.length);
        let size = u32::try_from(length).unwrap_or(u32::MAX);
        let fixed = ResourceInfo { res_handle: resource.0, size, blob_mem: 0, ..asked };
        Ok(Outcome::Answer(Reply::fixed(&fixed)))
    }

    pub(crate) fn gem_close(
        &mut self,
        file: FileId,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let handle = call.parse::<GemClose>()?.fixed.handle;
        self.close_handle(file, handle, Parting::Closed, effects)?;
        Ok(Outcome::Answer(Reply::empty()))
    }

    /// A file gives a handle up, or has to.
    pub(crate) fn close_handle(
        &mut self,
        file: FileId,
        handle: u32,
        parting: Parting,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        // Linux says EINVAL here, not ENOENT.
        const NO_HANDLE: Refusal = Refusal::new(Errno::EINVAL, "the file has no such handle");
        let open = self.file(file)?;
        let entry = open.close(handle).ok_or(NO_HANDLE)?;
        let under_way = (entry.last_use > open.reached.complete).then_some((file, entry.last_use));
        if let Some(buffer) = self.buffers.get_mut(&entry.resource) {
            buffer.last_uses.retain(|(file, serial)| {
                self.files.get(file).is_some_and(|it| *serial > it.reached.complete)
            });
            buffer.last_uses.extend(under_way);
        }
        let attached = entry.rights.contains(Rights::EXECUTE);
        self.leave(file, entry.resource, attached, parting, effects);
        Ok(())
    }

    /// A file names a buffer no more. Its context may have work under way that does: the buffer goes when that
    /// is on its way to the device, where everything happens in order.
    fn leave(
        &mut self,
        file: FileId,
        resource: ResourceId,
        attached: bool,
        parting: Parting,
        effects: &mut Vec<Effect>,
    ) {
        let Some(buffer) = self.buffers.get_mut(&resource) else { return };
        buffer.holders.retain(|holder| *holder != file);
        let has_context = self.files.get(&file).is_some_and(|file| file.context.is_open());
        if has_context && attached {
            buffer.leaving.push(file);
            let request = match parting {
                Parting::Closed => context::Request::Detach { resource },
                Parting::Revoked => context::Request::Revoke { resource },
            };
            effects.push(Effect::Context(file, request));
        } else {
            self.release_if_unnamed(resource, effects);
        }
    }

    /// Tells the context of a file something, if there is one.
    pub(crate) fn tell_context(&self, id: FileId, what: context::Request, effects: &mut Vec<Effect>) {
        if self.files.get(&id).is_some_and(|file| file.context.is_open()) {
            effects.push(Effect::Context(id, what));
        }
    }

    /// The context of a file cannot name a buffer any more.
    pub(crate) fn dropped(&mut self, file: FileId, resource: ResourceId, effects: &mut Vec<Effect>) {
        let Some(buffer) = self.buffers.get_mut(&resource) else { return };
        if let Some(index) = buffer.leaving.iter().position(|leaving| *leaving == file) {
            buffer.leaving.swap_remove(index);
        }
        self.release_if_unnamed(resource, effects);
    }

    /// The context of a file died: nothing that it had under way can name anything.
    pub(crate) fn drop_all(&mut self, file: FileId, effects: &mut Vec<Effect>) {
        let named = self.buffers.iter().filter(|(_, buffer)| buffer.leaving.contains(&file));
        for resource in named.map(|(resource, _)| *resource).collect::<Vec<_>>() {
            if let Some(buffer) = self.buffers.get_mut(&resource) {
                buffer.leaving.retain(|leaving| *leaving != file);
            }
            self.release_if_unnamed(resource, effects);
        }
    }

    pub(crate) fn release_if_unnamed(&mut self, resource: ResourceId, effects: &mut Vec<Effect>) {
        let Some(buffer) = self.buffers.get(&resource) else { return };
        if buffer.is_named() {
            return;
        }
        match buffer.export {
            // A descriptor may be under way to another process, or kept for later.
            Some(export) => effects.push(Effect::Door(Command::WatchExport { export })),
            None => {
                self.distant.remove(&resource);
                let borrowers = self.buffers.remove(&resource).map(|buffer| buffer.borrowers);
                for borrower in borrowers.unwrap_or_default() {
                    self.tell_context(borrower, context::Request::Forget { resource }, effects);
                }
                effects.push(Effect::Resource(Request::Release { resource }));
            }
        }
    }

    /// No descriptor of an exported buffer is left outside.
    pub(crate) fn export_unused(&mut self, export: ExportKey, effects: &mut Vec<Effect>) {
        let Some(resource) = self.exports.get(&export).copied() else { return };
        let Some(buffer) = self.buffers.get_mut(&resource) else { return };
        if buffer.is_named() {
            // It was imported in the meantime.
            return;
        }
        buffer.export = None;
        self.exports.remove(&export);
        effects.push(Effect::Door(Command::ForgetExport { export }));
        self.release_if_unnamed(resource, effects);
    }

    /// Mesa looks for the result of a query until it is there, for ever if need be. A context that is lost has none: a
    /// result of nothing is put in its place.
    pub(crate) fn end_query(&self, file: FileId, resource: ResourceId) {
        if self.files.get(&file).is_some_and(|file| file.lost) {
            self.answer_query(resource);
        }
    }

    /// Puts a result of nothing where that of a query is waited for.
    pub(crate) fn answer_query(&self, resource: ResourceId) {
        const DONE: u32 = 1;
        let Some(buffer) = self.buffers.get(&resource).filter(|buffer| buffer.query) else { return };
        let Ok(offset) = usize::try_from(buffer.backing.offset) else { return };
        // `struct virgl_host_query_state`: the state, the size of the result, the result.
        let mut state = [0; 16];
        state[..4].copy_from_slice(&DONE.to_le_bytes());
        // A backing has a page at least, so this is inside.
        let _ = buffer.backing.region.memory.write(offset, &state);
    }

    /// The device refused a resource. What draws with it fails on the host; the files that name it are told in
    /// their statistics, since no ioctl is left to answer.
    pub(crate) fn resource_failed(&mut self, resource: ResourceId) {
        let holders = self.buffers.get(&resource).map(|buffer| buffer.holders.clone()).unwrap_or_default();
        for holder in holders {
            if let Some(file) = self.files.get_mut(&holder) {
                file.errors += 1;
            }
        }
    }
}
