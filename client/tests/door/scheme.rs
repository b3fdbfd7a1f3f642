//! A scheme that has no device: it answers at once, and holds work back when it is told to.

use std::sync::{Arc, Mutex};

use virgld_platform::host::memory::SharedMemory;
use virgld_protocol::channel::Mapped;
use virgld_protocol::client::*;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, Serial, Token};
use virgld_protocol::message::ctrlq::STREAM_OFFSET;
use virgld_protocol::message::door::{Attach, Command, FromScheme};
use virgld_protocol::message::scheme::{
    Attached, CallEvent, DoorEvent, ExportKey, Message, Reached, SyncobjKey,
};
use virgld_runtime::{Actor, Cap, Fault, Turn};
use zerocopy::IntoBytes;

use crate::heap;

/// A stream that begins with this word is held back until SET_CLIENT_CAP.
pub(crate) const HOLD: u32 = 0x57a1_1ed0;
/// One that begins with this fails.
pub(crate) const FAIL: u32 = 0xdead_0000;
/// GET_CAP of this is not answered before GET_CAP of the next.
pub(crate) const LATER: u64 = 1 << 40;
pub(crate) const ANSWER: u64 = LATER + 1;
/// GET_CAP of this has the daemon's thread count how often it asks for memory, but for what this scheme does; GET_CAP of the
/// next says how often that was.
pub(crate) const BEGIN: u64 = LATER + 3;
pub(crate) const END: u64 = LATER + 4;
/// GET_CAP of this has the daemon hang until it is thawed.
pub(crate) const HANG: u64 = LATER + 2;
/// Of buffers of this width there are no more than six.
pub(crate) const SCARCE: u32 = 7;
/// What MAP gives for handle 0; others follow in pages.
pub(crate) const ARENA: u64 = 0x10_0000;

/// What the door said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) opened: u32,
    pub(crate) open: u32,
    pub(crate) submits: u32,
    pub(crate) made: u32,
    pub(crate) closed: u32,
    /// MAP by who waits for the answer, and by who only tells.
    pub(crate) maps: [u32; 2],
    pub(crate) broken_streams: u32,
    pub(crate) most_held: usize,
    pub(crate) unused_exports: u32,
    pub(crate) unused_syncobjs: u32,
    /// Said by the test: it need not hang any longer.
    pub(crate) thawed: bool,
}

pub(crate) struct Scheme {
    door: Cap<FromScheme>,
    seen: Arc<Mutex<Seen>>,
    arena: Arc<SharedMemory>,
    next_handle: u32,
    scarce: u32,
    held: Vec<Held>,
    late: Vec<Option<Token>>,
}

struct Held {
    file: FileId,
    serial: Serial,
    fence: Option<FenceKey>,
    until: Option<FenceKey>,
    stream: Option<virgld_runtime::dma::DmaSlice>,
}

impl Scheme {
    pub(crate) fn new(door: Cap<FromScheme>, seen: Arc<Mutex<Seen>>) -> Self {
        let arena = SharedMemory::new("arena", 1 << 20).unwrap();
        Self { door, seen, arena, next_handle: 0, scarce: 6, held: Vec::new(), late: Vec::new() }
    }

    fn say(&self, command: Command) {
        let _ = self.door.send(command);
    }

    fn answer(&self, token: Option<Token>, result: Result<Reply, Errno>, attach: Option<Attach>) {
        if let Some(token) = token {
            self.say(Command::Answer { token, result, attach });
        }
    }

    fn call(&mut self, event: CallEvent) {
        let token = event.token;
        let mut attach = None;
        let result = match event.call.number {
            0x00 => Ok(version(&event.call)),
            0x0c => {
                let call = event.call.parse::<GetCap>().unwrap().fixed;
                match call.capability {
                    LATER => return self.late.push(token),
                    ANSWER => {
                        for late in std::mem::take(&mut self.late) {
                            self.answer(
                                late,
                                Ok(Reply::fixed(&GetCap { capability: LATER, value: 1 })),
                                None,
                            );
                        }
                        return self.answer(token, Ok(Reply::fixed(&GetCap { value: 1, ..call })), None);
                    }
                    BEGIN => heap::begin(),
                    END => {
                        let value = heap::end();
                        return self.answer(token, Ok(Reply::fixed(&GetCap { value, ..call })), None);
                    }
                    HANG => {
                        while !self.seen.lock().unwrap().thawed {
                            std::thread::sleep(std::time::Duration::from_millis(10));
                        }
                    }
                    _ => {}
                }
                Ok(Reply::fixed(&GetCap { value: call.capability + 1, ..call }))
            }
            0x43 => {
                let call = event.call.parse::<Getparam>().unwrap().fixed;
                Ok(Reply::fixed(&Getparam { value: call.param * 3, ..call }))
            }
            0x49 => Ok(Reply::empty().with(vec![7; 4])),
            0x44 => self.create(&event.call),
            0x42 => return self.submit(event),
            0x1e | 0x1f | 0xb0 => Ok(Reply::empty()),
            0xa0 => Ok(resources(&event.call)),
            0xa7 => Ok(connector(&event.call)),
            0xa1 => {
                let call = event.call.parse::<kms::GetCrtc>().unwrap().fixed;
                Ok(Reply::fixed(&kms::GetCrtc { fb_id: call.count_connectors + 5, ..call }))
            }
            0xbc => self.atomic(&event),
            0x46 | 0x47 => {
                let held =
                    Held { file: event.file, serial: event.serial, fence: None, until: None, stream: None };
                self.release_or_hold(held, !self.held.is_empty());
                Ok(Reply::empty())
            }
            0x48 if self.held.is_empty() => Ok(Reply::empty()),
            0x48 => Err(Errno::EBUSY),
            0x0d => {
                self.say(Command::Hotplug);
                self.release(|held| held.until.is_none());
                Ok(Reply::empty())
            }
            0x41 => {
                let call = event.call.parse::<Map>().unwrap().fixed;
                self.seen.lock().unwrap().maps[usize::from(token.is_none())] += 1;
                Ok(Reply::fixed(&Map { offset: ARENA + 4096 * u64::from(call.handle), ..call }))
            }
            0x2d => {
                let call = event.call.parse::<PrimeHandleToFd>().unwrap().fixed;
                let memory = self.arena.clone();
                attach = Some(Attach::Buffer { export: ExportKey(call.handle.into()), memory });
                Ok(Reply::fixed(&call))
            }
            0x2e => match event.attached {
                Some(Attached::Buffer(ExportKey(key))) => {
                    let handle = u32::try_from(key).unwrap();
                    Ok(Reply::fixed(&PrimeFdToHandle { handle, flags: 0, fd: -1 }))
                }
                _ => Err(Errno::EBADF),
            },
            0x09 => {
                let call = event.call.parse::<GemClose>().unwrap().fixed;
                self.seen.lock().unwrap().closed += 1;
                self.say(Command::WatchExport { export: ExportKey(call.handle.into()) });
                Ok(Reply::empty())
            }
            0xc1 => {
                let call = event.call.parse::<SyncobjHandleToFd>().unwrap().fixed;
                attach = Some(Attach::Syncobj(SyncobjKey(call.handle.into())));
                Ok(Reply::fixed(&call))
            }
            0xc2 => match event.attached {
                Some(Attached::Syncobj(SyncobjKey(key))) => Ok(Reply::fixed(&SyncobjFdToHandle {
                    handle: u32::try_from(key).unwrap(),
                    ..SyncobjFdToHandle::default()
                })),
                _ => Err(Errno::EBADF),
            },
            _ => Err(Errno::EOPNOTSUPP),
        };
        self.answer(token, result, attach);
        if event.call.number == 0xb0 {
            self.flip(event.file, &event.call);
        }
    }

    fn create(&mut self, call: &Call) -> Result<Reply, Errno> {
        let call = call.parse::<ResourceCreate>().unwrap().fixed;
        if call.width == SCARCE {
            self.scarce = self.scarce.checked_sub(1).ok_or(Errno::ENOMEM)?;
        }
        self.seen.lock().unwrap().made += 1;
        self.next_handle += 1;
        let handle = self.next_handle;
        let offset = ARENA + 4096 * u64::from(handle);
        Ok(Reply::fixed(&ResourceCreate { bo_handle: handle, res_handle: handle + 100, offset, ..call }))
    }

    /// As many events as the number of the framebuffer says.
    fn flip(&self, file: FileId, call: &Call) {
        let call = call.parse::<kms::PageFlip>().unwrap().fixed;
        for sequence in 0..call.fb_id {
            let event = kms::EventVblank {
                user_data: call.user_data,
                sequence,
                crtc_id: call.crtc_id,
                ..kms::EventVblank::of(kms::EventHead::FLIP_COMPLETE)
            };
            self.say(Command::Event { file, bytes: event.as_bytes().to_vec() });
        }
    }

    /// Refuses with ERANGE what is not as expected: object n has n properties, each with its own number as value.
    fn atomic(&mut self, event: &CallEvent) -> Result<Reply, Errno> {
        let wire = event.call.parse::<kms::Atomic>().unwrap();
        let changes = wire.changes().map_err(|refusal| refusal.errno)?;
        for object in wire.objects() {
            let count = changes.iter().filter(|change| change.object == object).count();
            if count != object as usize {
                return Err(Errno::ERANGE);
            }
        }
        let value_of =
            |property| changes.iter().find(|change| change.property == property).map(|one| one.value);
        let waits = value_of(kms::IN_FENCE_FD) == Some(0);
        if waits != matches!(event.attached, Some(Attached::Fence(_) | Attached::ForeignFence(_))) {
            return Err(Errno::EBADF);
        }
        if event.fence_out.is_some() != (value_of(kms::OUT_FENCE_PTR) == Some(1)) {
            return Err(Errno::EINVAL);
        }
        let others = changes.iter().filter(|change| !kms::FENCE_PROPERTIES.contains(&change.property));
        if others.into_iter().any(|change| change.value != u64::from(change.property)) {
            return Err(Errno::ERANGE);
        }
        if let Some(fence) = event.fence_out {
            self.say(Command::Signal { fence, result: Ok(()) });
        }
        Ok(Reply::empty())
    }

    fn submit(&mut self, event: CallEvent) {
        let call = event.call.parse::<Execbuffer>().unwrap();
        let words = call.fixed.size as usize / 4;
        let mut first = 0;
        let mut broken = false;
        if let Some(stream) = &event.bulk {
            let mut bytes = vec![0; words * 4];
            stream.read(STREAM_OFFSET, &mut bytes).unwrap();
            let mut all = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
            first = all.next().unwrap();
            // Every word after the first counts up.
            broken = !all.zip(1_u32..).all(|(word, number)| word == number);
        }
        // Each object waited for is named with its own number as its point.
        broken |= call.arrays[2].chunks_exact(16).any(|one| {
            u64::from(u32::from_le_bytes(one[..4].try_into().unwrap()))
                != u64::from_le_bytes(one[8..].try_into().unwrap())
        });
        let mut seen = self.seen.lock().unwrap();
        seen.submits += 1;
        seen.broken_streams += u32::from(broken);
        drop(seen);
        let until = match event.attached {
            Some(Attached::ForeignFence(key)) => Some(key),
            _ => None,
        };
        let result = if first == FAIL { Err(Errno::EIO) } else { Ok(()) };
        if result.is_err() {
            let fence = event.fence_out;
            fence.into_iter().for_each(|fence| self.say(Command::Signal { fence, result }));
        }
        let held = Held {
            file: event.file,
            serial: event.serial,
            fence: event.fence_out.filter(|_| result.is_ok()),
            until,
            stream: event.bulk,
        };
        self.release_or_hold(held, first == HOLD || until.is_some());
        self.answer(event.token, Ok(Reply::empty()), None);
    }

    fn release_or_hold(&mut self, held: Held, hold: bool) {
        self.held.push(held);
        if hold {
            let mut seen = self.seen.lock().unwrap();
            seen.most_held = seen.most_held.max(self.held.len());
            return;
        }
        let last = self.held.len() - 1;
        let mut index = 0;
        self.release(|_| {
            index += 1;
            index > last
        });
    }

    fn release(&mut self, mut which: impl FnMut(&Held) -> bool) {
        let (out, keep): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|one| which(one));
        self.held = keep;
        for one in out {
            drop(one.stream);
            if let Some(fence) = one.fence {
                self.say(Command::Signal { fence, result: Ok(()) });
            }
            // In order: not before what is held.
            if !self.held.iter().any(|other| other.file == one.file && other.serial < one.serial) {
                let reached = Reached { executed: one.serial, complete: one.serial };
                self.say(Command::Reached { file: one.file, reached });
            }
        }
    }
}

fn resources(call: &Call) -> Reply {
    let call = call.parse::<kms::GetResources>().unwrap().fixed;
    let crtcs = [10_u32, 11, 12];
    let room = crtcs.len().min(call.count_crtcs as usize);
    let count = u32::try_from(crtcs.len()).unwrap();
    let fixed = kms::GetResources { count_crtcs: count, count_fbs: 0, max_width: 8192, ..call };
    Reply::fixed(&fixed).with([]).with(crtcs[..room].as_bytes()).with([]).with([])
}

/// One property with one value, and a mode.
fn connector(call: &Call) -> Reply {
    let call = call.parse::<kms::GetConnector>().unwrap().fixed;
    let fixed = kms::GetConnector { count_modes: 1, count_props: 1, count_encoders: 0, ..call };
    let mode = kms::ModeInfo { hdisplay: 640, name: kms::name_of("640x480"), ..kms::ModeInfo::default() };
    let reply = Reply::fixed(&fixed).with([]);
    let reply = if call.count_modes > 0 { reply.with(mode.as_bytes()) } else { reply.with([]) };
    match call.count_props {
        0 => reply.with([]).with([]),
        _ => reply.with(7_u32.to_le_bytes()).with(77_u64.to_le_bytes()),
    }
}

fn version(call: &Call) -> Reply {
    let call = call.parse::<Version>().unwrap().fixed;
    let texts = ["virtio_gpu", "0", "virgld"];
    let mut reply =
        Reply::fixed(&Version { major: 0, minor: 1, name_len: 10, date_len: 1, desc_len: 6, ..call });
    for (text, room) in texts.into_iter().zip([call.name_len, call.date_len, call.desc_len]) {
        let length = text.len().min(usize::try_from(room).unwrap());
        reply = reply.with(&text.as_bytes()[..length]);
    }
    reply
}

impl Actor for Scheme {
    type Message = Message;

    fn handle(&mut self, _turn: Turn, message: Message) -> Result<(), Fault> {
        if let Message::Door(event) = message {
            heap::aside(|| self.hear(event));
        }
        Ok(())
    }
}

impl Scheme {
    fn hear(&mut self, event: DoorEvent) {
        match event {
            DoorEvent::Opened { .. } => {
                let mut seen = self.seen.lock().unwrap();
                seen.opened += 1;
                seen.open += 1;
            }
            DoorEvent::Closed { file } => {
                self.held.retain(|held| held.file != file);
                self.seen.lock().unwrap().open -= 1;
            }
            DoorEvent::Call(event) => self.call(event),
            DoorEvent::Map { token, offset, .. } => {
                let within = offset.wrapping_sub(ARENA);
                let mapped = Mapped { offset: within, base: ARENA, covers: 1 << 20 };
                let (result, attach) = match within < 1 << 20 {
                    true => (Ok(Reply::empty()), Some(Attach::Memory { memory: self.arena.clone(), mapped })),
                    false => (Err(Errno::EINVAL), None),
                };
                self.answer(Some(token), result, attach);
            }
            DoorEvent::Merge { token, fences, .. } => {
                let known = |one: &Attached| matches!(one, Attached::Fence(_) | Attached::ForeignFence(_));
                let attach = Attach::Fence { fence: FenceKey(1 << 63), result: Some(Ok(())) };
                match fences.iter().all(known) {
                    true => self.answer(Some(token), Ok(Reply::empty()), Some(attach)),
                    false => self.answer(Some(token), Err(Errno::ENOENT), None),
                }
            }
            DoorEvent::Restrict { token, .. } | DoorEvent::Revoke { token, .. } => {
                self.answer(Some(token), Ok(Reply::empty()), None);
            }
            DoorEvent::FenceSignalled { fence, .. } => self.release(|held| held.until == Some(fence)),
            DoorEvent::ExportUnused { export } => {
                self.seen.lock().unwrap().unused_exports += 1;
                self.say(Command::ForgetExport { export });
            }
            DoorEvent::SyncobjUnused { .. } => self.seen.lock().unwrap().unused_syncobjs += 1,
        }
    }
}
