//! What clients cost in memory.

use std::fs;

use serde::Serialize;

use crate::side::Side;

/// What one client costs on a side, in MiB, averaged over the clients that were there.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    /// How many clients there were.
    pub(crate) clients: usize,
    /// Where.
    pub(crate) side: Side,
    /// The client's resident memory, with its libraries.
    pub(crate) resident: f64,
    /// The client's own part of that: neither libraries nor other files, and of shared memory its share.
    pub(crate) own: f64,
    /// By how much the service, its device or servers included, grew for it, counted likewise.
    pub(crate) service: f64,
}

impl Cost {
    /// What all clients cost, if the service held `before` MiB without them.
    pub(crate) fn of(side: Side, clients: &[u32], service: Option<u32>, before: f64) -> Self {
        let count = clients.len().max(1) as f64;
        // What an isolated client started is a part of it.
        let family = side == Side::Isolated;
        let own = if family { own_with_children } else { own };
        let resident = if family { resident_with_children } else { resident };
        let service = service.filter(|_| !family);
        let sum = |of: fn(u32) -> f64| clients.iter().map(|client| of(*client)).sum::<f64>() / count;
        let service = service.map_or(0.0, |service| (own_with_children(service) - before) / count);
        Self { clients: clients.len(), side, resident: sum(resident), own: sum(own), service }
    }

    /// All that the machine has less for one client more.
    pub(crate) fn total(self) -> f64 {
        self.own + self.service
    }
}

/// What a process and all that descend from it hold, in MiB, but for files.
pub(crate) fn own_with_children(root: u32) -> f64 {
    family(root).into_iter().map(own).sum()
}

fn resident_with_children(root: u32) -> f64 {
    family(root).into_iter().map(resident).sum()
}

/// A process and all that descend from it.
fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().filter_map(|id| Some((id, parent(id)?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&id) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == id).map(|(child, _)| *child));
        next += 1;
    }
    family
}

fn resident(id: u32) -> f64 {
    mebibytes(id, "status", "VmRSS:")
}

fn own(id: u32) -> f64 {
    ["Pss_Anon:", "Pss_Shmem:"].iter().map(|field| mebibytes(id, "smaps_rollup", field)).sum()
}

fn mebibytes(id: u32, file: &str, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) / 1024.0
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(id: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold anything; behind it come the state and the parent.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
