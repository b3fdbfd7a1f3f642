//! What a context actor hears. There is one per GL context, and it can submit for itself alone.

use virgld_runtime::dma::DmaSlice;
use virgld_runtime::{Interface, words};

use super::ctrlq::{ContextEvent, DebugName, Transfer};
use super::resource::Backing;
use super::spoil;
use crate::errno::Errno;
use crate::ids::{ResourceId, RingIndex, Serial};

/// Everything a context hears.
#[derive(Debug)]
pub enum Message {
    /// From the scheme.
    Scheme(Request),
    /// From the control queue.
    Control(ContextEvent),
}

words!(Message {
    "Scheme.Open" => Self::Scheme(Request::Open { .. }),
    "Scheme.Attach" => Self::Scheme(Request::Attach { .. }),
    "Scheme.Detach" => Self::Scheme(Request::Detach { .. }),
    "Scheme.Revoke" => Self::Scheme(Request::Revoke { .. }),
    "Scheme.Forget" => Self::Scheme(Request::Forget { .. }),
    "Scheme.Skip" => Self::Scheme(Request::Skip { .. }),
    "Scheme.Submit" => Self::Scheme(Request::Submit(_)),
    "Scheme.Transfer" => Self::Scheme(Request::Transfer(_)),
    "Scheme.Release" => Self::Scheme(Request::Release { .. }),
    "Scheme.Await" => Self::Scheme(Request::Await { .. }),
    "Scheme.Close" => Self::Scheme(Request::Close),
    "Control.Completed" => Self::Control(ContextEvent::Completed { .. }),
    "Control.Executed" => Self::Control(ContextEvent::Executed { .. }),
    "Control.Settled" => Self::Control(ContextEvent::Settled { .. }),
    "Control.Replayed" => Self::Control(ContextEvent::Replayed { .. }),
    "Control.Refused" => Self::Control(ContextEvent::Refused),
    "Control.Lost" => Self::Control(ContextEvent::Lost { .. }),
    "Control.Destroyed" => Self::Control(ContextEvent::Destroyed),
}
    fn twin(&self) -> Option<Self> {
        if let Self::Control(event) = self { Some(Self::Control(*event)) } else { None }
    }

    fn corrupt(&mut self) -> bool {
        let Self::Control(event) = self else { return false };
        match event {
            ContextEvent::Completed { result, .. }
            | ContextEvent::Executed { result, .. }
            | ContextEvent::Settled { result, .. }
            | ContextEvent::Replayed { result } => spoil(result),
            ContextEvent::Refused | ContextEvent::Lost { .. } | ContextEvent::Destroyed => false,
        }
    }
);

/// What the scheme asks of a context.
#[derive(Debug)]
pub enum Request {
    /// Come into being on the device. First, and once.
    Open {
        /// A name for the host's log.
        name: DebugName,
        /// Capability set, or 0 for the device's default.
        capset: u32,
    },
    /// Let the context's command streams name a resource.
    Attach {
        /// Which.
        resource: ResourceId,
        /// Where its bytes lie, for a context that keeps a journal.
        backing: Option<Backing>,
        /// Whether another made it, who may revoke it.
        borrowed: bool,
    },
    /// No longer, once all earlier work is on its way; answered by [`super::scheme::ContextNotice::Detached`].
    Detach {
        /// Which.
        resource: ResourceId,
    },
    /// No longer, and at once: whoever made the resource takes it back. A context that has views of it, or surfaces, or
    /// bindings, leaves the device ([`super::scheme::ContextNotice::Expelled`]). Answered as [`Request::Detach`] is.
    Revoke {
        /// Which.
        resource: ResourceId,
    },
    /// A resource that was borrowed is no more.
    Forget {
        /// Which.
        resource: ResourceId,
    },
    /// A place in the order of the file that nothing is to be done for: the call was refused.
    Skip {
        /// Which.
        serial: Serial,
    },
    /// Execute a command stream.
    Submit(Submit),
    /// Move bytes between a resource and its memory, in order with the streams.
    Transfer(Transfer),
    /// What the held submit of this serial waited for has happened, or has not in time.
    Release {
        /// Which.
        serial: Serial,
        /// An error here makes the submit fail unexecuted.
        result: Result<(), Errno>,
    },
    /// Somebody waits until all work up to here is complete: let it not take longer than it must.
    Await {
        /// Up to which.
        serial: Serial,
    },
    /// Leave the device. Nothing may follow.
    Close,
}

/// A command stream to execute.
#[derive(Debug)]
pub struct Submit {
    /// The stream, at [`super::ctrlq::STREAM_OFFSET`]; none if it is empty.
    pub stream: Option<DmaSlice>,
    /// Its length in bytes.
    pub length: u32,
    /// The ring, for a context that has rings.
    pub ring: Option<RingIndex>,
    /// Its place in the order of the file.
    pub serial: Serial,
    /// Whether it must wait for [`Request::Release`]. What follows it waits too.
    pub held: bool,
    /// Whether somebody is to be told as soon as it is complete.
    pub fenced: bool,
}

/// What the scheme may say.
pub struct FromScheme;

impl Interface for FromScheme {
    type Message = Request;
    type Whole = Message;
    const NAME: &'static str = "context::FromScheme";

    fn widen(message: Request) -> Message {
        Message::Scheme(message)
    }
}

/// What the control queue may say.
pub struct FromControl;

impl Interface for FromControl {
    type Message = ContextEvent;
    type Whole = Message;
    const NAME: &'static str = "context::FromControl";

    fn widen(message: ContextEvent) -> Message {
        Message::Control(message)
    }
}
