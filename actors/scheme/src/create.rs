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
use crate::map::{Mapping, place_of};
use crate::state::{Caller, Effect, Outcome, State, answer};

/// `VIRGL_BIND_SCANOUT` and `VIRGL_BIND_SHARED`: such a buffer is going to be passed to another process.
const SHAREABLE: u32 = 1 << 18 | 1 << 20;

/// `VIRGL_BIND_STAGING`, which has no other bit with it.
const STAGING: u32 = 1 << 19;
/// `PIPE_BUFFER`.
const BUFFER: u32 = 0;
/// `VIRGL_BIND_CUSTOM`, which Mesa gives the buffers that the results of queries come in.
const CUSTOM: u32 = 1 << 17;

/// A call that waits for the resource actor, or for what that does for another call.
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

    /// The file is closed, so that nobody is to be answered. Says whether the call is still of concern: a creation must be
    /// undone, and while a buffer moves nobody may map it.
    pub(crate) fn outlives(&mut self, file: FileId) -> bool {
        if self.file != file || matches!(self.what, Awaited::Create(..) | Awaited::Dumb(..)) {
            return true;
        }
        self.token = None;
        self.what.moving().is_some()
    }
}

pub(crate) enum Awaited {
    Create(ResourceCreate),
    Dumb(CreateDumb),
    Export(u32, ResourceId),
    Revocation(ResourceId),
    /// Until the buffer is at rest.
    Map(Mapping, ResourceId),
}

impl Awaited {
    /// The buffer whose memory is moved.
    pub(crate) fn moving(&self) -> Option<ResourceId> {
        match self {
            Self::Export(_, resource) | Self::Revocation(resource) => Some(*resource),
            Self::Create(_) | Self::Dumb(_) | Self::Map(..) => None,
        }
    }
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

    /// Whether the memory of a buffer is being moved.
    pub(crate) fn is_moving(&self, resource: ResourceId) -> bool {
        self.parked.values().any(|parked| parked.what.moving() == Some(resource))
    }

    /// Takes out the calls that wait until a buffer is at rest, oldest first.
    pub(crate) fn take_mappers(&mut self, resource: ResourceId) -> Vec<Parked> {
        let of_it =
            |_: &Token, parked: &mut Parked| matches!(parked.what, Awaited::Map(_, it) if it == resource);
        let mut mappers: Vec<_> = self.parked.extract_if(of_it).collect();
        mappers.sort_unstable_by_key(|(token, _)| *token);
        mappers.into_iter().map(|(_, parked)| parked).collect()
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
            borrowers: Vec::new(),
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
            self.attach(id, resource, effects);
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
        if let Some(parked) = self.parked.remove(&token) {
            self.moved(parked, effects);
        }
        self.came_to_rest(resource, effects);
    }

    /// Answers who had a buffer moved.
    fn moved(&mut self, parked: Parked, effects: &mut Vec<Effect>) {
        const CLOSED: Refusal =
            Refusal::new(Errno::ENOENT, "the handle was closed while its memory was moved");
        let Parked { file, token, what } = parked;
        let (handle, wanted) = match what {
            Awaited::Export(handle, wanted) if token.is_some() => (handle, wanted),
            // Nobody would have the descriptor.
            Awaited::Export(..) => return,
            Awaited::Revocation(_) => return answer(token, Ok(Outcome::Answer(Reply::empty())), effects),
            Awaited::Create(_) | Awaited::Dumb(_) | Awaited::Map(..) => return,
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
            if let Some(resource) = parked.what.moving() {
                self.came_to_rest(resource, effects);
            }
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
