//! An open DRM file: its table of capabilities and its place in time.

use foldhash::HashMap;

use slab::Slab;
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FenceKey, Handle, ResourceId, Serial, UserId};
use virgld_protocol::message::scheme::{Credentials, ExportKey, Node, Reached};
use virgld_protocol::rights::Rights;
use virgld_runtime::link::Region;

use crate::syncobj::SyncobjId;

/// Where the authority of an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file made the buffer.
    Own,
    /// A descriptor of it was imported: goes when that is revoked.
    Derived(ExportKey),
    /// A framebuffer names it that another file made (GETFB): goes when the buffer is revoked.
    Shown,
}

/// What a handle stands for.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) resource: ResourceId,
    pub(crate) rights: Rights,
    pub(crate) origin: Origin,
    /// The last work of this file that uses it.
    pub(crate) last_use: Serial,
}

/// The GL context of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GlContext {
    /// Not needed so far.
    None,
    /// Made, with this many rings.
    Open { rings: u32 },
    /// Its actor died: no work can be done in this file any more.
    Dead,
}

/// The fences that a piece of work signals: the one that its call wants, and the one that its synchronisation objects stand
/// for.
pub(crate) type Promised = [Option<FenceKey>; 2];

/// What to do when a piece of work is complete.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) fences: Promised,
    /// Buffers that the work may have written where the client does not see it.
    pub(crate) returns: Vec<ResourceId>,
}

/// An open file.
pub(crate) struct File {
    pub(crate) node: Node,
    pub(crate) credentials: Credentials,
    pub(crate) context: GlContext,
    /// The device lost the context, or went with it: what the file draws comes to nothing.
    pub(crate) lost: bool,
    /// It left the device, since it had something of a buffer that was revoked.
    pub(crate) expelled: bool,
    /// How many devices the context has outlived.
    pub(crate) revivals: u32,
    /// Why it would not outlive another, though it was to.
    pub(crate) unjournaled: Option<&'static str>,
    entries: Slab<Entry>,
    by_resource: HashMap<ResourceId, Handle>,
    pub(crate) syncobjs: Slab<SyncobjId>,
    /// The last work that was asked for.
    pub(crate) latest: Serial,
    /// How far its work is.
    pub(crate) reached: Reached,
    pub(crate) signals: HashMap<Serial, Signals>,
    /// The region that its buffers lie in, unless they have their own.
    pub(crate) arena: Option<Region>,
    /// SET_VERSION was called: GET_UNIQUE tells the bus name from then on.
    pub(crate) versioned: bool,
    pub(crate) errors: u64,
    /// Its last descriptor is gone; only its context has still to end.
    pub(crate) closed: bool,
}

impl GlContext {
    /// Whether there is an actor to speak to.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

const NO_HANDLE: Refusal = Refusal::new(Errno::ENOENT, "the file has no such handle");

impl File {
    pub(crate) fn new(node: Node, credentials: Credentials) -> Self {
        Self {
            node,
            credentials,
            context: GlContext::None,
            lost: false,
            expelled: false,
            revivals: 0,
            unjournaled: None,
            entries: Slab::new(),
            by_resource: HashMap::default(),
            syncobjs: Slab::new(),
            latest: Serial(0),
            reached: Reached::default(),
            signals: HashMap::default(),
            arena: None,
            versioned: false,
            errors: 0,
            closed: false,
        }
    }

    /// Enters a capability to a buffer; the same handle again for one that the table has.
    pub(crate) fn enter(&mut self, resource: ResourceId, rights: Rights, origin: Origin) -> (Handle, bool) {
        if let Some(handle) = self.by_resource.get(&resource) {
            return (*handle, false);
        }
        let key = self.entries.insert(Entry { resource, rights, origin, last_use: Serial(0) });
        let handle = Handle(u32::try_from(key + 1).unwrap_or(u32::MAX));
        self.by_resource.insert(resource, handle);
        (handle, true)
    }

    /// What a handle stands for.
    pub(crate) fn entry(&self, handle: u32) -> Result<&Entry, Refusal> {
        key(handle).and_then(|key| self.entries.get(key)).ok_or(NO_HANDLE)
    }

    /// What a handle stands for, if it gives these rights.
    pub(crate) fn with_rights(&mut self, handle: u32, rights: Rights) -> Result<&mut Entry, Refusal> {
        const NO_RIGHT: Refusal = Refusal::new(Errno::EACCES, "the handle does not give that right");
        let entry = key(handle).and_then(|key| self.entries.get_mut(key)).ok_or(NO_HANDLE)?;
        if entry.rights.contains(rights) { Ok(entry) } else { Err(NO_RIGHT) }
    }

    /// Gives a handle up, and says what it stood for.
    pub(crate) fn close(&mut self, handle: u32) -> Option<Entry> {
        let entry = self.entries.try_remove(key(handle)?)?;
        self.by_resource.remove(&entry.resource);
        Some(entry)
    }

    /// The entry of a buffer, if the table has one.
    pub(crate) fn entry_of(&self, resource: ResourceId) -> Option<&Entry> {
        self.entry(self.by_resource.get(&resource)?.0).ok()
    }

    /// The handle of a buffer, if the table has one.
    pub(crate) fn handle_of(&self, resource: ResourceId) -> Option<Handle> {
        self.by_resource.get(&resource).copied()
    }

    /// The buffers for which the table gives these rights.
    pub(crate) fn resources_with(&self, rights: Rights) -> impl Iterator<Item = ResourceId> {
        let entries = self.entries.iter().map(|(_, entry)| entry);
        entries.filter(move |entry| entry.rights.contains(rights)).map(|entry| entry.resource)
    }

    /// All buffers in the table.
    pub(crate) fn resources(&self) -> Vec<ResourceId> {
        self.entries.iter().map(|(_, entry)| entry.resource).collect()
    }

    /// How many of the handles were derived from what another file made.
    pub(crate) fn derived(&self) -> usize {
        self.entries.iter().filter(|(_, entry)| entry.origin != Origin::Own).count()
    }

    /// Whose file it is.
    pub(crate) fn user(&self) -> UserId {
        UserId(self.credentials.uid)
    }

    pub(crate) fn handles(&self) -> usize {
        self.entries.len()
    }
}

fn key(handle: u32) -> Option<usize> {
    (handle as usize).checked_sub(1)
}
