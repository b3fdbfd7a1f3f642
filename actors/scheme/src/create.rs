//! RESOURCE_CREATE, and what waits for the resource actor.

use virgld_protocol::client::kms::CreateDumb;
use virgld_protocol::client::{Call, Reply, ResourceCreate};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, ResourceId, Token};
use virgld_protocol::message::ctrlq::Description;
use virgld_protocol::message::display;
use virgld_protocol::message::resource::{Backing, Request, Shape};
use virgld_protocol::rights::Rights;

use crate::buffer::Buffer;
use crate::dumb;
use crate::file::Origin;
use crate::map::place_of;
use crate::state::{Caller, Effect, Outcome, State, answer};

/// `VIRGL_BIND_SCANOUT` and `VIRGL_BIND_SHARED`: such a buffer is going to be passed to another process.
const SHAREABLE: u32 = 1 << 18 | 1 << 20;

/// `VIRGL_BIND_STAGING`, which has no other bit with it.
const STAGING: u32 = 1 << 19;
/// `PIPE_BUFFER`.
const BUFFER: u32 = 0;
/// `VIRGL_BIND_CUSTOM`, which Mesa gives the buffers that the results of queries come in.
const CUSTOM: u32 = 1 << 17;

/// A call that waits for the resource actor.
pub(crate) struct Parked {
    file: FileId,
    token: Option<Token>,
    what: Awaited,
}

impl Parked {
    /// Whose call it is.
    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// What it waits for.
    pub(crate) fn awaited(&self) -> &Awaited {
        &self.what
    }

    /// Who is to be answered.
    pub(crate) fn caller(&self) -> Option<Token> {
        self.token
    }

    /// What nobody waits for any more; a creation is still waited for, because it must be undone.
    pub(crate) fn ends_with(&self, file: FileId) -> bool {
        self.file == file && !matches!(self.what, Awaited::Create(..) | Awaited::Dumb(..))
    }
}

pub(crate) enum Awaited {
    Create(ResourceCreate),
    Dumb(CreateDumb),
    Export(u32, ResourceId),
    Revocation,
}

impl State {
    pub(crate) fn create(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let asked = call.parse::<ResourceCreate>()?.fixed;
        self.need_context(caller.file, effects)?;
        let user = self.file(caller.file)?.user();
        let token = self.park(caller, Awaited::Create(asked));
        let description = describe(&asked);
        effects.push(Effect::Resource(Request::Create {
            token,
            owner: caller.file,
            user,
            shape: Shape::Texture(description),
            bytes: u64::from(asked.size),
            shareable: asked.bind & SHAREABLE != 0,
        }));
        Ok(Outcome::Later)
    }

    /// Asks for memory of its own for a buffer that is to be exported.
    pub(crate) fn await_isolation(
        &mut self,
        caller: Caller,
        handle: u32,
        resource: ResourceId,
        effects: &mut Vec<Effect>,
    ) {
        let token = self.park(caller, Awaited::Export(handle, resource));
        let stale = self.buffers.get(&resource).is_some_and(|buffer| buffer.stale);
        let request =
            if stale { Request::Move { token, resource } } else { Request::Isolate { token, resource } };
        effects.push(Effect::Resource(request));
    }

    pub(crate) fn park(&mut self, caller: Caller, what: Awaited) -> Token {
        let token = Token(self.fresh());
        self.parked.insert(token, Parked { file: caller.file, token: caller.token, what });
        token
    }

    pub(crate) fn created(
        &mut self,
        token: Token,
        resource: ResourceId,
        backing: Backing,
        effects: &mut Vec<Effect>,
    ) {
        let parked = self.parked.remove(&token);
        let Some(Parked { file: id, token, what }) = parked else {
            // It was given up for lost.
            if !self.buffers.contains_key(&resource) {
                effects.push(Effect::Resource(Request::Release { resource }));
            }
            return;
        };
        let Some(file) = self.files.get_mut(&id) else {
            // The file was closed meanwhile.
            return effects.push(Effect::Resource(Request::Release { resource }));
        };
        if !backing.isolated {
            file.arena = Some(backing.region.clone());
        }
        let (handle, _) = file.enter(resource, Rights::all(), Origin::Own);
        let has_context = file.context.is_open();
        let (shape, reply) = match what {
            Awaited::Create(asked) => {
                // Memory of its own is moved when a buffer is taken back from others.
                let offset = if backing.isolated { None } else { place_of(&backing) };
                let (bo_handle, res_handle) = (handle.0, resource.0);
                let fixed = ResourceCreate { bo_handle, res_handle, offset: offset.unwrap_or(0), ..asked };
                (Shape::Texture(describe(&asked)), Reply::fixed(&fixed))
            }
            Awaited::Dumb(asked) => (Shape::Flat(dumb::surface(&asked)), dumb::reply(&asked, handle)),
            // What is moved is answered otherwise.
            _ => return,
        };
        let staging = matches!(shape, Shape::Texture(it) if it.bind == STAGING);
        let query = matches!(shape, Shape::Texture(it) if (it.target, it.bind) == (BUFFER, CUSTOM));
        let buffer = Buffer {
            backing,
            holders: vec![id],
            leaving: Vec::new(),
            framebuffers: 0,
            last_uses: Vec::new(),
            export: None,
            mapped: false,
            offer: Rights::all(),
            stale: false,
            staging,
            query,
            shape,
        };
        self.buffers.insert(resource, buffer);
        if has_context {
            effects.push(Effect::Context(id, self.attach(resource)));
        }
        answer(token, Ok(Outcome::Answer(reply)), effects);
    }

    pub(crate) fn isolated(
        &mut self,
        token: Token,
        resource: ResourceId,
        backing: Backing,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(buffer) = self.buffers.get_mut(&resource) {
            if matches!(buffer.shape, Shape::Flat(_)) {
                let backing = backing.clone();
                effects.push(Effect::Display(display::Request::Moved { resource, backing }));
            }
            buffer.backing = backing;
            // What a client mapped so far is not its memory any more.
            buffer.mapped = false;
            buffer.stale = false;
            self.distant.remove(&resource);
        }
        const CLOSED: Refusal =
            Refusal::new(Errno::ENOENT, "the handle was closed while its memory was moved");
        let Some(Parked { file, token, what }) = self.parked.remove(&token) else { return };
        let (handle, wanted) = match what {
            Awaited::Export(handle, wanted) => (handle, wanted),
            Awaited::Revocation => return answer(token, Ok(Outcome::Answer(Reply::empty())), effects),
            Awaited::Create(_) | Awaited::Dumb(_) => return,
        };
        // The number may stand for another buffer by now, one whose memory is not its own.
        let still = self.file(file).is_ok_and(|it| it.entry(handle).is_ok_and(|it| it.resource == wanted));
        let outcome = if still { self.export(file, handle) } else { Err(CLOSED) };
        answer(token, outcome, effects);
    }

    pub(crate) fn resource_refused(&mut self, token: Token, errno: Errno, effects: &mut Vec<Effect>) {
        if let Some(parked) = self.parked.remove(&token) {
            let refusal = Refusal::new(errno, "the resource actor has no memory or no device for it");
            answer(parked.token, Err(refusal), effects);
        }
    }
}

fn describe(asked: &ResourceCreate) -> Description {
    Description {
        target: asked.target,
        format: asked.format,
        bind: asked.bind,
        width: asked.width,
        height: asked.height,
        depth: asked.depth,
        array_size: asked.array_size,
        last_level: asked.last_level,
        nr_samples: asked.nr_samples,
        flags: asked.flags,
    }
}
