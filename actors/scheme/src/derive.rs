//! Capabilities that were derived from others: what they give, and taking them back.
//!
//! Who makes a buffer holds it with all rights, and is the only one who may narrow what others get, or take it back.
//! The kernel passes descriptors on without telling us, and all descriptors of a buffer are one file: so whatever was
//! imported derives from the buffer's maker, through however many hands the descriptor went.

use virgld_protocol::client::Reply;
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::door::Command;
use virgld_protocol::message::resource::Request;
use virgld_protocol::message::{context, display};
use virgld_protocol::rights::Rights;
use virgld_runtime::Time;

use crate::buffer::Parting;
use crate::create::Awaited;
use crate::file::Origin;
use crate::state::{Caller, Effect, Outcome, State};

const NOT_YOURS_TO_GIVE: Refusal = Refusal::new(Errno::EACCES, "another file made that buffer");

impl State {
    /// From now on, who imports a buffer gets these rights.
    pub(crate) fn restrict(&mut self, id: FileId, handle: u32, rights: u32) -> Result<Outcome, Refusal> {
        const NO_RIGHTS: Refusal = Refusal::new(Errno::EINVAL, "unknown rights, or a descriptor without MAP");
        const WIDER: Refusal = Refusal::new(Errno::EACCES, "nobody gives more than they have");
        let rights =
            Rights::from_bits(rights).filter(|rights| rights.contains(Rights::MAP)).ok_or(NO_RIGHTS)?;
        let entry = self.file(id)?.entry(handle)?;
        if entry.origin != Origin::Own {
            return Err(NOT_YOURS_TO_GIVE);
        }
        if !entry.rights.contains(rights) {
            return Err(WIDER);
        }
        let resource = entry.resource;
        if let Some(buffer) = self.buffers.get_mut(&resource) {
            buffer.offer = rights;
        }
        Ok(Outcome::Answer(Reply::empty()))
    }

    /// Takes back all that was derived from a handle. Others' handles go at once; the answer comes when the buffer's
    /// memory is where they cannot see it.
    pub(crate) fn revoke(
        &mut self,
        now: Time,
        id: FileId,
        token: Token,
        handle: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let entry = self.file(id)?.entry(handle)?;
        if entry.origin != Origin::Own {
            return Err(NOT_YOURS_TO_GIVE);
        }
        let resource = entry.resource;
        let Some(buffer) = self.buffers.get_mut(&resource) else {
            return Ok(Outcome::Answer(Reply::empty()));
        };
        let others: Vec<FileId> = buffer.holders.iter().copied().filter(|holder| *holder != id).collect();
        // Also of those that have closed their handle the contexts may have something of it.
        let former = std::mem::take(&mut buffer.borrowers).into_iter().filter(|it| !others.contains(it));
        let former: Vec<FileId> = former.collect();
        let export = buffer.export.take();
        if export.is_none()
            && others.is_empty()
            && former.is_empty()
            && buffer.framebuffers == 0
            && self.shown.is_empty()
        {
            // Nobody ever got anything, or all of it is gone.
            return Ok(Outcome::Answer(Reply::empty()));
        }
        // What lies in the maker's arena, nobody else could map.
        let isolated = buffer.backing.isolated;
        buffer.stale = isolated;
        if let Some(export) = export {
            self.exports.remove(&export);
            effects.push(Effect::Door(Command::ForgetExport { export }));
        }
        for other in others {
            self.take_away(other, resource, effects);
        }
        for borrower in former {
            self.tell_context(borrower, context::Request::Revoke { resource }, effects);
        }
        self.shown.values_mut().filter(|call| call.file != id).for_each(|call| call.revoked = true);
        effects.push(Effect::Display(display::Request::Revoked { resource, maker: id }));
        if !isolated {
            return Ok(Outcome::Answer(Reply::empty()));
        }
        let caller = Caller { now, file: id, token: Some(token) };
        let parked = self.park(caller, Awaited::Revocation(resource));
        effects.push(Effect::Resource(Request::Move { token: parked, resource }));
        Ok(Outcome::Later)
    }

    /// A file loses its handle for a buffer.
    fn take_away(&mut self, id: FileId, resource: ResourceId, effects: &mut Vec<Effect>) {
        let Some(handle) = self.files.get(&id).and_then(|file| file.handle_of(resource)) else { return };
        // It has just been found.
        let _ = self.close_handle(id, handle.0, Parting::Revoked, effects);
    }
}
