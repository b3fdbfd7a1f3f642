//! The floor: the device commands that virgld would send, from one thread, with nothing in between.
//!
//! Same device program, same connection, same ring code as virgld; no actors, no clients, no calls.

mod device;
mod screen;

use virgld_programs::bench::{Figures, Sampler};
use virgld_programs::stop::{Stop, Verdict};
use virgld_protocol::device::{
    Command, ContextAttachResource, ContextCreate, ContextDetachResource, ResourceAttachBacking,
    ResourceCreate3d, ResourceDetachBacking, ResourceUnref, Submit3d, TransferFromHost3d, TransferToHost3d,
};

use crate::case::{self, DEPTH, DEVICE_CASES, Shape};
use crate::player::Player;
use device::Device;
pub(crate) use screen::FloorScreen;

/// A device with one context and the resources for transfers.
pub(crate) struct Floor {
    device: Device,
    /// Where the device sees the memory that lies behind every resource.
    backing: u64,
    next_resource: u32,
}

impl Floor {
    /// Starts a device process and sets it up.
    pub(crate) fn start() -> Verdict<Self> {
        let mut device = Device::start()?;
        let backing = device.open_region(Shape::LARGE.bytes as usize)?;
        let mut floor = Self { device, backing, next_resource: FIRST_FREE };
        floor.complete(false, &ContextCreate { nlen: 0, context_init: 0, debug_name: [0; 64] })?;
        for (resource_id, shape) in [(SMALL, Shape::SMALL), (LARGE, Shape::LARGE)] {
            floor.create(resource_id, shape)?;
        }
        floor.device.drain()?;
        Ok(floor)
    }

    /// One command, and the wait for its answer.
    fn complete<C: Command>(&mut self, fenced: bool, command: &C) -> Verdict {
        self.device.post(fenced, command)?;
        self.device.flush()?;
        self.device.drain()
    }

    /// As one batch, [`DEPTH`] commands, of which that many are in flight all the time.
    fn stream<C: Command>(&mut self, fenced: bool, command: &C) -> Verdict {
        for _ in 0..DEPTH {
            self.device.make_room(1)?;
            self.device.post(fenced, command)?;
        }
        self.device.flush()
    }

    fn create(&mut self, resource_id: u32, shape: Shape) -> Verdict {
        let Shape { target, format, bind, width, height, bytes } = shape;
        self.device.make_room(3)?;
        let size = ResourceCreate3d { resource_id, target, format, bind, width, height, ..ONE_LAYER };
        self.device.post(false, &size)?;
        let (address, length) = (self.backing, bytes);
        let backing = ResourceAttachBacking { resource_id, nr_entries: 1, address, length, padding: 0 };
        self.device.post(false, &backing)?;
        self.device.post(false, &ContextAttachResource { resource_id, padding: 0 })?;
        self.device.flush()
    }

    fn destroy(&mut self, resource_id: u32) -> Verdict {
        self.device.make_room(3)?;
        self.device.post(false, &ContextDetachResource { resource_id, padding: 0 })?;
        self.device.post(false, &ResourceDetachBacking { resource_id, padding: 0 })?;
        self.device.post(false, &ResourceUnref { resource_id, padding: 0 })?;
        self.device.flush()
    }

    fn churn(&mut self) -> Verdict {
        for _ in 0..CHURN {
            let resource = self.next_resource;
            self.next_resource = resource.wrapping_add(1).max(FIRST_FREE);
            self.create(resource, Shape::BUFFER)?;
            self.destroy(resource)?;
        }
        Ok(())
    }
}

impl Player for Floor {
    fn about(&self) -> String {
        self.device.about()
    }

    fn measure(&mut self, case: &str, seconds: f64) -> Verdict<Figures> {
        let known = DEVICE_CASES.into_iter().find(|known| known.name == case);
        let unit = known.ok_or_else(|| Stop::failed(format!("no case {case}")))?.unit;
        let mut sampler = Sampler::new(seconds);
        let nothing = Submit3d { size: 0, padding: 0 };
        match case {
            case::FENCED_SUBMIT | case::SUBMIT_WAIT => sampler.latency(|| self.complete(true, &nothing))?,
            case::UNFENCED_SUBMIT => sampler.latency(|| self.complete(false, &nothing))?,
            // The pipeline is as full after a slice as before it, so that there is nothing to settle.
            case::FENCED_PIPELINE => sampler.rate(DEPTH as f64, || self.stream(true, &nothing), || ())?,
            case::UNFENCED_PIPELINE => sampler.rate(DEPTH as f64, || self.stream(false, &nothing), || ())?,
            case::RESOURCE_CHURN => sampler.rate(f64::from(CHURN), || self.churn(), || ())?,
            case::FROM_HOST => {
                let region = Shape::SMALL.whole();
                let command = TransferFromHost3d { region, resource_id: SMALL, ..Default::default() };
                sampler.latency(|| self.complete(true, &command))?;
            }
            case::TO_HOST => {
                let region = Shape::LARGE.whole();
                let command = TransferToHost3d { region, resource_id: LARGE, ..Default::default() };
                sampler.latency(|| self.complete(true, &command))?;
            }
            _ => return Err(Stop::skipped("the device has no part in it")),
        }
        self.device.drain()?;
        sampler.figures(unit)
    }
}

const SMALL: u32 = 1;
const LARGE: u32 = 2;
const FIRST_FREE: u32 = 3;
/// Buffers in one batch.
const CHURN: u32 = 20;

/// What all resources here have in common.
const ONE_LAYER: ResourceCreate3d = ResourceCreate3d {
    resource_id: 0,
    target: 0,
    format: 0,
    bind: 0,
    width: 0,
    height: 0,
    depth: 1,
    array_size: 1,
    last_level: 0,
    nr_samples: 0,
    flags: 0,
    padding: 0,
};
