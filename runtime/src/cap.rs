//! Capabilities: the unforgeable right to send one kind of message to one actor.

use std::fmt;
use std::sync::Arc;

use crate::actor::Badge;
use crate::mailbox::Shared;

/// A vocabulary that an actor offers. An actor may offer several to different holders, each narrower than
/// the whole of what it hears: what a vocabulary has no word for, its holder cannot ask.
pub trait Interface: 'static {
    /// The words.
    type Message: Send + 'static;
    /// All that the actor behind this interface hears.
    type Whole: Send + 'static;
    /// For traces and errors.
    const NAME: &'static str;

    /// Puts a word of this vocabulary into the actor's own.
    fn widen(message: Self::Message) -> Self::Whole;
}

/// The actor behind a capability is gone, or is a later incarnation that never granted this capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the capability {interface} belongs to incarnation {epoch} of an actor that is gone")]
pub struct Dead {
    /// Which interface was spoken.
    pub interface: &'static str,
    /// The incarnation that the capability was made for.
    pub epoch: u64,
}

/// The right to speak interface `I` to one incarnation of one actor.
///
/// It has no public constructor and is not `Clone`: only the owner of a [`crate::Mailbox`] makes one, and who
/// holds one passes it on by an explicit [`Cap::grant`].
///
/// ```compile_fail,E0451
/// # use virgld_runtime::{Cap, Interface};
/// # fn forge<I: Interface>() -> Cap<I> {
/// Cap { shared: panic!(), badge: panic!(), epoch: 0, interface: panic!() }
/// # }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::{Cap, Interface};
/// fn must_copy<T: Clone>() {}
/// fn copy<I: Interface>() { must_copy::<Cap<I>>() }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::{Cap, Interface};
/// fn must_default<T: Default>() {}
/// fn conjure<I: Interface>() { must_default::<Cap<I>>() }
/// ```
///
/// Nor is it made wider than it is: a capability for one vocabulary is not one for another of the same actor, has no
/// word of the actor's that its own vocabulary lacks, and its holder cannot change the badge.
///
/// ```compile_fail,E0308
/// # use virgld_runtime::{Cap, Interface};
/// fn widen<I: Interface, J: Interface<Whole = I::Whole>>(narrow: Cap<I>) -> Cap<J> { narrow }
/// ```
///
/// ```compile_fail,E0308
/// # use virgld_runtime::{Cap, Interface};
/// fn shout<I: Interface>(narrow: &Cap<I>, whole: I::Whole) { let _ = narrow.send(whole); }
/// ```
///
/// ```compile_fail,E0616
/// # use virgld_runtime::{Badge, Cap, Interface};
/// fn disguise<I: Interface>(cap: &mut Cap<I>) { cap.badge = Badge(7); }
/// ```
///
/// ```compile_fail,E0624
/// # use virgld_runtime::{Badge, Cap, Interface};
/// fn mint<I: Interface>() -> Cap<I> { Cap::mint(panic!(), Badge(7), 0) }
/// ```
pub struct Cap<I: Interface> {
    shared: Arc<Shared<I::Whole>>,
    badge: Badge,
    epoch: u64,
    interface: std::marker::PhantomData<fn(I)>,
}

impl<I: Interface> Cap<I> {
    pub(crate) fn mint(shared: Arc<Shared<I::Whole>>, badge: Badge, epoch: u64) -> Self {
        Self { shared, badge, epoch, interface: std::marker::PhantomData }
    }

    /// Sends a message. It arrives after all that this holder sent before.
    pub fn send(&self, message: I::Message) -> Result<(), Dead> {
        if self.shared.post(self.epoch, self.badge, I::widen(message)) { Ok(()) } else { Err(self.dead()) }
    }

    /// Makes an equal capability to pass on.
    pub fn grant(&self) -> Self {
        Self::mint(self.shared.clone(), self.badge, self.epoch)
    }

    /// Whether the actor behind it still lives.
    pub fn is_alive(&self) -> bool {
        self.shared.is_current(self.epoch)
    }

    fn dead(&self) -> Dead {
        Dead { interface: I::NAME, epoch: self.epoch }
    }
}

impl<I: Interface> fmt::Debug for Cap<I> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Cap<{}>(badge {}, epoch {})", I::NAME, self.badge.0, self.epoch)
    }
}
