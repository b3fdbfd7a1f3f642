//! The supervision tree, in the terms of OTP.
//!
//! ```text
//! daemon ── one for one, 5 in 30 s each ──┬─ door, control socket, picture socket
//!   │                                     ├─ scheme, display, resource
//!   │                                     ├─ control queue, cursor queue, device keeper
//!   │                                     └─ transport ── rest for one ── the device, and all that is on it
//!   ├─ contexts ── one for one, temporary: an actor for each GL context, never started anew
//!   └─ device keeper ── the device: 10 in 30 s
//! ```
//!
//! An actor whose step panicked or faulted is started anew with its mailbox and what it owns for others, and makes the step
//! good towards whoever it was for (`Actor::restart`). One too many, and the daemon ends with a message that says so.
//! An actor that hangs is given up with its thread (`core.rs`): a context alone, any other with the daemon.

use std::time::Duration;

use virgld_runtime::{Actor, Intensity, Mailbox, SlotId, Spawner};

/// An actor that dies oftener than this is not worth starting anew.
const ACTORS: Intensity = Intensity { restarts: 5, period: Duration::from_secs(30) };

/// Starts an actor that is started anew when it dies.
pub(crate) fn supervise<A: Actor + 'static>(
    spawner: &Spawner,
    name: &'static str,
    mailbox: Mailbox<A::Message>,
    actor: A,
) -> SlotId {
    spawner.supervise(name, mailbox, actor, ACTORS)
}
