//! What is measured side by side.

use std::fmt;

use serde::Serialize;

/// One of the things compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// The same device commands, on one thread with no actors.
    Floor,
    /// Mesa's software renderer, in the program's own process.
    Llvmpipe,
    /// Mesa's virgl client on virgl_test_server.
    Virpipe,
    /// virgld.
    Virgld,
    /// virgld, with a daemon and a device process for each program.
    Isolated,
    /// virgld, with a daemon and a device process for each processor, which the programs share out among them.
    Spread,
    /// virgld, with contexts that outlive their device.
    Surviving,
    /// virgld, with a device that has no place for clients' memory.
    Copying,
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Floor => "floor",
            Self::Llvmpipe => "llvmpipe",
            Self::Virpipe => "virpipe",
            Self::Virgld => "virgld",
            Self::Isolated => "isolated",
            Self::Spread => "spread",
            Self::Surviving => "surviving",
            Self::Copying => "copying",
        })
    }
}
