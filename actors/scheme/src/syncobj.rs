//! Synchronisation objects: a name for a fence, or for the fences at the points of a timeline.

use foldhash::HashMap;

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, UserId};
use virgld_protocol::message::live::{Live, Owner};
use virgld_protocol::message::scheme::SyncobjKey;

/// Names an object in the daemon; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SyncobjId(u64);

/// All objects.
#[derive(Default)]
pub(crate) struct Syncobjs {
    objects: HashMap<SyncobjId, Syncobj>,
    exports: HashMap<SyncobjKey, SyncobjId>,
    /// How many descriptors each user has made that are about.
    exporters: HashMap<UserId, usize>,
    next: u64,
}

#[derive(Default)]
struct Syncobj {
    /// Handles in files.
    handles: usize,
    /// The descriptor that was made of it, and by whom.
    export: Option<(SyncobjKey, UserId)>,
    /// The fences, oldest first; empty if it has none. A point is reached when its fence and all before it have
    /// signalled.
    chain: Vec<Node>,
}

struct Node {
    /// 0 for the fence of a binary object.
    point: u64,
    fence: Fence,
}

/// What is at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    Pending(FenceKey),
    /// It has signalled, so. A point stands for all before it, so it has their errors too: they stay until all fences of
    /// the object are replaced.
    Signalled(Result<(), Errno>),
}

impl Fence {
    pub(crate) const DONE: Self = Self::Signalled(Ok(()));

    fn pending(self) -> Option<FenceKey> {
        if let Self::Pending(key) = self { Some(key) } else { None }
    }

    /// How what has signalled has; nothing is wrong so far with what has not.
    fn result(self) -> Result<(), Errno> {
        if let Self::Signalled(result) = self { result } else { Ok(()) }
    }
}

/// How far a point of an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is no fence for it yet.
    Absent,
    /// There is: what is left of it.
    Due(Due),
}

/// The fences that a point stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// These must signal first; if there are none, the point is reached.
    pub(crate) pending: Vec<FenceKey>,
    /// The first error of those that have signalled.
    pub(crate) result: Result<(), Errno>,
}

impl Syncobjs {
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Those of which there is a descriptor.
    pub(crate) fn exported_ones(&self) -> impl Iterator<Item = Live> {
        let exported = self.objects.iter().filter_map(|(id, object)| Some((id, object.export?)));
        exported.map(|(id, (_, user))| Live::new("exported synchronisation object", id.0, Owner::User(user)))
    }

    /// Makes an object that one handle will name.
    pub(crate) fn create(&mut self, signalled: bool) -> SyncobjId {
        self.next += 1;
        let chain = if signalled { vec![Node { point: 0, fence: Fence::DONE }] } else { Vec::new() };
        self.objects.insert(SyncobjId(self.next), Syncobj { handles: 1, export: None, chain });
        SyncobjId(self.next)
    }

    /// Another handle names it.
    pub(crate) fn hold(&mut self, id: SyncobjId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.handles += 1;
        }
    }

    /// A handle names it no more.
    pub(crate) fn release(&mut self, id: SyncobjId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.handles -= 1;
        }
        self.forget_if_unnamed(id);
    }

    /// The key by which a descriptor for it is recognised; none if the user has made `most` already.
    pub(crate) fn export(
        &mut self,
        id: SyncobjId,
        fresh: SyncobjKey,
        user: UserId,
        most: usize,
    ) -> Option<SyncobjKey> {
        let object = self.objects.get_mut(&id)?;
        if let Some((key, _)) = object.export {
            return Some(key);
        }
        let made = self.exporters.entry(user).or_default();
        if *made >= most {
            return None;
        }
        *made += 1;
        object.export = Some((fresh, user));
        self.exports.insert(fresh, id);
        Some(fresh)
    }

    /// Whether another point may be put into it.
    pub(crate) fn has_room(&self, id: SyncobjId) -> bool {
        self.objects.get(&id).is_none_or(|object| object.chain.len() < MOST_POINTS)
    }

    /// No descriptor is left outside.
    pub(crate) fn unexport(&mut self, key: SyncobjKey) {
        let Some(id) = self.exports.remove(&key) else { return };
        if let Some(object) = self.objects.get_mut(&id) {
            let exporter = object.export.take().map(|(_, user)| user);
            if let Some((user, made)) = exporter.and_then(|user| Some((user, self.exporters.get_mut(&user)?)))
            {
                *made -= 1;
                if *made == 0 {
                    self.exporters.remove(&user);
                }
            }
        }
        self.forget_if_unnamed(id);
    }

    /// The object that a descriptor stands for.
    pub(crate) fn exported(&self, key: SyncobjKey) -> Option<SyncobjId> {
        self.exports.get(&key).copied()
    }

    fn forget_if_unnamed(&mut self, id: SyncobjId) {
        if self.objects.get(&id).is_some_and(|object| object.handles == 0 && object.export.is_none()) {
            self.objects.remove(&id);
        }
    }

    /// Takes its fences away.
    pub(crate) fn reset(&mut self, id: SyncobjId) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.chain.clear();
        }
    }

    /// Puts a fence into it: at a point of its timeline, or at 0 in place of all it had.
    pub(crate) fn put(&mut self, id: SyncobjId, point: u64, fence: Fence) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        if point == 0 {
            object.chain.clear();
        }
        // A point below the last is put after it all the same: whoever does that gets what Linux warns of.
        let point = object.chain.last().map_or(point, |last| last.point.max(point));
        object.chain.push(Node { point, fence });
        object.tidy();
    }

    /// A fence in its chain has signalled.
    pub(crate) fn fence_signalled(&mut self, id: SyncobjId, key: FenceKey, result: Result<(), Errno>) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        for node in object.chain.iter_mut().filter(|node| node.fence == Fence::Pending(key)) {
            node.fence = Fence::Signalled(result);
        }
        object.tidy();
    }

    /// How far a point is; 0 means all that the object has.
    pub(crate) fn progress(&self, id: SyncobjId, point: u64) -> Progress {
        let Some(object) = self.objects.get(&id) else { return Progress::Absent };
        let Some(last) = object.chain.last() else { return Progress::Absent };
        if point > last.point {
            return Progress::Absent;
        }
        let end = match point {
            0 => object.chain.len(),
            _ => object.chain.partition_point(|node| node.point < point) + 1,
        };
        let mut fences = object.chain[..end].iter().map(|node| node.fence);
        Progress::Due(Due {
            pending: fences.clone().filter_map(Fence::pending).collect(),
            result: fences.try_for_each(Fence::result),
        })
    }

    /// The last point reached, or the last that has a fence.
    pub(crate) fn last_point(&self, id: SyncobjId, submitted: bool) -> u64 {
        let Some(object) = self.objects.get(&id) else { return 0 };
        let reached = object.chain.iter().take_while(|node| submitted || node.fence.pending().is_none());
        reached.last().map_or(0, |node| node.point)
    }
}

impl Syncobj {
    /// Keeps only the last of the points that are reached, with the first error of all that are.
    fn tidy(&mut self) {
        let reached = self.chain.iter().take_while(|node| node.fence.pending().is_none()).count();
        let Some(last) = reached.checked_sub(1) else { return };
        let mut fences = self.chain[..reached].iter().map(|node| node.fence);
        let result = fences.try_for_each(Fence::result);
        self.chain[last].fence = Fence::Signalled(result);
        self.chain.drain(..last);
    }
}

/// Points of one timeline that are not reached: real programs have a handful.
const MOST_POINTS: usize = 4096;
