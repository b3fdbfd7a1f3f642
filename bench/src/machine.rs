//! What the figures were measured on.

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

/// A machine, as it was when the measurement began.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Processors that this process may use.
    pub(crate) processors: usize,
    /// Their model.
    pub(crate) model: String,
    /// The kernel.
    pub(crate) kernel: String,
    /// Load averages over 1, 5 and 15 minutes.
    pub(crate) load: String,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let information = read("/proc/cpuinfo");
        let model = information.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model);
        let load = read("/proc/loadavg");
        Self {
            processors: processors(),
            model: model.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

/// How many processors this process may use.
pub(crate) fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}
