//! The supervision tree, in the terms of OTP.
//!
//! ```text
//! daemon ── one for one, 5 in 30 s
//!   ├─ device ── rest for one, 5 in 30 s ── control queue, transport, cursor queue, device keeper
//!   ├─ sockets ── one for one, 5 in 30 s ── control socket, picture socket
//!   ├─ contexts ── one for one ── an actor for each GL context, temporary: never started anew
//!   └─ resource, display, scheme, door
//! ```
//!
//! An actor whose step panicked or faulted is started anew with its mailbox and what it owns for others, and makes the step
//! good towards whoever it was for (`Actor::restart`).
//!
//! Below `device` each builds on those before it: the transport's queues are what the control queue's book says that the
//! device has. So when one breaks off in a step, those after it are started anew as well, and with that the transport gives
//! the device up: all that is on it begins anew with another, which the device keeper sees to. The others keep what nobody
//! else knows, and nobody builds on their steps: one for one.
//!
//! A supervisor that had to act too often gives up, and is begun anew by the one above it; for `device` that is another
//! device. When `daemon` gives up, the daemon ends with a message that says so. An actor that hangs is given up with its
//! thread (`core.rs`): a context alone, the device keeper for another that takes its place, any other with the daemon. Devices are
//! limited by the device keeper: 10 in 30 s.

use std::time::Duration;

use virgld_runtime::{Intensity, Spawner, Strategy, Supervisor};

/// Who dies oftener than this, whoever below a supervisor it is, is not worth starting anew.
const INTENSITY: Intensity = Intensity { restarts: 5, period: Duration::from_secs(30) };

/// The supervisors.
pub(crate) struct Tree {
    pub(crate) daemon: Supervisor,
    pub(crate) device: Supervisor,
    pub(crate) sockets: Supervisor,
    pub(crate) contexts: Supervisor,
}

impl Tree {
    /// The tree without workers. They are to be started in the order that is shown above.
    pub(crate) fn new(spawner: &Spawner) -> Self {
        let daemon = spawner.supervisor("daemon", Strategy::OneForOne, INTENSITY);
        Self {
            device: daemon.supervisor("device", Strategy::RestForOne, INTENSITY),
            sockets: daemon.supervisor("sockets", Strategy::OneForOne, INTENSITY),
            contexts: daemon.supervisor("contexts", Strategy::OneForOne, INTENSITY),
            daemon,
        }
    }
}
