//! The actors' states, each fed with its own messages in any order.
//!
//! A message says what its sender may say; who may send it at all is the wiring's affair. So most targets have two
//! moods: a sender that keeps its word, of which the receiver's own promises are checked, and one that does not, of which
//! nothing is asked but that no panic and no endless loop comes of it.

pub(super) mod context;
pub(super) mod ctrlq;
pub(super) mod cursorq;
pub(super) mod display;
pub(super) mod keeper;
pub(super) mod resource;
pub(super) mod scheme;
pub(super) mod transport;

use virgld_protocol::client::Box3d;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Serial};
use virgld_protocol::message::ctrlq::{Rectangle, Transfer};
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::link::{Region, RegionId};
use virgld_runtime::memory::HeapMemory;

use crate::Input;

/// Commands are built here.
fn pool(classes: &[SizeClass]) -> DmaPool {
    let memory = HeapMemory::new(DmaPool::bytes(classes));
    DmaPool::new(memory, 0x1_0000, 0, classes).expect("the memory was made for it")
}

fn outcome(input: &mut Input<'_>) -> Result<(), Errno> {
    if input.chance(64) { Err(Errno::EIO) } else { Ok(()) }
}

fn resource(input: &mut Input<'_>) -> ResourceId {
    ResourceId(input.number())
}

fn rectangle(input: &mut Input<'_>) -> Rectangle {
    Rectangle { x: input.number(), y: input.number(), width: input.number(), height: input.number() }
}

fn transfer(input: &mut Input<'_>, serial: Serial) -> Transfer {
    let region = Box3d { w: input.number(), h: input.number(), d: input.number(), ..Box3d::default() };
    Transfer {
        to_host: input.flag(),
        resource: resource(input),
        region,
        level: input.number(),
        offset: input.long(),
        stride: input.number(),
        layer_stride: input.number(),
        serial,
    }
}

/// A region of up to 16 pages, with an address or without.
fn region(input: &mut Input<'_>, id: RegionId, bytes: usize) -> Region {
    let address = (!input.chance(64)).then_some(0x1000_0000 * (id.0 + 1));
    Region { id, memory: HeapMemory::new(bytes.min(16 * 4096)), address }
}
