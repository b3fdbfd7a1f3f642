//! Fences: what signals them, and what waits for them.
//!
//! A fence that is not pending has signalled. Errors travel with the signal, into merged fences and into points of
//! synchronisation objects: a fence never reports success for work that was not executed.

use std::collections::VecDeque;

use foldhash::HashMap;

use virgld_protocol::client::Reply;
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FenceKey, FileId, RingIndex, Serial, Token, UserId};
use virgld_protocol::message::context::Request;
use virgld_protocol::message::display;
use virgld_protocol::message::door::{Attach, Command};
use virgld_protocol::message::live::{Live, Owner};
use virgld_protocol::message::scheme::Attached;
use virgld_runtime::Time;

use crate::state::{Effect, Outcome, State};
use crate::syncobj::{Due, SyncobjId};

/// So many failures are remembered. They matter only until the door has heard of them, which is in its next step.
const MOST_FAILURES: usize = 1024;
/// Keys at and above this are the scheme's own; those below are a door's.
const OWN: u64 = 1 << 63;

/// The fences that have not signalled.
#[derive(Default)]
pub(crate) struct Fences {
    pending: HashMap<FenceKey, Pending>,
    holds: HashMap<u64, Hold>,
    merges: HashMap<FenceKey, Merge>,
    /// Those that failed last, oldest first. A door may name a fence that it has not yet been told of.
    failed: VecDeque<(FenceKey, Errno)>,
    next: u64,
}

/// Work that the device keeps in order: that of one ring of a file's context, or without a ring. What follows in it
/// need not wait for a fence of it (Linux: `virtio_gpu_dma_fence_wait`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) file: FileId,
    pub(crate) ring: Option<RingIndex>,
}

struct Pending {
    /// The work that signals it.
    origin: Option<Order>,
    waiters: Vec<Waiter>,
}

#[derive(Clone, Copy)]
enum Waiter {
    Hold(u64),
    Merge(FenceKey),
    Syncobj(SyncobjId),
}

/// Something that waits for fences.
struct Hold {
    what: Held,
    remaining: usize,
    deadline: Time,
}

#[derive(Clone, Copy)]
enum Held {
    Submit(FileId, Serial),
    /// What the display is about to show.
    Flip(Token),
}

/// A fence that signals when others have.
struct Merge {
    /// Who asked for it.
    user: UserId,
    remaining: usize,
    result: Result<(), Errno>,
}

impl Held {
    /// A submit whose wait failed is not executed; what is on the screen is no worse for being late.
    fn go_on(self, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        effects.push(match self {
            Self::Submit(file, serial) => Effect::Context(file, Request::Release { serial, result }),
            Self::Flip(gate) => Effect::Display(display::Request::Ready { gate }),
        });
    }
}

impl Fences {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = Live> {
        self.pending.iter().map(|(key, fence)| {
            let merged = || self.merges.get(key).map_or(Owner::Nobody, |merge| Owner::User(merge.user));
            let owner = fence.origin.map_or_else(merged, |origin| Owner::File(origin.file));
            Live::new("fence", key.0 & !OWN, owner)
        })
    }

    /// A key that nothing else has.
    pub(crate) fn fresh(&mut self) -> FenceKey {
        self.next += 1;
        FenceKey(OWN | self.next)
    }

    /// The fence will signal.
    pub(crate) fn expect(&mut self, key: FenceKey, origin: Option<Order>) {
        self.pending.entry(key).or_insert(Pending { origin, waiters: Vec::new() });
    }

    /// How a fence has signalled, if it has.
    pub(crate) fn result_of(&self, key: FenceKey) -> Option<Result<(), Errno>> {
        if self.is_pending(key) {
            return None;
        }
        let failed = self.failed.iter().find(|(other, _)| *other == key);
        Some(failed.map_or(Ok(()), |(_, errno)| Err(*errno)))
    }

    pub(crate) fn is_pending(&self, key: FenceKey) -> bool {
        self.pending.contains_key(&key)
    }

    /// The fence, if work in this order must wait for it.
    pub(crate) fn gate(&self, key: FenceKey, order: Order) -> Option<FenceKey> {
        self.pending.get(&key).filter(|pending| pending.origin != Some(order)).map(|_| key)
    }

    /// A synchronisation object wants to know when the fence signals.
    pub(crate) fn inform(&mut self, key: FenceKey, syncobj: SyncobjId) {
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.waiters.push(Waiter::Syncobj(syncobj));
        }
    }

    /// A fence that signals when all that is due has, and fails if one of that does or has.
    fn all_of(&mut self, due: &Due, user: UserId) -> Attach {
        let fence = self.fresh();
        let (mut remaining, mut result) = (0, due.result);
        for key in &due.pending {
            match self.pending.get_mut(key) {
                Some(pending) => {
                    pending.waiters.push(Waiter::Merge(fence));
                    remaining += 1;
                }
                None => result = result.and(self.result_of(*key).unwrap_or(Ok(()))),
            }
        }
        if remaining == 0 {
            return Attach::Fence { fence, result: Some(result) };
        }
        self.merges.insert(fence, Merge { remaining, result, user });
        self.expect(fence, None);
        Attach::Fence { fence, result: None }
    }

    fn remember_failure(&mut self, key: FenceKey, errno: Errno) {
        if self.failed.len() == MOST_FAILURES {
            self.failed.pop_front();
        }
        self.failed.push_back((key, errno));
    }

    /// When the first of what is held has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.holds.values().map(|hold| hold.deadline).min()
    }

    pub(crate) fn forget_holds(&mut self, file: FileId) {
        self.holds.retain(|_, hold| !matches!(hold.what, Held::Submit(of, _) if of == file));
    }
}

impl State {
    /// Makes a submit wait for `gates`. Says whether it has to.
    pub(crate) fn hold(&mut self, file: FileId, serial: Serial, now: Time, gates: Vec<FenceKey>) -> bool {
        self.hold_back(Held::Submit(file, serial), now, gates)
    }

    /// The display is about to show something: it is told when the fence has signalled. One that does not is not
    /// waited for beyond what a submit would wait.
    pub(crate) fn await_fence(&mut self, now: Time, gate: Token, fence: FenceKey, effects: &mut Vec<Effect>) {
        if !self.hold_back(Held::Flip(gate), now, vec![fence]) {
            effects.push(Effect::Display(display::Request::Ready { gate }));
        }
    }

    fn hold_back(&mut self, what: Held, now: Time, gates: Vec<FenceKey>) -> bool {
        if gates.is_empty() {
            return false;
        }
        let id = self.fresh();
        let deadline = now.after(self.limits.hold);
        let mut remaining = 0;
        for key in gates {
            if let Some(pending) = self.fences.pending.get_mut(&key) {
                pending.waiters.push(Waiter::Hold(id));
                remaining += 1;
            }
        }
        if remaining > 0 {
            self.fences.holds.insert(id, Hold { what, remaining, deadline });
        }
        remaining > 0
    }

    /// A fence has signalled.
    pub(crate) fn signal(&mut self, key: FenceKey, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        let (mut first, mut merged) = (Some((key, result)), Vec::new());
        let mut syncobjs = false;
        while let Some((key, result)) = first.take().or_else(|| merged.pop()) {
            effects.push(Effect::Door(Command::Signal { fence: key, result }));
            if let Err(errno) = result {
                self.fences.remember_failure(key, errno);
            }
            let Some(pending) = self.fences.pending.remove(&key) else { continue };
            for waiter in pending.waiters {
                match waiter {
                    Waiter::Hold(id) => self.open_gate(id, effects),
                    Waiter::Merge(fence) => merged.extend(self.merge_part(fence, result)),
                    Waiter::Syncobj(id) => {
                        self.syncobjs.fence_signalled(id, key, result);
                        syncobjs = true;
                    }
                }
            }
        }
        if syncobjs {
            self.review_sync_waits(effects);
        }
    }

    /// As on Linux, a fence that failed lets what waited for it go on.
    fn open_gate(&mut self, id: u64, effects: &mut Vec<Effect>) {
        let Some(hold) = self.fences.holds.get_mut(&id) else { return };
        hold.remaining -= 1;
        if hold.remaining > 0 {
            return;
        }
        if let Some(hold) = self.fences.holds.remove(&id) {
            hold.what.go_on(Ok(()), effects);
        }
    }

    fn merge_part(
        &mut self,
        fence: FenceKey,
        result: Result<(), Errno>,
    ) -> Option<(FenceKey, Result<(), Errno>)> {
        let merge = self.fences.merges.get_mut(&fence)?;
        merge.remaining -= 1;
        merge.result = merge.result.and(result);
        if merge.remaining > 0 {
            return None;
        }
        self.fences.merges.remove(&fence).map(|merge| (fence, merge.result))
    }

    pub(crate) fn expire_holds(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for (_, hold) in self.fences.holds.extract_if(|_, hold| hold.deadline <= now) {
            hold.what.go_on(Err(Errno::ETIMEDOUT), effects);
        }
    }

    /// SYNC_IOC_MERGE.
    pub(crate) fn merge(&mut self, file: FileId, fences: [Attached; 2]) -> Result<Outcome, Refusal> {
        const NO_FENCE: Refusal = Refusal::new(Errno::ENOENT, "a descriptor is no fence");
        let mut keys = Vec::with_capacity(fences.len());
        for fence in fences {
            keys.push(self.fence_of(Some(fence)).ok_or(NO_FENCE)?);
        }
        let due = Due { pending: keys, result: Ok(()) };
        Ok(Outcome::AnswerWith(Reply::empty(), self.merge_for(file, &due)?))
    }

    /// A fence that signals when all that is due has, for a file whose user may have one more.
    pub(crate) fn merge_for(&mut self, file: FileId, due: &Due) -> Result<Attach, Refusal> {
        const MANY: Refusal = Refusal::new(Errno::ENOMEM, "the user has too many merged fences");
        let user = self.file(file)?.user();
        let of_user = self.fences.merges.values().filter(|merge| merge.user == user).count();
        if of_user >= self.limits.user.merged_fences {
            return Err(MANY);
        }
        Ok(self.fences.all_of(due, user))
    }

    /// The fence that a descriptor stands for.
    pub(crate) fn fence_of(&mut self, attached: Option<Attached>) -> Option<FenceKey> {
        match attached? {
            Attached::Fence(key) => Some(key),
            Attached::ForeignFence(key) => {
                self.fences.expect(key, None);
                Some(key)
            }
            Attached::Buffer(_) | Attached::Syncobj(_) | Attached::Unknown => None,
        }
    }
}
