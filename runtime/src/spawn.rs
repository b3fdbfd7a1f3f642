//! Starting actors: as somebody's children, or as nobody's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::actor::Actor;
use crate::cell::{Cell, Run};
use crate::fault::Injector;
use crate::mailbox::Mailbox;
use crate::stage::{SlotId, StageShared};
use crate::supervise::Intensity;
use crate::tree::{Lifetime, Strategy, SupervisorId, SupervisorReport};

/// The authority to start actors on a stage. The stage gives it, and who has it passes it on by [`Spawner::grant`].
///
/// ```compile_fail,E0451
/// # use virgld_runtime::Spawner;
/// # fn forge() -> Spawner {
/// Spawner { shared: panic!(), under: None }
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::Spawner;
/// fn must_copy<T: Clone>() {}
/// fn copy() { must_copy::<Spawner>() }
/// ```
///
/// Nobody says where an actor runs but by its mailbox.
///
/// ```compile_fail,E0423
/// # use virgld_runtime::{SlotId, Spawner};
/// fn end_another(spawner: &Spawner) { spawner.stop(SlotId(1)) }
/// ```
pub struct Spawner {
    pub(crate) shared: Arc<StageShared>,
    /// Whose children they are. Nobody's, if there is none: whoever runs the stage hears of their deaths.
    pub(crate) under: Option<SupervisorId>,
}

/// The authority to start actors that are started anew when they die ([`Actor::restart`]), as the children of one supervisor.
pub struct Supervisor {
    shared: Arc<StageShared>,
    id: SupervisorId,
}

impl Spawner {
    /// A mailbox for an actor to come: capabilities to it can be made and used before it runs.
    pub fn mailbox<M: Send + 'static>(&self) -> Mailbox<M> {
        // Relaxed: only uniqueness matters. Incarnations share the numbering, so no epoch ever comes twice.
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        Mailbox::new(self.shared.clone(), SlotId(number), number)
    }

    /// Starts `actor` behind `mailbox`. It must be this spawner's. It is never started anew.
    pub fn start<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
    ) -> SlotId {
        if let Some(under) = self.under {
            self.shared.tree().worker(under, mailbox.slot(), name, Lifetime::Temporary);
        }
        self.shared.admit(name, mailbox, actor, false, None)
    }

    /// The highest supervisor of a tree. When it gives up, whoever runs the stage must decide.
    pub fn supervisor(&self, name: &'static str, strategy: Strategy, intensity: Intensity) -> Supervisor {
        let id = self.shared.tree().supervisor(self.under, name, strategy, intensity);
        Supervisor { shared: self.shared.clone(), id }
    }

    /// What supervisors there are, and what they have done; those above before those below.
    pub fn supervisors(&self) -> Vec<SupervisorReport> {
        self.shared.tree().report()
    }

    /// The authority to make things go wrong on this stage.
    pub fn injector(&self) -> Injector {
        Injector::new(Arc::clone(&self.shared.faults))
    }

    /// Ends an actor, after the message that it may be handling now.
    pub fn stop(&self, slot: SlotId) {
        let _ = self.shared.departures.send(slot);
        self.shared.changed.store(true, Ordering::Release);
        self.shared.schedule(slot);
    }

    /// An equal authority to pass on.
    pub fn grant(&self) -> Self {
        Self { shared: self.shared.clone(), under: self.under }
    }
}

impl Supervisor {
    /// Starts an actor as its last child. The mailbox and the capabilities to it outlive its deaths; of what waits there
    /// only the message that it died of while handling it is lost.
    pub fn start<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
    ) -> SlotId {
        self.shared.tree().worker(self.id, mailbox.slot(), name, Lifetime::Permanent);
        self.shared.admit(name, mailbox, actor, true, None)
    }

    /// Starts an actor that can be made from nothing, because others know all that it must know. Where it does not return
    /// from a step another takes its place, with its mailbox.
    pub fn start_by<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        mut make: impl FnMut() -> A + Send + 'static,
    ) -> SlotId {
        self.shared.tree().worker(self.id, mailbox.slot(), name, Lifetime::Permanent);
        let (actor, succession) = (make(), mailbox.succession());
        let another: Another = Box::new(move || Box::new(Cell::new(make(), succession.succeed(), true)));
        self.shared.admit(name, mailbox, actor, true, Some(another))
    }

    /// Another supervisor, as its last child. When that gives up it is begun anew, with all that is below it.
    pub fn supervisor(&self, name: &'static str, strategy: Strategy, intensity: Intensity) -> Self {
        let id = self.shared.tree().supervisor(Some(self.id), name, strategy, intensity);
        Self { shared: self.shared.clone(), id }
    }

    /// The authority to start children of it that are never started anew.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: self.shared.clone(), under: Some(self.id) }
    }
}

impl StageShared {
    fn admit<A: Actor + 'static>(
        &self,
        name: &'static str,
        mailbox: Mailbox<A::Message>,
        actor: A,
        lasting: bool,
        another: Option<Another>,
    ) -> SlotId {
        let slot = mailbox.slot();
        let cell = Box::new(Cell::new(actor, mailbox, lasting));
        let _ = self.arrivals.send(Arrival { slot, name, cell, another });
        self.changed.store(true, Ordering::Release);
        // What was sent before it ran must be looked at.
        self.schedule(slot);
        slot
    }
}

/// An actor on its way to its stage.
pub(crate) struct Arrival {
    pub(crate) slot: SlotId,
    pub(crate) name: &'static str,
    pub(crate) cell: Box<dyn Run>,
    /// What takes its place where it does not come back.
    pub(crate) another: Option<Another>,
}

/// Makes another of an actor that does not come back.
pub(crate) type Another = Box<dyn FnMut() -> Box<dyn Run> + Send>;
