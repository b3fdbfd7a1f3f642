//! The cases below GL, and the resources that they use, alike on the floor and through the DRM node.

use virgld_programs::bench::{CASES, Unit};
use virgld_programs::stop::{Stop, Verdict};
use virgld_protocol::client::Box3d;

use crate::side::Side;

/// A case that a player measures below GL.
#[derive(Clone, Copy)]
pub(crate) struct DeviceCase {
    /// What one types to run it.
    pub(crate) name: &'static str,
    /// What its figures count.
    pub(crate) unit: Unit,
    /// Where it means something.
    pub(crate) sides: &'static [Side],
}

/// An empty command stream with a fence, waited for.
pub(crate) const FENCED_SUBMIT: &str = "fenced-submit";
/// The same, [`DEPTH`] of them in flight.
pub(crate) const FENCED_PIPELINE: &str = "fenced-pipeline";
/// An empty command stream that uses a buffer, and the wait for that buffer.
pub(crate) const SUBMIT_WAIT: &str = "submit-wait";
/// An empty command stream without a fence: the device answers once it has read it.
pub(crate) const UNFENCED_SUBMIT: &str = "unfenced-submit";
/// The same, [`DEPTH`] of them in flight.
pub(crate) const UNFENCED_PIPELINE: &str = "unfenced-pipeline";
/// A call that the device has no part in.
pub(crate) const GET_CAP: &str = "get-cap";
/// A buffer comes and goes.
pub(crate) const RESOURCE_CHURN: &str = "resource-churn";
/// 256 by 256 texels into memory, waited for.
pub(crate) const FROM_HOST: &str = "transfer-from-256";
/// 4 MiB of texels out of memory, waited for.
pub(crate) const TO_HOST: &str = "transfer-to-4mib";

/// All cases below GL, in the order in which they run.
pub(crate) const DEVICE_CASES: [DeviceCase; 9] = [
    DeviceCase { name: FENCED_SUBMIT, unit: Unit::Microseconds, sides: BOTH },
    DeviceCase { name: FENCED_PIPELINE, unit: Unit::rate("submits/s"), sides: BOTH },
    DeviceCase { name: SUBMIT_WAIT, unit: Unit::Microseconds, sides: BOTH },
    DeviceCase { name: UNFENCED_SUBMIT, unit: Unit::Microseconds, sides: &[Side::Floor] },
    DeviceCase { name: UNFENCED_PIPELINE, unit: Unit::rate("submits/s"), sides: &[Side::Floor] },
    DeviceCase { name: GET_CAP, unit: Unit::Microseconds, sides: &[Side::Virgld] },
    DeviceCase { name: RESOURCE_CHURN, unit: Unit::rate("buffers/s"), sides: BOTH },
    DeviceCase { name: FROM_HOST, unit: Unit::Microseconds, sides: BOTH },
    DeviceCase { name: TO_HOST, unit: Unit::Microseconds, sides: BOTH },
];

/// An empty command stream that uses a buffer of 4 MiB which is mapped and not changed, and the wait for that buffer.
pub(crate) const MAPPED_WAIT: &str = "mapped-submit-wait";
/// 4 MiB of texels written to a mapping, and out of memory, waited for.
pub(crate) const MAPPED_TO_HOST: &str = "mapped-to-4mib";
/// 256 by 256 texels into memory that was written to before, waited for, and read from a mapping.
pub(crate) const MAPPED_FROM_HOST: &str = "mapped-from-256";

/// All cases of what is mapped, in the order in which they run.
pub(crate) const MAPPED_CASES: [DeviceCase; 3] = [
    DeviceCase { name: MAPPED_WAIT, unit: Unit::Microseconds, sides: TWO_VIRGLDS },
    DeviceCase { name: MAPPED_FROM_HOST, unit: Unit::Microseconds, sides: TWO_VIRGLDS },
    DeviceCase { name: MAPPED_TO_HOST, unit: Unit::Microseconds, sides: TWO_VIRGLDS },
];

/// A picture shown whole: the device's part of a flip, and how long that takes.
pub(crate) const PRESENT: &str = "present";
/// Flips one after another, each when the one before was shown.
pub(crate) const FLIP: &str = "flip";
/// The call that asks for a flip.
pub(crate) const FLIP_CALL: &str = "flip-call";
/// From the moment that a flip's event names to when the program has the event.
pub(crate) const FLIP_LATENESS: &str = "flip-lateness";
/// A pointer is moved, as fast as calls return.
pub(crate) const CURSOR_MOVE: &str = "cursor-move";
/// How many of those moves the device is given: of those that wait, the newest.
pub(crate) const CURSOR_SENT: &str = "cursor-sent";

/// All cases of screens, in the order in which they run.
pub(crate) const SCREEN_CASES: [DeviceCase; 6] = [
    DeviceCase { name: PRESENT, unit: Unit::Microseconds, sides: &[Side::Floor] },
    DeviceCase { name: FLIP, unit: Unit::rate("flips/s"), sides: &[Side::Virgld] },
    DeviceCase { name: FLIP_CALL, unit: Unit::Microseconds, sides: &[Side::Virgld] },
    DeviceCase { name: FLIP_LATENESS, unit: Unit::Microseconds, sides: &[Side::Virgld] },
    DeviceCase { name: CURSOR_MOVE, unit: Unit::rate("moves/s"), sides: BOTH },
    DeviceCase { name: CURSOR_SENT, unit: Unit::rate("moves/s"), sides: &[Side::Virgld] },
];

/// The case of screens of that name.
pub(crate) fn screen_case(name: &str) -> Verdict<DeviceCase> {
    let found = SCREEN_CASES.into_iter().find(|case| case.name == name);
    found.ok_or_else(|| Stop::failed(format!("no case {name}")))
}

/// Moves of a pointer in one batch.
pub(crate) const MOVES: u32 = 64;

/// Where a pointer is after so many moves: each is to another place.
pub(crate) fn place(moves: u32) -> (u32, u32) {
    (moves % 1000, moves % 700)
}

/// The GL case that starts processes, and so is left to `glbench` itself.
pub(crate) const FIRST_PIXEL: &str = "first-pixel";

/// The GL cases, by name and unit.
pub(crate) fn gl_cases() -> impl Iterator<Item = (&'static str, Unit)> {
    CASES.into_iter().map(|case| (case.name, case.unit))
}

/// A GL case of one client while another does something else: what a neighbour leaves.
#[derive(Clone, Copy)]
pub(crate) struct Neighbours {
    /// What one types to run it.
    pub(crate) name: &'static str,
    /// The case that is measured.
    pub(crate) measured: &'static str,
    /// What the neighbour does.
    pub(crate) neighbour: &'static str,
}

/// First what sharing with an equal leaves, then what one leaves who gives the device all the work that it takes.
pub(crate) const NEIGHBOURS: [Neighbours; 4] = [
    Neighbours { name: "frames-beside-frames", measured: "small-frames", neighbour: "small-frames" },
    Neighbours { name: "frames-beside-draws", measured: "small-frames", neighbour: "draw-calls" },
    Neighbours {
        name: "finish-beside-finish",
        measured: "finish-after-clear",
        neighbour: "finish-after-clear",
    },
    Neighbours { name: "finish-beside-draws", measured: "finish-after-clear", neighbour: "draw-calls" },
];

impl Neighbours {
    /// What its figures count.
    pub(crate) fn unit(self) -> Option<Unit> {
        gl_cases().find(|(name, _)| *name == self.measured).map(|(_, unit)| unit)
    }
}

/// How many submits a pipeline holds.
pub(crate) const DEPTH: usize = 64;

/// A resource as both the device and the DRM node describe it.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// `pipe_texture_target`.
    pub(crate) target: u32,
    /// `virgl_formats`.
    pub(crate) format: u32,
    /// `VIRGL_BIND_*`.
    pub(crate) bind: u32,
    /// Texels or bytes.
    pub(crate) width: u32,
    /// Texels.
    pub(crate) height: u32,
    /// Bytes of memory behind it.
    pub(crate) bytes: u32,
}

impl Shape {
    /// A buffer of vertices.
    pub(crate) const BUFFER: Self =
        Self { target: 0, format: 64, bind: VERTEX_BUFFER, width: 4096, height: 1, bytes: 4096 };
    /// What is read back.
    pub(crate) const SMALL: Self = Self::texture(256);
    /// What is uploaded.
    pub(crate) const LARGE: Self = Self::texture(1024);

    const fn texture(edge: u32) -> Self {
        let bind = RENDER_TARGET | SAMPLER_VIEW;
        Self { target: 2, format: 1, bind, width: edge, height: edge, bytes: edge * edge * 4 }
    }

    /// All of its texels.
    pub(crate) fn whole(self) -> Box3d {
        Box3d { w: self.width, h: self.height, d: 1, ..Box3d::default() }
    }
}

const BOTH: &[Side] = &[Side::Floor, Side::Virgld];
const TWO_VIRGLDS: &[Side] = &[Side::Virgld, Side::Copying];
const RENDER_TARGET: u32 = 1 << 1;
const SAMPLER_VIEW: u32 = 1 << 3;
const VERTEX_BUFFER: u32 = 1 << 4;
