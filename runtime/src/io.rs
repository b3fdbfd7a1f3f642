//! Readiness of file descriptors and the like, as messages.

/// What an actor registered for has become ready. The token is the one it registered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready(pub u64);

/// Where readiness is to be reported. It answers whether anybody was there to hear it.
pub type ReadySink = Box<dyn Fn(Ready) -> bool + Send>;
