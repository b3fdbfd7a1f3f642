//! Whose command a device died of.
//!
//! A device goes through the control queue in order, and answers a command without a fence as soon as it is through with
//! it. So it has been through all that was sent before the last command that came back, and was at none after the first
//! without a fence that did not. In between are commands with fences: those it may have been through, and waited for their
//! effects, or it was at one of them.

use virgld_protocol::ids::ContextId;
use virgld_protocol::message::ctrlq::Blame;

use crate::state::{Meaning, Pending, State};

/// Whose commands a device may have been at.
#[derive(Debug)]
pub(crate) struct Suspects(Vec<Option<ContextId>>);

impl Suspects {
    /// How far a context is to blame.
    pub(crate) fn blame(&self, context: ContextId) -> Blame {
        let its = self.0.iter().filter(|suspect| **suspect == Some(context)).count();
        match its {
            0 => Blame::None,
            all if all == self.0.len() => Blame::Sole,
            _ => Blame::Shared,
        }
    }
}

impl State {
    /// Whose commands the device may have been at when it was lost.
    pub(crate) fn suspects(&self) -> Suspects {
        let mut unanswered: Vec<&Pending> = self.pending.iter().map(|(_, pending)| pending).collect();
        unanswered.sort_unstable_by_key(|pending| pending.ticket);
        let before = unanswered.partition_point(|pending| pending.ticket <= self.answered);
        let (waiting, ahead) = unanswered.split_at(before);
        if let (true, [], Some(first)) = (self.complained, ahead, waiting.first()) {
            // It stalled though it had come to everything: at effects that never came, of what began first.
            return Suspects(vec![first.meaning.context()]);
        }
        let last = ahead.iter().position(|pending| !pending.fenced).map_or(ahead.len(), |index| index + 1);
        Suspects(ahead.iter().take(last).map(|pending| pending.meaning.context()).collect())
    }
}

impl Meaning {
    /// Whose command it was, if a context's.
    fn context(self) -> Option<ContextId> {
        match self {
            Self::ContextCreated(context)
            | Self::ContextDestroyed(context)
            | Self::Counted(context)
            | Self::Replayed(context)
            | Self::Work(context, _) => Some(context),
            Self::Nothing
            | Self::ResourceMade(_)
            | Self::Unreferenced(_)
            | Self::CapsetInfo(_)
            | Self::Capset(..)
            | Self::Fetched(_)
            | Self::Displays
            | Self::Edid(_)
            | Self::Transferred(_)
            | Self::Flushed(_) => None,
        }
    }
}
