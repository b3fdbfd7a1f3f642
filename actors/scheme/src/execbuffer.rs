//! EXECBUFFER: a command stream on its way to the device.

use virgld_protocol::client::{Execbuffer, ExecbufferFlags, ExecbufferSyncobj, Reply};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FenceKey, FileId, RingIndex, Serial};
use virgld_protocol::message::context::{Request, Submit};
use virgld_protocol::message::ctrlq::STREAM_OFFSET;
use virgld_protocol::message::door::Command;
use virgld_protocol::message::scheme::{Attached, CallEvent, Reached};
use virgld_protocol::rights::Rights;
use zerocopy::FromBytes;

use crate::fence::Order;
use crate::file::GlContext;
use crate::state::{Caller, Effect, Outcome, State};

const BAD_FLAGS: Refusal = Refusal::new(Errno::EINVAL, "unknown flags");
const NO_STREAM: Refusal = Refusal::new(Errno::EINVAL, "the command stream is shorter than the call says");
const BAD_FENCE: Refusal = Refusal::new(Errno::EINVAL, "the descriptor is no fence");
const BAD_RING: Refusal = Refusal::new(Errno::EINVAL, "the context has no such ring");
const BAD_SYNCOBJ: Refusal = Refusal::new(Errno::EINVAL, "bad flags or size of a synchronisation object");

impl State {
    pub(crate) fn execbuffer(
        &mut self,
        caller: Caller,
        event: CallEvent,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let Caller { file: id, now, .. } = caller;
        let wire = event.call.parse::<Execbuffer>()?;
        let asked = wire.fixed;
        let flags = ExecbufferFlags::from_bits(asked.flags).ok_or(BAD_FLAGS)?;
        let room = event.bulk.as_ref().map_or(0, |stream| stream.size().saturating_sub(STREAM_OFFSET));
        if asked.size as usize > room {
            return Err(NO_STREAM);
        }
        if flags.contains(ExecbufferFlags::FENCE_FD_OUT) != event.fence_out.is_some() {
            return Err(BAD_FENCE);
        }
        self.need_context(id, effects)?;
        let ring = self.ring(id, flags, asked.ring_idx)?;
        let order = Order { file: id, ring };
        let mut gates = self.fence_in(order, flags, event.attached)?;
        let waits = syncobjs(wire.arrays[2])?;
        let signals = syncobjs(wire.arrays[3])?;
        for wait in &waits {
            gates.extend(self.syncobj_gates(order, wait)?);
        }
        self.check_targets(id, &signals)?;
        self.use_buffers(id, wire.arrays[1], event.serial)?;
        // From here on nothing is refused.
        self.reset_waited(id, &waits);
        self.promise(order, event.serial, event.fence_out, &signals, effects);
        let held = self.hold(id, event.serial, now, gates);
        let fenced = self.file(id)?.signals.contains_key(&event.serial);
        let (stream, length, serial) = (event.bulk, asked.size, event.serial);
        let submit = Submit { stream, length, ring, serial, held, fenced };
        effects.push(Effect::Context(id, Request::Submit(submit)));
        Ok(Outcome::Answer(Reply::empty()))
    }

    fn ring(&mut self, id: FileId, flags: ExecbufferFlags, index: u32) -> Result<Option<RingIndex>, Refusal> {
        if !flags.contains(ExecbufferFlags::RING_IDX) {
            return Ok(None);
        }
        match self.file(id)?.context {
            GlContext::Open { rings } if index < rings => {
                Ok(Some(RingIndex(u8::try_from(index).map_err(|_| BAD_RING)?)))
            }
            _ => Err(BAD_RING),
        }
    }

    /// What a fence that came with the call makes it wait for.
    fn fence_in(
        &mut self,
        order: Order,
        flags: ExecbufferFlags,
        attached: Option<Attached>,
    ) -> Result<Vec<FenceKey>, Refusal> {
        if !flags.contains(ExecbufferFlags::FENCE_FD_IN) {
            return Ok(Vec::new());
        }
        match attached {
            Some(Attached::Fence(key)) => Ok(self.fences.gate(key, order).into_iter().collect()),
            Some(Attached::ForeignFence(key)) => {
                self.fences.expect(key, None);
                Ok(vec![key])
            }
            _ => Err(BAD_FENCE),
        }
    }

    /// Notes that this work uses the buffers; none of them unless the file may use all.
    fn use_buffers(&mut self, id: FileId, handles: &[u8], serial: Serial) -> Result<(), Refusal> {
        let file = self.file(id)?;
        let handles = || handles.chunks_exact(4).map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]));
        for handle in handles() {
            file.with_rights(handle, Rights::EXECUTE)?;
        }
        for handle in handles() {
            file.with_rights(handle, Rights::EXECUTE)?.last_use = serial;
        }
        if !self.distant.is_empty() {
            self.use_distant(id, handles(), serial);
        }
        Ok(())
    }

    /// What the device cannot reach is brought to it, and comes back after.
    fn use_distant(&mut self, id: FileId, handles: impl Iterator<Item = u32>, serial: Serial) {
        let Some(file) = self.files.get(&id) else { return };
        let mut used: Vec<_> = handles.filter_map(|it| Some(file.entry(it).ok()?.resource)).collect();
        used.sort_unstable();
        used.dedup();
        for resource in used {
            self.push(resource);
            self.pull_after(id, serial, resource);
        }
    }

    /// Notes what is to be signalled when this work is complete.
    fn promise(
        &mut self,
        order: Order,
        serial: Serial,
        fence_out: Option<FenceKey>,
        syncobjs: &[ExecbufferSyncobj],
        effects: &mut Vec<Effect>,
    ) {
        let own = (!syncobjs.is_empty()).then(|| self.fences.fresh());
        let promised = [fence_out, own];
        for key in promised.into_iter().flatten() {
            self.fences.expect(key, Some(order));
        }
        if let Some(key) = own {
            self.attach_fence(order.file, syncobjs, key, effects);
        }
        if promised != [None; 2]
            && let Some(file) = self.files.get_mut(&order.file)
        {
            file.signals.entry(serial).or_default().fences = promised;
        }
    }

    /// Work of a file is complete.
    pub(crate) fn completed(
        &mut self,
        id: FileId,
        serial: Serial,
        result: Result<(), Errno>,
        reached: Reached,
        effects: &mut Vec<Effect>,
    ) {
        let Some(file) = self.files.get_mut(&id) else {
            let orphans = self.orphans.remove(&(id, serial)).unwrap_or_default();
            return orphans.into_iter().flatten().for_each(|fence| self.signal(fence, result, effects));
        };
        if result.is_err() {
            file.errors += 1;
        }
        let signals = file.signals.remove(&serial).unwrap_or_default();
        self.pull(&signals.returns);
        for fence in signals.fences.into_iter().flatten() {
            self.signal(fence, result, effects);
        }
        self.reached(id, reached, effects);
    }

    /// Work of a file has gone on.
    pub(crate) fn reached(&mut self, id: FileId, reached: Reached, effects: &mut Vec<Effect>) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if std::mem::replace(&mut file.reached, reached) != reached {
            effects.push(Effect::Door(Command::Reached { file: id, reached }));
        }
        self.retire_waits(id, effects);
    }
}

/// The synchronisation objects of one array.
fn syncobjs(bytes: &[u8]) -> Result<Vec<ExecbufferSyncobj>, Refusal> {
    let parse = |chunk| ExecbufferSyncobj::read_from_bytes(chunk).ok().filter(|it| it.flags & !1 == 0);
    bytes.chunks_exact(size_of::<ExecbufferSyncobj>()).map(|chunk| parse(chunk).ok_or(BAD_SYNCOBJ)).collect()
}
