//! TRANSFER_TO_HOST and TRANSFER_FROM_HOST.

use virgld_protocol::client::{Box3d, Call, Reply, TransferFromHost, TransferToHost};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, Serial};
use virgld_protocol::message::context::Request;
use virgld_protocol::message::ctrlq::Transfer;
use virgld_protocol::rights::Rights;

use crate::state::{Effect, Outcome, State};

impl State {
    pub(crate) fn transfer_to_host(
        &mut self,
        file: FileId,
        call: &Call,
        serial: Serial,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let it = call.parse::<TransferToHost>()?.fixed;
        let region = Box3d { x: it.x, y: it.y, z: it.z, w: it.w, h: it.h, d: it.d };
        let asked = Asked { to_host: true, handle: it.bo_handle, region, level: it.level, offset: it.offset };
        self.transfer(file, asked, (it.stride, it.layer_stride), serial, effects)
    }

    pub(crate) fn transfer_from_host(
        &mut self,
        file: FileId,
        call: &Call,
        serial: Serial,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let it = call.parse::<TransferFromHost>()?.fixed;
        let region = Box3d { x: it.x, y: it.y, z: it.z, w: it.w, h: it.h, d: it.d };
        let asked =
            Asked { to_host: false, handle: it.bo_handle, region, level: it.level, offset: it.offset };
        self.transfer(file, asked, (it.stride, it.layer_stride), serial, effects)
    }

    fn transfer(
        &mut self,
        id: FileId,
        asked: Asked,
        strides: (u32, u32),
        serial: Serial,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const STRIDES: Refusal = Refusal::new(Errno::EINVAL, "strides are for blobs");
        const OUTSIDE: Refusal = Refusal::new(Errno::EINVAL, "the offset is outside the buffer's memory");
        let direction = if asked.to_host { Rights::TO_HOST } else { Rights::FROM_HOST };
        // It is the context that transfers.
        let right = direction | Rights::EXECUTE;
        self.need_context(id, effects)?;
        let entry = self.file(id)?.with_rights(asked.handle, right)?;
        if strides != (0, 0) {
            return Err(STRIDES);
        }
        let resource = entry.resource;
        let offset = u64::from(asked.offset);
        if self.buffers.get(&resource).is_some_and(|buffer| offset >= buffer.backing.length) {
            return Err(OUTSIDE);
        }
        self.file(id)?.with_rights(asked.handle, right)?.last_use = serial;
        // Also what is about to be overwritten: or what the device writes would count as unchanged where it is what both sides
        // had last, and not come back.
        self.push(resource);
        if !asked.to_host {
            self.pull_after(id, serial, resource);
            self.end_query(id, resource);
        }
        effects.push(Effect::Context(
            id,
            Request::Transfer(Transfer {
                to_host: asked.to_host,
                resource,
                region: asked.region,
                level: asked.level,
                offset,
                stride: 0,
                layer_stride: 0,
                serial,
            }),
        ));
        Ok(Outcome::Answer(Reply::empty()))
    }
}

/// What both directions have in common.
struct Asked {
    to_host: bool,
    handle: u32,
    region: Box3d,
    level: u32,
    offset: u32,
}
