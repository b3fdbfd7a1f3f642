//! Mailboxes: where messages to an actor wait, and the only place where capabilities to it are made.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::actor::Badge;
use crate::cap::{Cap, Interface};
use crate::outbox;
use crate::queue::{Put, Queue};
use crate::stage::{SlotId, StageShared};
use crate::watched;

/// A message and the badge of who sent it.
pub(crate) struct Envelope<M> {
    pub(crate) badge: Badge,
    pub(crate) message: M,
}

/// The part of a mailbox that capabilities refer to.
pub(crate) struct Shared<M> {
    messages: Queue<Envelope<M>>,
    /// The incarnation whose capabilities are honoured; 0 when the actor is dead.
    epoch: AtomicU64,
    /// How often another mailbox has taken the place of one that an actor does not give back. The last has the messages.
    succession: AtomicU64,
    slot: SlotId,
    stage: Arc<StageShared>,
}

impl<M: Send + 'static> Shared<M> {
    /// Sends a message, or holds it back with all that the step sends. Says whether there is anybody to get it.
    pub(crate) fn post(self: &Arc<Self>, epoch: u64, badge: Badge, message: M) -> bool {
        if self.stage.faults.armed() && outbox::holds() && self.is_current(epoch) {
            let shared = Arc::clone(self);
            outbox::put(Box::new(move || {
                // Whoever is gone by then is as whoever was gone before.
                let _ = shared.post_now(epoch, badge, message);
            }));
            return true;
        }
        self.post_now(epoch, badge, message)
    }

    fn post_now(&self, epoch: u64, badge: Badge, message: M) -> bool {
        if watched::is_abandoned(&self.stage.tenure) || !self.is_current(epoch) {
            return false;
        }
        match self.messages.put(Envelope { badge, message }) {
            Put::Alone => self.stage.schedule(self.slot),
            // The stage knows already.
            Put::Behind => {}
            Put::Nobody => return false,
        }
        true
    }
}

impl<M> Shared<M> {
    pub(crate) fn is_current(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Acquire) == epoch
    }
}

/// The receiving end. Whoever owns it is the actor; dropping it makes every capability to it dead.
///
/// There is one. A holder of a capability cannot come by it, and so neither hears what others send nor makes capabilities
/// of other vocabularies.
///
/// ```compile_fail,E0451
/// # use virgld_runtime::Mailbox;
/// # fn forge<M>() -> Mailbox<M> {
/// Mailbox { shared: panic!(), epoch: 0, succession: 0 }
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::Mailbox;
/// fn must_copy<T: Clone>() {}
/// fn copy<M>() { must_copy::<Mailbox<M>>() }
/// ```
///
/// ```compile_fail,E0616
/// # use virgld_runtime::{Cap, Interface};
/// fn listen<I: Interface>(cap: &Cap<I>) { let _ = cap.shared.take(); }
/// ```
///
/// ```compile_fail,E0271
/// # use virgld_runtime::{Badge, Cap, Interface, Mailbox};
/// fn say_to_another<I: Interface, J: Interface>(own: &Mailbox<J::Whole>) -> Cap<I> { own.open::<I>(Badge(0)) }
/// ```
pub struct Mailbox<M> {
    shared: Arc<Shared<M>>,
    epoch: u64,
    succession: u64,
}

/// The right to another receiving end, which takes the place of one that does not come back.
pub(crate) struct Succession<M> {
    shared: Arc<Shared<M>>,
    epoch: u64,
}

impl<M> Succession<M> {
    /// Takes its place: whatever waits, and comes, is for this one. The capabilities stay as they are.
    pub(crate) fn succeed(&self) -> Mailbox<M> {
        let succession = self.shared.succession.fetch_add(1, Ordering::AcqRel) + 1;
        Mailbox { shared: Arc::clone(&self.shared), epoch: self.epoch, succession }
    }
}

impl<M: Send + 'static> Mailbox<M> {
    pub(crate) fn new(stage: Arc<StageShared>, slot: SlotId, epoch: u64) -> Self {
        let (messages, succession) = (Queue::default(), AtomicU64::new(0));
        let shared = Shared { messages, epoch: AtomicU64::new(epoch), succession, slot, stage };
        Self { shared: Arc::new(shared), epoch, succession: 0 }
    }

    /// The right to take its place should its owner not give it back.
    pub(crate) fn succession(&self) -> Succession<M> {
        Succession { shared: Arc::clone(&self.shared), epoch: self.epoch }
    }

    /// Mints a capability to speak `I` to the owner of this mailbox, who will see `badge` on what it brings.
    pub fn open<I: Interface<Whole = M>>(&self, badge: Badge) -> Cap<I> {
        Cap::mint(self.shared.clone(), badge, self.epoch)
    }

    /// The authority to mint such capabilities later, for badges not known yet.
    pub fn minter<I: Interface<Whole = M>>(&self) -> Minter<I> {
        Minter { shared: self.shared.clone(), epoch: self.epoch, interface: PhantomData }
    }

    /// Where the owner runs.
    pub fn slot(&self) -> SlotId {
        self.shared.slot
    }

    /// What makes all capabilities to it dead, wherever it is.
    pub(crate) fn revoke(&self) -> Box<dyn Fn() + Send> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.epoch.store(0, Ordering::Release))
    }

    /// Takes a message, and says whether more wait. Once none does, the next to come schedules the actor again.
    pub(crate) fn take(&self) -> Option<(Envelope<M>, bool)> {
        if self.is_last() { self.shared.messages.take_of_all() } else { None }
    }
}

impl<M> Mailbox<M> {
    /// Whether no other has taken its place.
    fn is_last(&self) -> bool {
        self.shared.succession.load(Ordering::Acquire) == self.succession
    }
}

/// The authority to mint capabilities of one interface to one incarnation of one actor.
///
/// ```compile_fail,E0451
/// # use virgld_runtime::{Interface, Minter};
/// # fn forge<I: Interface>() -> Minter<I> {
/// Minter { shared: panic!(), epoch: 0, interface: panic!() }
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::{Interface, Minter};
/// fn must_copy<T: Clone>() {}
/// fn copy<I: Interface>() { must_copy::<Minter<I>>() }
/// ```
///
/// It mints no other interface than its own.
///
/// ```compile_fail,E0308
/// # use virgld_runtime::{Badge, Cap, Interface, Minter};
/// fn widen<I: Interface, J: Interface<Whole = I::Whole>>(own: &Minter<I>) -> Cap<J> { own.mint(Badge(0)) }
/// ```
pub struct Minter<I: Interface> {
    shared: Arc<Shared<I::Whole>>,
    epoch: u64,
    interface: PhantomData<fn(I)>,
}

impl<I: Interface> Minter<I> {
    /// Mints a capability; the actor will see `badge` on what it brings.
    pub fn mint(&self, badge: Badge) -> Cap<I> {
        Cap::mint(self.shared.clone(), badge, self.epoch)
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        if self.is_last() {
            self.shared.epoch.store(0, Ordering::Release);
            self.shared.messages.close();
        }
    }
}
