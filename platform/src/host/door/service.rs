//! The services of the channel itself: fences in advance, memory to map, merged fences.

use std::os::fd::{AsFd, OwnedFd};

use virgld_protocol::channel::{
    MAX_FENCES, NO_SLOT, SERVICE_FENCES, SERVICE_MAP, SERVICE_MERGE, SERVICE_RESTRICT, SERVICE_REVOKE,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::scheme::DoorEvent;
use virgld_runtime::Fault;
use virgld_runtime::memory::Memory;

use super::actor::Door;
use super::record::{Broken, Found};
use super::ring::Pending;
use super::take::{Taken, admit};
use super::token;

impl Door {
    pub(super) fn take_service(&mut self, id: u64, file: FileId, found: &Found) -> Result<Taken, Fault> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(Taken::Yes) };
        let (number, slot) = (found.record.number, found.record.slot);
        let mut payload = [0; PAYLOAD];
        let length = found.record.payload as usize;
        if slot == NO_SLOT || channel.ring.is_pending(slot) {
            return Ok(Broken::Slot.into());
        }
        let Some(payload) = payload.get_mut(..length) else { return Ok(Broken::Payload.into()) };
        if channel.ring.memory().read(found.payload, payload).is_err() {
            return Ok(Broken::Payload.into());
        }
        let payload: &[u8] = payload;
        let descriptors = match channel.descriptors(found.record.serial, found.record.descriptors) {
            Ok(descriptors) => descriptors,
            Err(broken) => return Ok(broken.into()),
        };
        let pending = Pending { serial: found.record.serial, ioctl: None, fence_out: None };
        if let Err(broken) = admit(channel, id, found, pending) {
            return Ok(broken.into());
        }
        match (number, payload) {
            (SERVICE_FENCES, [a, b, c, d]) => {
                self.give_fences(id, file, slot, u32::from_le_bytes([*a, *b, *c, *d]));
            }
            (SERVICE_MAP, [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]) => {
                let (offset, length) = (number_at(payload, 0), number_at(payload, 8));
                self.tell(DoorEvent::Map { file, token: token::of_slot(id, slot), offset, length })?;
            }
            (SERVICE_RESTRICT, [_, _, _, _, _, _, _, _]) => {
                let [handle, rights] = halves(number_at(payload, 0));
                self.tell(DoorEvent::Restrict { file, token: token::of_slot(id, slot), handle, rights })?;
            }
            (SERVICE_REVOKE, [a, b, c, d]) => {
                let handle = u32::from_le_bytes([*a, *b, *c, *d]);
                self.tell(DoorEvent::Revoke { file, token: token::of_slot(id, slot), handle })?;
            }
            (SERVICE_MERGE, []) => return self.merge(id, file, slot, descriptors),
            _ => return Ok(Broken::Payload.into()),
        }
        Ok(Taken::Yes)
    }

    fn merge(&mut self, id: u64, file: FileId, slot: u8, both: Vec<OwnedFd>) -> Result<Taken, Fault> {
        let token = token::of_slot(id, slot);
        match <[OwnedFd; 2]>::try_from(both) {
            Ok(both) => {
                let fences = both.map(|descriptor| self.recognise(file, descriptor));
                self.tell(DoorEvent::Merge { file, token, fences })?;
                self.tell_signalled()?;
            }
            Err(_) => self.answer(token, Err(Errno::EMFILE), None)?,
        }
        Ok(Taken::Yes)
    }

    fn give_fences(&mut self, id: u64, file: FileId, slot: u8, wanted: u32) {
        let uid = self.files.get(&file).map_or(0, |open| open.credentials.uid);
        let of_user = self.limits.user.fences.saturating_sub(self.fences_of(uid));
        let Some(open) = self.files.get_mut(&file) else { return };
        let room = self.limits.file.fences_in_stock.saturating_sub(open.stock.len()).min(of_user);
        let count = room.min(MAX_FENCES).min(wanted as usize);
        let (mut tokens, mut descriptors) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let fence = self.fences.fresh();
            // Fewer than were asked for will do.
            let Ok(descriptor) = self.fences.open(fence) else { break };
            descriptors.push(descriptor);
            tokens.push(open.stock_up(fence));
        }
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(pending) = channel.ring.take_pending(slot) else { return };
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let count = u32::try_from(borrowed.len()).unwrap_or(0);
        if borrowed.is_empty() || channel.pass(pending.serial, &borrowed).is_err() {
            for token in tokens {
                if let Some(fence) = open.stock.remove(&token) {
                    self.fences.signal(fence, Err(Errno::ECANCELED));
                }
            }
            channel.ring.answer(slot, Err(Errno::EMFILE), 0);
            return;
        }
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        channel.ring.answer(slot, Ok(&[&bytes]), count);
    }
}

fn number_at(payload: &[u8], offset: usize) -> u64 {
    let bytes = payload.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
    u64::from_le_bytes(bytes.unwrap_or_default())
}

fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// The longest payload of a service.
const PAYLOAD: usize = 16;
