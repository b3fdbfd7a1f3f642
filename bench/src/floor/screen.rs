//! The floor of screens: what the device takes to show a picture and to move a pointer.
//!
//! The device is one without 3D, which sends each picture on its display socket: the same thread receives it.

use virgld_programs::bench::{Figures, Sampler};
use virgld_programs::stop::{Stop, Verdict};
use virgld_protocol::device::{
    ResourceAttachBacking, ResourceCreate2d, ResourceFlush, SetScanout, TransferToHost2d, UpdateCursor,
};
use virgld_protocol::message::ctrlq::Rectangle;

use super::device::Device;
use crate::case::{self, MOVES, place, screen_case};
use crate::player::Player;

/// A device that shows a picture and a pointer.
pub(crate) struct FloorScreen {
    device: Device,
    moves: u32,
}

impl FloorScreen {
    /// Starts a device process and has it show something.
    pub(crate) fn start() -> Verdict<Self> {
        let mut device = Device::start_without_3d()?;
        let address = device.open_region(BYTES as usize)?;
        for (resource_id, width, height) in [(PICTURE, WHOLE.width, WHOLE.height), (POINTER, EDGE, EDGE)] {
            device.post(false, &ResourceCreate2d { resource_id, format: BGRX, width, height })?;
            let length = width * height * 4;
            let backing = ResourceAttachBacking { resource_id, nr_entries: 1, address, length, padding: 0 };
            device.post(false, &backing)?;
        }
        device.post(false, &SetScanout { rectangle: WHOLE, scanout_id: 0, resource_id: PICTURE })?;
        device.flush()?;
        device.drain()?;
        Ok(Self { device, moves: 0 })
    }

    /// What the device is told at a flip between pictures that it has shown before.
    fn present(&mut self) -> Verdict {
        let resource_id = PICTURE;
        self.device
            .post(false, &TransferToHost2d { rectangle: WHOLE, offset: 0, resource_id, padding: 0 })?;
        self.device.post(false, &SetScanout { rectangle: WHOLE, scanout_id: 0, resource_id })?;
        self.device.post(false, &ResourceFlush { rectangle: WHOLE, resource_id, padding: 0 })?;
        self.device.flush()?;
        self.device.drain()
    }

    fn wander(&mut self) -> Verdict {
        for _ in 0..MOVES {
            self.moves = self.moves.wrapping_add(1);
            let (x, y) = place(self.moves);
            self.device.move_cursor(&UpdateCursor { x, y, resource_id: POINTER, ..Default::default() })?;
        }
        Ok(())
    }
}

impl Player for FloorScreen {
    fn about(&self) -> String {
        self.device.about()
    }

    fn measure(&mut self, case: &str, seconds: f64) -> Verdict<Figures> {
        let unit = screen_case(case)?.unit;
        let mut sampler = Sampler::new(seconds);
        match case {
            case::PRESENT => sampler.latency(|| self.present())?,
            case::CURSOR_MOVE => sampler.rate(f64::from(MOVES), || self.wander(), || ())?,
            _ => return Err(Stop::skipped("the device has no part in it")),
        }
        self.device.drain()?;
        sampler.figures(unit)
    }
}

/// As the mode that virgld's device has.
const WHOLE: Rectangle = Rectangle { x: 0, y: 0, width: 1280, height: 800 };
const BYTES: u32 = WHOLE.width * WHOLE.height * 4;
/// Of a pointer.
const EDGE: u32 = 64;
const PICTURE: u32 = 1;
const POINTER: u32 = 2;
/// `VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM`.
const BGRX: u32 = 2;
