//! Buffers that others made, and what the context has of them beyond the right to name them.
//!
//! Detaching a buffer ends that right. But an object that was made of it, or a binding of it, the host's renderer keeps as
//! long as the context has that: through a view one goes on reading the buffer, through a surface one goes on writing to it.
//! So a context that ever had such a thing leaves the device when the buffer is revoked.
//!
//! What a context once had counts for ever, though it may have given it up since. To know that, one would have to follow
//! its streams exactly as the renderer does, mistakes included: a context in error still computes there with what it has
//! bound, and whether a command was an error only the renderer knows.

use std::collections::BTreeMap;

use virgld_protocol::ids::ResourceId;
use virgld_protocol::message::ctrlq::{ContextCommand, Transfer};
use virgld_protocol::message::scheme::ContextNotice;
use virgld_protocol::virgl::Commands;
use virgld_runtime::Time;

use crate::state::{Effect, Life, State, Work};
use crate::words::Words;

/// The buffers of others that may be revoked.
#[derive(Debug, Default)]
pub(crate) struct Borrowed(BTreeMap<ResourceId, Loan>);

#[derive(Debug, Default)]
struct Loan {
    /// The device knows that the context may name it.
    attached: bool,
    /// The context has something of it, or had.
    kept: bool,
}

impl Borrowed {
    /// The context is going to be allowed to name it.
    pub(crate) fn lend(&mut self, resource: ResourceId) {
        self.0.entry(resource).or_default();
    }

    /// The device is told that the context may name a resource, or may no more.
    pub(crate) fn attach(&mut self, resource: ResourceId, attached: bool) {
        if let Some(loan) = self.0.get_mut(&resource) {
            loan.attached = attached;
        }
    }

    /// Nobody can revoke it any more.
    fn forget(&mut self, resource: ResourceId) -> Option<Loan> {
        self.0.remove(&resource)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A stream goes out.
    pub(crate) fn stream(&mut self, words: &[u32]) {
        // The renderer does nothing of a command that is cut short, and nothing after it.
        for command in Commands::of(words).map_while(Result::ok) {
            for resource in command.kept() {
                if let Some(loan) = self.0.get_mut(&ResourceId(resource)) {
                    loan.kept = true;
                }
            }
        }
    }
}

impl State {
    /// A buffer of another's is revoked: at once, whatever work waits. A context that has anything of it leaves the device,
    /// and so does one whose waiting work names it, which the device would refuse without a word.
    pub(crate) fn revoke(&mut self, now: Time, resource: ResourceId, effects: &mut Vec<Effect>) {
        let awaited = self.waiting.iter().any(|work| names(work, resource));
        self.waiting
            .retain(|work| !matches!(work, Work::Attach(it, _) | Work::Detach(it) if *it == resource));
        self.note(effects, |journal| journal.detach(resource));
        let loan = self.borrowed.forget(resource).unwrap_or_default();
        if self.life == Life::Live && (awaited || loan.kept) {
            self.leaving = true;
            effects.push(Effect::Control(ContextCommand::Destroy));
            effects.push(Effect::Scheme(ContextNotice::Expelled));
            self.lose(now, effects);
        } else if self.life == Life::Live && loan.attached {
            effects.push(Effect::Control(ContextCommand::Detach { resource }));
        }
        effects.push(Effect::Scheme(ContextNotice::Detached { resource }));
    }

    /// A buffer of another's is no more.
    pub(crate) fn forget(&mut self, resource: ResourceId) {
        self.borrowed.forget(resource);
    }
}

/// Whether work that waits names a resource, in whatever way.
fn names(work: &Work, resource: ResourceId) -> bool {
    match work {
        Work::Submit(submit) => Words::default().of(submit).contains(&resource.0),
        Work::Transfer(Transfer { resource: it, .. }) => *it == resource,
        Work::Attach(..) | Work::Detach(_) | Work::Skip(_) => false,
    }
}
