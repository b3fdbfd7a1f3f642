//! What can go wrong before a device is ready for use: what happened, to whom, what to do.

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use super::message::Request;
use crate::host::memory::MemoryError;

/// A device could not be reached or set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens.
    #[error(
        "cannot connect to a vhost-user device at {}: {source}; start one there, for example: \
         /usr/lib/qemu/vhost-user-gpu --virgl --render-node=/dev/null --socket-path={}",
        path.display(), path.display()
    )]
    NotListening {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: Errno,
    },
    /// The device closed the connection.
    #[error(
        "the device closed the connection at {step}; its own output says why (QEMU's vhost-user-gpu ends at \
         SET_FEATURES when it cannot render: without a GPU it needs --render-node=/dev/null)"
    )]
    Closed {
        /// The message that was being exchanged.
        step: Request,
    },
    /// The device did not answer, or did not take what was sent.
    #[error(
        "the device did not answer {step} within {deadline:?}; it hangs, serves another client, or is no \
         vhost-user device: restart it"
    )]
    Silent {
        /// The message that was being exchanged.
        step: Request,
        /// How long it had.
        deadline: Duration,
    },
    /// The device answered with something that is no answer.
    #[error("the device's answer to {step} is malformed: {what}; use another device program, or report this")]
    Malformed {
        /// The message that was being exchanged.
        step: Request,
        /// What is wrong with it.
        what: Malformed,
    },
    /// The device said no.
    #[error("the device refused {step} (code {code}); its own output says why")]
    Refused {
        /// The message that was refused.
        step: Request,
        /// The code in its answer.
        code: u64,
    },
    /// The device lacks what a driver for 3D cannot do without.
    #[error("the device does not offer {feature} (it offers {offered:#x}); {remedy}")]
    Lacks {
        /// What is missing.
        feature: &'static str,
        /// All that it offers: virtio features, vhost-user protocol features, or a number of queues.
        offered: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// A parameter of the set-up is out of its range.
    #[error("{what} of {value} cannot be used: {range}")]
    BadSetup {
        /// Which parameter.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
    /// No memory for the queues.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The system failed us.
    #[error("cannot {doing}: {source}; check the limit of open files")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: Errno,
    },
}

/// What is wrong with a message from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It answers something else.
    #[error("it answers {0}")]
    Request(Request),
    /// It is not marked as an answer, or is of another version of the protocol.
    #[error("its flags are {0:#x}")]
    Flags(u32),
    /// It has the wrong size.
    #[error("its size is {0} bytes")]
    Size(u32),
}
