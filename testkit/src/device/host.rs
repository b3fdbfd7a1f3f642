//! What lies behind the queues: contexts, resources and the memory behind them, as virglrenderer keeps them.

use std::collections::{BTreeMap, BTreeSet};

use virgld_protocol::device::{
    CONTROL_FLAG_FENCE, CONTROL_FLAG_RING, Code, Command, ContextAttachResource, ContextCreate,
    ContextDestroy, ContextDetachResource, ControlHeader, Feature, GetCapset, GetCapsetInfo, GetDisplayInfo,
    GetEdid, OkCapsetInfo, ResourceAttachBacking, ResourceCreate2d, ResourceCreate3d, ResourceDetachBacking,
    ResourceFlush, ResourceUnref, SetScanout, Submit3d, TransferFromHost3d, TransferToHost2d,
    TransferToHost3d,
};
use virgld_protocol::virgl::{Commands, ObjectKind, Verb};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::offence::Offence;
use super::scanout::Scanout;
use crate::link::Closed;
use crate::queue::AddressSpace;

/// Bytes of a capability set of this host.
pub const CAPSET_BYTES: u32 = 40;
const HEADER_BYTES: usize = size_of::<ControlHeader>();

/// A run of bytes by the device's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first byte.
    pub address: u64,
    /// How many.
    pub length: u64,
}

impl Range {
    fn overlaps(self, other: Self) -> bool {
        self.address < other.address + other.length && other.address < self.address + self.length
    }
}

#[derive(Debug, Default)]
pub(super) struct Resource {
    pub(super) backing: Option<Range>,
    /// If it is a 2D resource.
    pub(super) surface: Option<Surface>,
    /// All that this host remembers of the contents: the first four bytes of the last transfer.
    pub(super) texel: [u8; 4],
}

/// Width, height and pixels of a 2D resource.
pub(super) type Surface = (u32, u32, Vec<u8>);

/// The renderer.
///
/// A command stream is understood as virgl's where its first word is the head of a command with words; of that it knows
/// windows on resources, what is made the framebuffer, and transfers. Any other is an array of resource numbers: those that
/// it uses.
#[derive(Debug, Default)]
pub struct Host {
    contexts: BTreeMap<u32, BTreeSet<u32>>,
    /// The objects of each, and the resources that they are windows on.
    objects: BTreeMap<u32, BTreeMap<u32, u32>>,
    pub(super) resources: BTreeMap<u32, Resource>,
    /// What was refused at the host's own whim, so that commands that build on it are not the driver's fault.
    forgiven_contexts: BTreeSet<u32>,
    pub(super) forgiven_resources: BTreeSet<u32>,
    last_fence: u64,
    fences: usize,
    /// Contexts have rings (CONTEXT_INIT).
    rings: bool,
    /// What each scanout shows.
    pub(super) scanouts: BTreeMap<u32, Scanout>,
    /// How large the displays are; none where nothing is connected.
    pub(super) displays: Vec<Option<(u32, u32)>>,
    pub(super) offences: Vec<Offence>,
}

/// The answer to one command.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) fenced: bool,
}

/// A command, taken apart.
pub(super) struct Asked<'a> {
    pub(super) header: ControlHeader,
    pub(super) body: &'a [u8],
}

pub(super) type Executed = Result<Vec<u8>, Code>;

impl Host {
    /// A host with nothing on it, and with these features.
    pub(super) fn new(features: u64) -> Self {
        Self { rings: features & Feature::CONTEXT_INIT != 0, ..Self::default() }
    }

    /// Contexts.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// Objects of a context.
    pub fn objects(&self, context: u32) -> usize {
        self.objects.get(&context).map_or(0, BTreeMap::len)
    }

    /// Resources.
    pub fn resources(&self) -> usize {
        self.resources.len()
    }

    /// Executes a command, or refuses to without looking at it.
    pub(super) fn execute(&mut self, bytes: &[u8], space: &AddressSpace, refuse: bool) -> Answer {
        let Ok((header, body)) = ControlHeader::read_from_prefix(bytes) else {
            self.offences.push(Offence::Length { code: Code(0), length: bytes.len() });
            return Answer { bytes: Vec::new(), fenced: false };
        };
        let fenced = header.flags & CONTROL_FLAG_FENCE != 0;
        if fenced {
            self.number(header.fence_id);
        }
        if header.flags & CONTROL_FLAG_RING != 0 && !self.rings {
            self.offences.push(Offence::Ring(header.ring_idx));
        }
        let asked = Asked { header, body };
        let executed = if refuse { self.refuse(&asked) } else { self.dispatch(&asked, space) };
        let (code, payload) = match executed {
            Ok(payload) => (success_of(header.code), payload),
            Err(code) => (code, Vec::new()),
        };
        let answer = ControlHeader {
            code,
            flags: header.flags & CONTROL_FLAG_FENCE,
            fence_id: header.fence_id,
            ctx_id: header.ctx_id,
            ..ControlHeader::default()
        };
        Answer { bytes: [answer.as_bytes(), &payload].concat(), fenced }
    }

    /// A fenced command has been answered.
    pub(super) fn fence_done(&mut self) {
        self.fences -= 1;
    }

    /// The answer to this command will be useless: what was done is as if it had been refused.
    pub(super) fn forgive(&mut self, bytes: &[u8]) {
        if let Ok((header, _)) = ControlHeader::read_from_prefix(bytes)
            && header.code == ContextCreate::CODE
        {
            self.forgiven_contexts.insert(header.ctx_id);
        }
    }

    /// Memory was taken away.
    pub(super) fn closed(&mut self, closed: Closed) {
        let gone = Range { address: closed.address, length: closed.bytes };
        for (number, resource) in &self.resources {
            let forgiven = self.forgiven_resources.contains(number);
            if resource.backing.is_some_and(|backing| backing.overlaps(gone)) && !forgiven {
                self.offences.push(Offence::RegionClosed(*number));
            }
        }
    }

    fn number(&mut self, fence: u64) {
        let ascends = fence > self.last_fence || self.fences == 0;
        if !ascends || fence == 0 || fence > u64::from(u32::MAX) {
            self.offences.push(Offence::Fence { fence, last: self.last_fence });
        }
        self.last_fence = fence;
        self.fences += 1;
    }

    fn dispatch(&mut self, asked: &Asked<'_>, space: &AddressSpace) -> Executed {
        match asked.header.code {
            ContextCreate::CODE => self.context_create(asked),
            ContextDestroy::CODE => self.context_destroy(asked),
            ContextAttachResource::CODE => self.context_attach(asked),
            ContextDetachResource::CODE => self.context_detach(asked),
            Submit3d::CODE => self.submit(asked),
            TransferToHost3d::CODE => {
                let it = self.body::<TransferToHost3d>(asked)?;
                self.transfer(asked, space, it.resource_id, it.offset, true)
            }
            TransferFromHost3d::CODE => {
                let it = self.body::<TransferFromHost3d>(asked)?;
                self.transfer(asked, space, it.resource_id, it.offset, false)
            }
            ResourceCreate3d::CODE => self.resource_create(asked),
            ResourceCreate2d::CODE => self.surface_create(asked),
            TransferToHost2d::CODE => self.transfer_surface(asked, space),
            SetScanout::CODE => self.set_scanout(asked),
            ResourceFlush::CODE => self.flush(asked),
            GetDisplayInfo::CODE => self.display_info(),
            ResourceAttachBacking::CODE => self.attach_backing(asked, space),
            ResourceDetachBacking::CODE => self.detach_backing(asked),
            ResourceUnref::CODE => self.unreference(asked),
            GetCapsetInfo::CODE => self.capset_info(asked),
            GetCapset::CODE => self.capset(asked),
            code => Err(self.accuse(Offence::UnknownCommand(code), Code::ERR_UNSPEC)),
        }
    }

    /// Answers with an error, and remembers what is missing because of it.
    fn refuse(&mut self, asked: &Asked<'_>) -> Executed {
        let word = u32::read_from_prefix(asked.body).map_or(0, |(word, _)| word);
        match asked.header.code {
            ContextCreate::CODE => drop(self.forgiven_contexts.insert(asked.header.ctx_id)),
            ContextAttachResource::CODE
            | ContextDetachResource::CODE
            | ResourceCreate3d::CODE
            | ResourceCreate2d::CODE
            | ResourceAttachBacking::CODE
            | ResourceDetachBacking::CODE => drop(self.forgiven_resources.insert(word)),
            // These are believed to have worked: a driver can do nothing else.
            ContextDestroy::CODE => drop(self.context_destroy(asked)),
            ResourceUnref::CODE => drop(self.unreference(asked)),
            _ => {}
        }
        Err(Code::ERR_OUT_OF_MEMORY)
    }

    fn context_create(&mut self, asked: &Asked<'_>) -> Executed {
        self.body::<ContextCreate>(asked)?;
        let context = asked.header.ctx_id;
        if context == 0 || self.contexts.contains_key(&context) {
            return Err(self.accuse(Offence::ContextExists(context), Code::ERR_INVALID_CONTEXT));
        }
        self.contexts.insert(context, BTreeSet::new());
        Ok(Vec::new())
    }

    fn context_destroy(&mut self, asked: &Asked<'_>) -> Executed {
        self.context(asked)?;
        self.contexts.remove(&asked.header.ctx_id);
        self.objects.remove(&asked.header.ctx_id);
        Ok(Vec::new())
    }

    fn context_attach(&mut self, asked: &Asked<'_>) -> Executed {
        let resource = self.body::<ContextAttachResource>(asked)?.resource_id;
        self.resource(asked, resource)?;
        let context = asked.header.ctx_id;
        if !self.context(asked)?.insert(resource) {
            let offence = Offence::AttachedTwice { resource, context };
            return Err(self.accuse_about(resource, offence, Code::ERR_INVALID_PARAMETER));
        }
        Ok(Vec::new())
    }

    fn context_detach(&mut self, asked: &Asked<'_>) -> Executed {
        let resource = self.body::<ContextDetachResource>(asked)?.resource_id;
        self.attached(asked, resource)?;
        self.context(asked)?.remove(&resource);
        Ok(Vec::new())
    }

    fn submit(&mut self, asked: &Asked<'_>) -> Executed {
        let code = asked.header.code;
        let wrong = Offence::Length { code, length: asked.body.len() };
        let Ok((head, stream)) = Submit3d::read_from_prefix(asked.body) else {
            return Err(self.accuse(wrong, Code::ERR_INVALID_PARAMETER));
        };
        if stream.len() != head.size as usize {
            return Err(self.accuse(wrong, Code::ERR_INVALID_PARAMETER));
        }
        self.context(asked)?;
        let words = stream.chunks_exact(4).map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]));
        let words: Vec<u32> = words.collect();
        // Resources are few: their numbers say nothing of words that follow.
        if words.first().is_some_and(|head| head >> 16 > 0) {
            self.draw(asked, &words)?;
            return Ok(Vec::new());
        }
        for word in words {
            self.attached(asked, word)?;
        }
        Ok(Vec::new())
    }

    /// Executes a stream of virgl's.
    fn draw(&mut self, asked: &Asked<'_>, words: &[u32]) -> Result<(), Code> {
        let context = asked.header.ctx_id;
        for command in Commands::of(words) {
            let Ok(command) = command else {
                return Err(self.accuse(Offence::Malformed { context }, Code::ERR_INVALID_PARAMETER));
            };
            match command.verb {
                Verb::CREATE_OBJECT if command.object == ObjectKind::SURFACE => {
                    self.attached(asked, command.word(1))?;
                    self.objects.entry(context).or_default().insert(command.word(0), command.word(1));
                }
                Verb::DESTROY_OBJECT => {
                    self.objects.entry(context).or_default().remove(&command.word(0));
                }
                Verb::SET_FRAMEBUFFER_STATE => {
                    let known = self.objects.entry(context).or_default();
                    let named = command.words.iter().skip(1).filter(|object| **object != 0);
                    if let Some(object) = named.copied().find(|object| !known.contains_key(object)) {
                        let offence = Offence::UnknownObject { context, object };
                        return Err(self.accuse(offence, Code::ERR_INVALID_PARAMETER));
                    }
                }
                Verb::TRANSFER3D => self.attached(asked, command.word(0))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn transfer(
        &mut self,
        asked: &Asked<'_>,
        space: &AddressSpace,
        number: u32,
        offset: u64,
        to_host: bool,
    ) -> Executed {
        // Without a context it is the driver itself that asks, for a picture.
        if asked.header.ctx_id != 0 {
            self.attached(asked, number)?;
        }
        let resource = self.resource(asked, number)?;
        let Some(backing) = resource.backing else {
            let offence = Offence::NotBacked { code: asked.header.code, resource: number };
            return Err(self.accuse_about(number, offence, Code::ERR_INVALID_PARAMETER));
        };
        // A client that asks for too much is not the driver's fault.
        if offset + resource.texel.len() as u64 > backing.length {
            return Err(Code::ERR_INVALID_PARAMETER);
        }
        let moved = if to_host {
            space.read(backing.address + offset, &mut resource.texel)
        } else {
            space.write(backing.address + offset, &resource.texel)
        };
        match moved {
            Ok(()) => Ok(Vec::new()),
            Err(_) => {
                let offence = Offence::BackingOutside { resource: number, range: backing };
                Err(self.accuse(offence, Code::ERR_UNSPEC))
            }
        }
    }

    fn resource_create(&mut self, asked: &Asked<'_>) -> Executed {
        let resource = self.body::<ResourceCreate3d>(asked)?.resource_id;
        if resource == 0 || self.resources.contains_key(&resource) {
            return Err(self.accuse(Offence::ResourceExists(resource), Code::ERR_INVALID_RESOURCE));
        }
        self.forgiven_resources.remove(&resource);
        self.resources.insert(resource, Resource::default());
        Ok(Vec::new())
    }

    fn attach_backing(&mut self, asked: &Asked<'_>, space: &AddressSpace) -> Executed {
        let it = self.body::<ResourceAttachBacking>(asked)?;
        let number = it.resource_id;
        let range = Range { address: it.address, length: u64::from(it.length) };
        let mut last = [0];
        let end = range.address + range.length;
        // Regions lie far apart: where both ends have memory, it is one region's.
        let inside = range.length > 0
            && space.read(range.address, &mut last).is_ok()
            && space.read(end - 1, &mut last).is_ok();
        if !inside {
            let offence = Offence::BackingOutside { resource: number, range };
            return Err(self.accuse(offence, Code::ERR_UNSPEC));
        }
        let shares = |(_, other): &(&u32, &Resource)| other.backing.is_some_and(|it| it.overlaps(range));
        if let Some((other, _)) = self.resources.iter().find(shares)
            && *other != number
        {
            let other = *other;
            self.accuse_about(other, Offence::SharedBacking(other, number), Code::ERR_UNSPEC);
        }
        if self.resource(asked, number)?.backing.replace(range).is_some() {
            self.accuse_about(number, Offence::BackedTwice(number), Code::ERR_UNSPEC);
        }
        Ok(Vec::new())
    }

    fn detach_backing(&mut self, asked: &Asked<'_>) -> Executed {
        let number = self.body::<ResourceDetachBacking>(asked)?.resource_id;
        if self.resource(asked, number)?.backing.take().is_none() {
            let offence = Offence::NotBacked { code: asked.header.code, resource: number };
            return Err(self.accuse_about(number, offence, Code::ERR_UNSPEC));
        }
        Ok(Vec::new())
    }

    fn unreference(&mut self, asked: &Asked<'_>) -> Executed {
        let number = self.body::<ResourceUnref>(asked)?.resource_id;
        self.resource(asked, number)?;
        let naming = self.contexts.iter_mut().filter(|(_, attached)| attached.contains(&number));
        for (context, attached) in naming {
            attached.remove(&number);
            let forgiven =
                self.forgiven_resources.contains(&number) || self.forgiven_contexts.contains(context);
            if !forgiven {
                self.offences.push(Offence::GoneWhileAttached { resource: number, context: *context });
            }
        }
        self.resources.remove(&number);
        Ok(Vec::new())
    }

    fn capset_info(&mut self, asked: &Asked<'_>) -> Executed {
        let index = self.body::<GetCapsetInfo>(asked)?.capset_index;
        let info = OkCapsetInfo {
            capset_id: index + 1,
            capset_max_version: index + 1,
            capset_max_size: CAPSET_BYTES,
            padding: 0,
        };
        Ok(info.as_bytes().to_vec())
    }

    fn capset(&mut self, asked: &Asked<'_>) -> Executed {
        let id = self.body::<GetCapset>(asked)?.capset_id;
        Ok(vec![u8::try_from(id).unwrap_or(0); CAPSET_BYTES as usize])
    }

    pub(super) fn body<T: Command + FromBytes + KnownLayout + Immutable>(
        &mut self,
        asked: &Asked<'_>,
    ) -> Result<T, Code> {
        let offence = Offence::Length { code: asked.header.code, length: asked.body.len() + HEADER_BYTES };
        T::read_from_bytes(asked.body).map_err(|_| self.accuse(offence, Code::ERR_INVALID_PARAMETER))
    }

    fn context(&mut self, asked: &Asked<'_>) -> Result<&mut BTreeSet<u32>, Code> {
        let ControlHeader { code, ctx_id: context, .. } = asked.header;
        if !self.contexts.contains_key(&context) && !self.forgiven_contexts.contains(&context) {
            self.offences.push(Offence::UnknownContext { code, context });
        }
        self.contexts.get_mut(&context).ok_or(Code::ERR_INVALID_CONTEXT)
    }

    pub(super) fn resource(&mut self, asked: &Asked<'_>, resource: u32) -> Result<&mut Resource, Code> {
        let code = asked.header.code;
        if !self.resources.contains_key(&resource) {
            let offence = Offence::UnknownResource { code, resource };
            return Err(self.accuse_about(resource, offence, Code::ERR_INVALID_RESOURCE));
        }
        self.resources.get_mut(&resource).ok_or(Code::ERR_INVALID_RESOURCE)
    }

    fn attached(&mut self, asked: &Asked<'_>, resource: u32) -> Result<(), Code> {
        let ControlHeader { code, ctx_id: context, .. } = asked.header;
        if self.context(asked)?.contains(&resource) {
            return Ok(());
        }
        let offence = Offence::NotAttached { code, resource, context };
        Err(self.accuse_about(resource, offence, Code::ERR_INVALID_RESOURCE))
    }

    pub(super) fn accuse(&mut self, offence: Offence, code: Code) -> Code {
        self.offences.push(offence);
        code
    }

    /// Accuses unless this host itself broke what is known of the resource.
    pub(super) fn accuse_about(&mut self, resource: u32, offence: Offence, code: Code) -> Code {
        if !self.forgiven_resources.contains(&resource) {
            self.offences.push(offence);
        }
        code
    }
}

fn success_of(code: Code) -> Code {
    match code {
        GetCapsetInfo::CODE => Code::OK_CAPSET_INFO,
        GetCapset::CODE => Code::OK_CAPSET,
        GetDisplayInfo::CODE => Code::OK_DISPLAY_INFO,
        GetEdid::CODE => Code::OK_EDID,
        _ => Code::OK_NO_DATA,
    }
}
