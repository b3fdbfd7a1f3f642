//! A program on the card: what a compositor asks of it, and nothing else.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use virgld_programs::bench::{Figures, Sampler};
use virgld_programs::stop::{Stop, Verdict, ensure};
use virgld_protocol::client::kms::{
    AddFb, Connection, CreateDumb, Cursor, CursorFlags, EventHead, EventVblank, GetConnector, GetResources,
    ModeInfo, PageFlip, PageFlipFlags, SetCrtc,
};
use zerocopy::{FromZeros, IntoBytes};

use super::node::Node;
use crate::case::{self, MOVES, place, screen_case};
use crate::player::Player;

/// A mode that is set, two pictures to show in turn, and a pointer.
pub(crate) struct Screen {
    node: Node,
    crtc: u32,
    frames: [u32; 2],
    mode: ModeInfo,
    flips: usize,
    moves: u32,
}

impl Screen {
    /// Opens the card, sets its display's best mode and shows a pointer.
    pub(crate) fn open() -> Verdict<Self> {
        let node = Node::open(NODE).map_err(|error| Stop::failed(format!("cannot open {NODE}: {error}")))?;
        let (connector, crtc) = outputs(&node)?;
        let mode = best_mode(&node, connector)?;
        let frames = [framebuffer(&node, &mode)?, framebuffer(&node, &mode)?];
        let mut set = SetCrtc {
            count_connectors: 1,
            crtc_id: crtc,
            fb_id: frames[0],
            mode_valid: 1,
            mode,
            ..Default::default()
        };
        node.call_with(&mut set, &mut [&mut connector.to_ne_bytes()])?;
        let image = dumb(&node, POINTER, POINTER)?;
        node.call(&mut Cursor {
            flags: CursorFlags::BO.bits(),
            crtc_id: crtc,
            width: POINTER,
            height: POINTER,
            handle: image.handle,
            ..Default::default()
        })?;
        Ok(Self { node, crtc, frames, mode, flips: 0, moves: 0 })
    }

    /// Asks for the next flip.
    fn flip(&mut self) -> Verdict {
        self.flips += 1;
        let (crtc_id, fb_id) = (self.crtc, self.frames[self.flips % 2]);
        let flags = PageFlipFlags::EVENT.bits();
        Ok(self.node.call(&mut PageFlip { crtc_id, fb_id, flags, ..Default::default() })?)
    }

    /// Waits until it is shown.
    fn shown(&self) -> Verdict<EventVblank> {
        let event = self.node.event()?;
        ensure(event.head.kind == EventHead::FLIP_COMPLETE, || format!("an event {event:?}, not of a flip"))?;
        Ok(event)
    }

    fn wander(&mut self) -> Verdict {
        for _ in 0..MOVES {
            self.moves = self.moves.wrapping_add(1);
            let (x, y) = place(self.moves);
            let (x, y) = (x.cast_signed(), y.cast_signed());
            let flags = CursorFlags::MOVE.bits();
            self.node.call(&mut Cursor { flags, crtc_id: self.crtc, x, y, ..Default::default() })?;
        }
        Ok(())
    }

    /// How many moves in a second the device is given while a program makes as many as it can.
    fn sent(&mut self) -> Verdict<f64> {
        let (before, start) = (cursor_commands()?, Instant::now());
        while start.elapsed() < SLICE {
            self.wander()?;
        }
        let elapsed = start.elapsed().as_secs_f64();
        Ok((cursor_commands()? - before) / elapsed)
    }
}

impl Player for Screen {
    fn about(&self) -> String {
        let ModeInfo { hdisplay, vdisplay, clock, htotal, vtotal, .. } = self.mode;
        let hertz = f64::from(clock) * 1e3 / (f64::from(htotal) * f64::from(vtotal));
        format!("{hdisplay}x{vdisplay} at {hertz:.2} Hz")
    }

    fn measure(&mut self, case: &str, seconds: f64) -> Verdict<Figures> {
        let unit = screen_case(case)?.unit;
        let mut sampler = Sampler::new(seconds);
        match case {
            case::FLIP => {
                let flip = || {
                    self.flip()?;
                    self.shown().map(drop)
                };
                sampler.rate(1.0, flip, || ())?;
            }
            case::FLIP_CALL => sampler.told(|| {
                let start = Instant::now();
                self.flip()?;
                let took = start.elapsed().as_secs_f64();
                self.shown()?;
                Ok(took)
            })?,
            case::FLIP_LATENESS => sampler.told(|| {
                self.flip()?;
                let event = self.shown()?;
                Ok((monotonic() - moment(&event)).max(0.0))
            })?,
            case::CURSOR_MOVE => sampler.rate(f64::from(MOVES), || self.wander(), || ())?,
            case::CURSOR_SENT => sampler.told(|| self.sent())?,
            _ => return Err(Stop::skipped("no ioctl does that")),
        }
        sampler.figures(unit)
    }
}

/// The first connector and the first CRTC.
fn outputs(node: &Node) -> Verdict<(u32, u32)> {
    let mut counts = GetResources::default();
    node.call_with(&mut counts, &mut [])?;
    let (mut crtcs, mut connectors) =
        (vec![0_u32; counts.count_crtcs as usize], vec![0_u32; counts.count_connectors as usize]);
    counts = GetResources {
        count_crtcs: counts.count_crtcs,
        count_connectors: counts.count_connectors,
        ..Default::default()
    };
    let arrays: &mut [&mut [u8]] = &mut [&mut [], crtcs.as_mut_bytes(), connectors.as_mut_bytes()];
    node.call_with(&mut counts, arrays)?;
    let found = connectors.first().zip(crtcs.first());
    found.map(|(connector, crtc)| (*connector, *crtc)).ok_or_else(|| Stop::failed("no connector or no CRTC"))
}

fn best_mode(node: &Node, connector_id: u32) -> Verdict<ModeInfo> {
    let mut connector = GetConnector { connector_id, ..Default::default() };
    node.call_with(&mut connector, &mut [])?;
    let connected = Connection(connector.connection) == Connection::CONNECTED;
    ensure(connected, || "no display is connected".to_owned())?;
    let mut modes = vec![ModeInfo::new_zeroed(); connector.count_modes as usize];
    connector = GetConnector { connector_id, count_modes: connector.count_modes, ..Default::default() };
    node.call_with(&mut connector, &mut [&mut [], modes.as_mut_bytes()])?;
    modes.first().copied().ok_or_else(|| Stop::failed("the display has no mode"))
}

fn dumb(node: &Node, width: u32, height: u32) -> Verdict<CreateDumb> {
    let mut call = CreateDumb { width, height, bpp: 32, ..Default::default() };
    node.call(&mut call)?;
    Ok(call)
}

fn framebuffer(node: &Node, mode: &ModeInfo) -> Verdict<u32> {
    let (width, height) = (mode.hdisplay.into(), mode.vdisplay.into());
    let CreateDumb { handle, pitch, .. } = dumb(node, width, height)?;
    let mut call = AddFb { width, height, pitch, bpp: 32, depth: 24, handle, ..Default::default() };
    node.call(&mut call)?;
    Ok(call.fb_id)
}

/// Commands for pointers that the device was given so far, as the daemon counts them.
fn cursor_commands() -> Verdict<f64> {
    let own = std::env::current_exe()?;
    // It finds the daemon by the environment, as this program does, and is no client of it.
    let mut command = Command::new(own.with_file_name("virgld"));
    command.args(["status", "--json"]).env_remove("LD_PRELOAD").stdin(Stdio::null());
    let output = command.stderr(Stdio::null()).output()?;
    let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let count = status.and_then(|status| status["device"]["cursor_commands"].as_f64());
    count.ok_or_else(|| Stop::failed("`virgld status` counts no commands for pointers"))
}

fn monotonic() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn moment(event: &EventVblank) -> f64 {
    f64::from(event.tv_sec) + f64::from(event.tv_usec) / 1e6
}

const NODE: &str = "/dev/dri/card0";
/// Edge of a pointer, in pixels.
const POINTER: u32 = 64;
/// For how long moves are counted at a time.
const SLICE: Duration = Duration::from_millis(50);
