//! From a record in a ring to an event for the scheme.

use virgld_protocol::channel::{KIND_SERVICE, NO_SLOT, SERVICE_FENCES};
use virgld_protocol::client::kms::{Atomic, NO_FENCE, wants_event};
use virgld_protocol::client::{Execbuffer, ExecbufferFlags, Ioctl, Layout, is_asynchronous, layout_of};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FileId, Token};
use virgld_protocol::message::ctrlq::STREAM_OFFSET;
use virgld_protocol::message::scheme::{CallEvent, DoorEvent};
use virgld_runtime::{Fault, Time};
use zerocopy::FromBytes;

use super::actor::{Door, FEED_EVERY};
use super::channel::Channel;
use super::record::{Body, Broken, Found, body};
use super::ring::Pending;
use super::token;

/// What came of a record.
pub(super) enum Taken {
    /// It was taken.
    Yes,
    /// It must wait for something to retire, or until then.
    Starved(Time),
    /// The client broke a rule.
    Broken(Broken),
}

impl From<Broken> for Taken {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Door {
    /// Takes the next record of a channel, if there is one and its time has come. It may be the first of its turn.
    pub(super) fn take(&mut self, id: u64, first: bool) -> Result<bool, Fault> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(false) };
        let file = channel.file;
        let found = match channel.ring.next() {
            Ok(None) => return Ok(false),
            Ok(Some(found)) => found,
            Err(broken) => return self.expel(file, broken).map(|()| false),
        };
        if !first && is_for_later(&found) {
            return Ok(false);
        }
        let rate = self.limits.file.calls_per_second;
        let now = self.now;
        if self.files.get_mut(&file).is_some_and(|file| !file.allowance.allows(now, rate)) {
            self.starve(id, now.after(FEED_EVERY));
            return Ok(false);
        }
        let taken = match found.record.kind {
            KIND_SERVICE => self.take_service(id, file, &found)?,
            _ => self.take_ioctl(id, file, &found)?,
        };
        match taken {
            Taken::Yes => {
                if let Some(file) = self.files.get_mut(&file) {
                    file.allowance.spend();
                }
                Ok(true)
            }
            Taken::Starved(again) => {
                self.starve(id, again);
                Ok(false)
            }
            Taken::Broken(broken) => self.expel(file, broken).map(|()| false),
        }
    }

    fn take_ioctl(&mut self, id: u64, file: FileId, found: &Found) -> Result<Taken, Fault> {
        let Some(layout) = layout_of(found.record.number) else {
            return Ok(self.refuse(id, found, Errno::EINVAL));
        };
        let event = match self.call(id, file, found, layout) {
            Ok(event) => event,
            Err(taken) => return Ok(taken),
        };
        self.tell(DoorEvent::Call(event))?;
        self.tell_signalled()?;
        Ok(Taken::Yes)
    }

    /// Copies a call out of the ring. What may yet have to wait comes first, and leaves no trace if it must.
    fn call(&mut self, id: u64, file: FileId, found: &Found, layout: &Layout) -> Result<CallEvent, Taken> {
        let channel = self.channels.get(&id).ok_or(Taken::Yes)?;
        if channel.ring.is_pending(found.record.slot) {
            return Err(Broken::Slot.into());
        }
        let Body { call, bulk } = body(channel.ring.memory(), found, layout, self.calls.lend())?;
        if wants_event(&call) && !self.has_room_for_event(file) {
            return Err(self.refuse(id, found, Errno::ENOMEM));
        }
        let length = bulk.map_or(0, |(_, length)| length);
        if length > self.largest_stream() {
            return Err(self.refuse(id, found, Errno::ENOMEM));
        }
        let (now, alone) = (self.now, self.is_alone());
        let open = self.files.get_mut(&file).ok_or(Taken::Yes)?;
        let load = self.loads.entry(open.credentials.uid).or_default();
        let credit =
            open.has_credit(length, &self.limits.file, alone) && load.has_credit(length, &self.limits.user);
        let asynchronous = is_asynchronous(layout.number);
        if asynchronous && !credit {
            return Err(Taken::Starved(now.after(FEED_EVERY)));
        }
        if asynchronous
            && !alone
            && let Some(again) = self.shares.held(file, now)
        {
            return Err(Taken::Starved(again));
        }
        let channel = self.channels.get_mut(&id).ok_or(Taken::Yes)?;
        let bulk = match bulk {
            None => None,
            Some((offset, length)) => {
                let slice =
                    self.pool.take(STREAM_OFFSET + length).ok_or(Taken::Starved(now.after(FEED_EVERY)))?;
                // Out of the client's reach, once.
                let copied = slice.fill(STREAM_OFFSET, channel.ring.memory(), offset, length);
                copied.map_err(Broken::from)?;
                Some(slice)
            }
        };
        // From here on it is taken, or its file is lost.
        let named = fence_named(layout, &call.bytes);
        let fence_out = named.map(|token| open.stock.remove(&token).ok_or(Broken::Fence)).transpose()?;
        let record = found.record.serial;
        let serial = match asynchronous {
            true => {
                load.calls += 1;
                load.bytes += length;
                self.shares.launched(file, now);
                open.launch(now, id, record, length)
            }
            false => open.last_serial(),
        };
        let descriptors = channel.descriptors(record, found.record.descriptors)?;
        let pending = Pending { serial: record, ioctl: Some(layout.number), fence_out };
        let token = admit(channel, id, found, pending)?;
        let attached = descriptors.into_iter().next().map(|descriptor| self.recognise(file, descriptor));
        Ok(CallEvent { file, call, bulk, token, serial, attached, fence_out })
    }

    /// Refuses a record without anybody else hearing of it. One that wants no answer cannot be refused.
    pub(super) fn refuse(&mut self, id: u64, found: &Found, errno: Errno) -> Taken {
        let Some(channel) = self.channels.get_mut(&id) else { return Taken::Yes };
        let slot = found.record.slot;
        if slot == NO_SLOT || channel.ring.is_pending(slot) {
            return Broken::Stream.into();
        }
        if let Err(broken) = channel.descriptors(found.record.serial, found.record.descriptors) {
            return broken.into();
        }
        channel.ring.advance(found.after);
        channel.ring.answer(slot, Err(errno), 0);
        Taken::Yes
    }
}

/// Notes who waits for the answer, and gives the record's place in the ring back.
pub(super) fn admit(
    channel: &mut Channel,
    id: u64,
    found: &Found,
    pending: Pending,
) -> Result<Option<Token>, Broken> {
    let slot = found.record.slot;
    let token = match slot {
        NO_SLOT => None,
        _ => {
            channel.ring.expect(slot, pending)?;
            Some(token::of_slot(id, slot))
        }
    };
    channel.ring.advance(found.after);
    Ok(token)
}

/// Whether it has time until the device has heard of what was before it: fences in advance are made while it works.
fn is_for_later(found: &Found) -> bool {
    found.record.kind == KIND_SERVICE && found.record.number == SERVICE_FENCES
}

/// The token of the fence that an EXECBUFFER or an ATOMIC wants signalled.
fn fence_named(layout: &Layout, bytes: &[u8]) -> Option<u32> {
    if layout.number == Atomic::TABLE.number {
        let (atomic, _) = Atomic::read_from_prefix(bytes).ok()?;
        return (atomic.fence_out != NO_FENCE).then_some(atomic.fence_out);
    }
    if layout.number != Execbuffer::TABLE.number {
        return None;
    }
    let (execbuffer, _) = Execbuffer::read_from_prefix(bytes).ok()?;
    let wanted = execbuffer.flags & ExecbufferFlags::FENCE_FD_OUT.bits() != 0;
    wanted.then_some(execbuffer.fence_fd.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use virgld_protocol::channel::{HEAD, RING_OFFSET, Record, SERVICE_MAP, TAIL};
    use virgld_runtime::Actor;
    use virgld_runtime::memory::Memory;
    use zerocopy::IntoBytes;

    use super::super::channel::tests_support::open;
    use super::super::tests_support::Alone;
    use super::*;

    #[test]
    fn fences_in_advance_wait_until_what_was_before_them_is_passed_on() {
        const LENGTH: u32 = 64;
        let mut alone = Alone::new();
        let door = &mut alone.door;
        let (channel, _theirs) = open(&door.registrar);
        let calls = [(SERVICE_MAP, 16), (SERVICE_FENCES, 4)];
        for ((slot, (number, payload)), at) in (0..).zip(calls).zip((RING_OFFSET..).step_by(LENGTH as usize))
        {
            let (kind, serial) = (KIND_SERVICE, u64::from(slot) + 1);
            let record = Record { length: LENGTH, kind, number, slot, serial, payload, ..Record::default() };
            channel.ring.memory().write(at, record.as_bytes()).unwrap();
        }
        let tail = u64::from(2 * LENGTH);
        channel.ring.memory().write(TAIL, tail.as_bytes()).unwrap();
        door.channels.insert(1, channel);
        door.activate(1);
        let taken = |door: &mut Door| {
            door.settle(Time(1)).unwrap();
            door.channels[&1].ring.memory().word_64(HEAD).unwrap().load(Ordering::Relaxed)
        };
        assert_eq!([taken(door), taken(door)], [tail / 2, tail]);
    }
}
