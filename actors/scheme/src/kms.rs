//! Mode setting: calls on their way to the display and back.
//!
//! Here the client's handles become buffers that the file may put on a screen, and the display's answers become
//! bytes. What is on the screens, and who may change it, is the display's matter.

use virgld_protocol::client::kms::{EventHead, EventSequence, EventVblank};
use virgld_protocol::client::{Call, Reply};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::display::{self, Answer, Event, Image, Moment, Notice, Pixels};
use virgld_protocol::message::door::Command;
use virgld_protocol::message::resource::Shape;
use virgld_protocol::message::scheme::CallEvent;
use virgld_protocol::rights::Rights;
use virgld_runtime::Time;
use zerocopy::IntoBytes;

use crate::file::Origin;
use crate::kms_calls::Fences;
use crate::state::{Caller, Effect, Outcome, State, answer};

/// A call that the display has.
pub(crate) struct Showing {
    pub(crate) file: FileId,
    token: Option<Token>,
    /// As it came: the answer repeats most of it.
    call: Call,
    /// A buffer was revoked meanwhile: the answer must not bring a handle back.
    pub(crate) revoked: bool,
    /// The buffer that the call gives the display. It must not go, and its number with it, before the display has said
    /// whether it holds it.
    held: Option<ResourceId>,
}

impl Showing {
    /// Its file is closed: nobody waits for the answer. Says whether something else does.
    pub(crate) fn abandon(&mut self) -> bool {
        self.token = None;
        self.held.is_some()
    }
}

impl State {
    /// Passes a call on to the display.
    pub(crate) fn ask_display(
        &mut self,
        caller: Caller,
        event: CallEvent,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let CallEvent { call, attached, fence_out: out, .. } = event;
        let asked = self.decode(caller.file, &call, Fences { attached, out })?;
        let token = Token(self.fresh());
        let held = image_in(&asked);
        if let Some(buffer) = held.and_then(|it| self.buffers.get_mut(&it)) {
            buffer.framebuffers += 1;
        }
        let (file, waiting) = (caller.file, caller.token);
        self.shown.insert(token, Showing { file, token: waiting, call, revoked: false, held });
        effects.push(Effect::Display(display::Request::Call { file: caller.file, token, call: asked }));
        Ok(Outcome::Later)
    }

    /// Takes what the display tells.
    pub fn display(&mut self, now: Time, notice: Notice, effects: &mut Vec<Effect>) {
        match notice {
            Notice::Answered { token, result } => self.display_answered(token, result, effects),
            Notice::Event { file, event } => {
                if self.files.contains_key(&file) {
                    effects.push(Effect::Door(Command::Event { file, bytes: packet(event) }));
                }
            }
            Notice::Await { gate, resource } => self.await_work(gate, resource, effects),
            Notice::AwaitFence { gate, fence } => self.await_fence(now, gate, fence, effects),
            Notice::Signal { fence, result } => self.signal(fence, result, effects),
            Notice::Replugged => effects.push(Effect::Door(Command::Hotplug)),
            Notice::Held { resource } => {
                if let Some(buffer) = self.buffers.get_mut(&resource) {
                    buffer.framebuffers += 1;
                }
            }
            Notice::Let { resource } => self.let_go(resource, effects),
        }
    }

    pub(crate) fn display_answered(
        &mut self,
        token: Token,
        result: Result<Answer, Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        const TAKEN_BACK: Refusal = Refusal::new(Errno::ENOENT, "the framebuffer's buffer was taken back");
        let Some(Showing { file, token, call, revoked, held }) = self.shown.remove(&token) else { return };
        let reply = match result {
            Ok(Answer::Framebuffer { resource: Some(_), .. }) if revoked => Err(TAKEN_BACK),
            it => it.and_then(|it| self.encode(file, &call, it)),
        };
        answer(token, reply.map(Outcome::Answer), effects);
        if let Some(resource) = held {
            self.let_go(resource, effects);
        }
    }

    /// A framebuffer, or a call that was to make one, names a buffer no more.
    fn let_go(&mut self, resource: ResourceId, effects: &mut Vec<Effect>) {
        if let Some(buffer) = self.buffers.get_mut(&resource) {
            buffer.framebuffers = buffer.framebuffers.saturating_sub(1);
        }
        self.release_if_unnamed(resource, effects);
    }

    /// AUTH_MAGIC by a master: there is such a file, or not. Nothing depends on it, as render nodes need no leave.
    pub(crate) fn authenticate(&self, magic: u32) -> Result<Reply, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::EINVAL, "no file has this magic");
        let known = self.files.contains_key(&FileId(magic.into()));
        if known { Ok(Reply::empty()) } else { Err(UNKNOWN) }
    }

    /// The buffer behind a handle, if the file may put it on a screen; none if there is no such handle.
    pub(crate) fn image(&mut self, id: FileId, handle: u32) -> Result<Option<Image>, Refusal> {
        match self.file(id)?.with_rights(handle, Rights::SCAN_OUT) {
            Ok(entry) => {
                let resource = entry.resource;
                Ok(self.image_of(resource))
            }
            Err(refusal) if refusal.errno == Errno::ENOENT => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn image_of(&self, resource: ResourceId) -> Option<Image> {
        let buffer = self.buffers.get(&resource)?;
        let (bytes, pixels) = match buffer.shape {
            Shape::Flat(_) => (buffer.backing.length, Pixels::Memory(buffer.backing.clone())),
            // As many as the host has, whatever memory is behind it.
            Shape::Texture(it) => (u64::from(it.width) * u64::from(it.height) * 4, Pixels::Host),
        };
        Some(Image { resource, bytes, pixels })
    }

    /// A handle for a buffer that a framebuffer names, as GETFB gives it to a master: to look at it and to show it, as
    /// far as its maker lets others, and not as its maker.
    pub(crate) fn handle_for(&mut self, id: FileId, resource: Option<ResourceId>) -> Result<u32, Refusal> {
        let Some(resource) = resource else { return Ok(0) };
        let looking = Rights::MAP | Rights::FROM_HOST | Rights::SCAN_OUT;
        let offer = self.buffers.get(&resource).map_or(Rights::empty(), |buffer| buffer.offer);
        let (handle, fresh) = self.file(id)?.enter(resource, looking & offer, Origin::Shown);
        if fresh && let Some(buffer) = self.buffers.get_mut(&resource) {
            buffer.holders.push(id);
        }
        Ok(handle.0)
    }
}

/// The buffer that a call gives the display.
fn image_in(call: &display::Call) -> Option<ResourceId> {
    let image = match call {
        display::Call::AddFramebuffer(new) => new.image.as_ref(),
        display::Call::Cursor(it) => it.image.as_ref().ok()?.as_ref(),
        _ => None,
    };
    image.map(|it| it.resource)
}

/// An event as a client reads it.
fn packet(event: Event) -> Vec<u8> {
    let vblank = |kind, moment: Moment| {
        let (seconds, nanoseconds) = (moment.time / 1_000_000_000, moment.time % 1_000_000_000);
        let event = EventVblank {
            user_data: moment.user_data,
            tv_sec: low(seconds),
            tv_usec: low(nanoseconds / 1000),
            sequence: low(moment.sequence),
            crtc_id: moment.crtc,
            ..EventVblank::of(kind)
        };
        event.as_bytes().to_vec()
    };
    match event {
        Event::Vblank(moment) => vblank(EventHead::VBLANK, moment),
        Event::Flip(moment) => vblank(EventHead::FLIP_COMPLETE, moment),
        Event::Sequence(moment) => {
            let event = EventSequence {
                user_data: moment.user_data,
                time_ns: moment.time.cast_signed(),
                sequence: moment.sequence,
                ..EventSequence::EMPTY
            };
            event.as_bytes().to_vec()
        }
    }
}

/// The low half: counts wrap.
pub(crate) fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}
