//! A client at work: a compositor that draws and shows on `card0`, or a program that draws.

use virgld_protocol::client::kms::{AddFb2, CreateDumb, Cursor, CursorFlags, PageFlip, SetCrtc};
use virgld_protocol::client::{GemClose, Ioctl, ResourceCreate, TransferFromHost, TransferToHost, Wait};
use virgld_protocol::ids::{FenceKey, FileId, Token};
use virgld_protocol::message::scheme::Node;
use virgld_runtime::Time;
use zerocopy::IntoBytes;

use super::Told;
use crate::common::mode;
use crate::door::{Answer, Submission};
use crate::system::System;

const CRTC: u32 = 40;
const CONNECTOR: u32 = 44;
const SIDE: u32 = 64;

/// What is done for a frame, in this order; each is done when the one before is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Upload,
    Submit,
    Fence,
    ReadBack,
    Wait,
    Close,
    Dumb,
    Framebuffer,
    Show,
    Cursor,
    Flip,
    Event,
}

const DRAWING: &[Step] =
    &[Step::Create, Step::Upload, Step::Submit, Step::Fence, Step::ReadBack, Step::Wait, Step::Close];
const SHOWING: &[Step] = &[Step::Dumb, Step::Framebuffer, Step::Show, Step::Cursor, Step::Flip, Step::Event];

/// What it waits for.
enum Awaited {
    Answer(Step, Token),
    Fence(FenceKey),
    Event,
}

/// One client with one file.
pub(super) struct Client {
    node: Node,
    file: FileId,
    left: Vec<Step>,
    awaited: Option<Awaited>,
    /// Handle and number of what it draws to.
    target: Option<(u32, u32)>,
    dumb: Option<u32>,
    framebuffer: Option<u32>,
    fence: Option<FenceKey>,
    told: Told,
    done: Option<Time>,
}

impl Client {
    pub(super) fn open(system: &mut System, node: Node) -> Self {
        let file = system.door.open(node);
        Self {
            node,
            file,
            left: Vec::new(),
            awaited: None,
            target: None,
            dumb: None,
            framebuffer: None,
            fence: None,
            told: Told::Nothing,
            done: None,
        }
    }

    pub(super) fn file(&self) -> FileId {
        self.file
    }

    pub(super) fn node(&self) -> Node {
        self.node
    }

    /// Begins a frame.
    pub(super) fn begin(&mut self) {
        let shows = if self.node == Node::Card { SHOWING } else { &[] };
        self.left = DRAWING.iter().chain(shows).rev().copied().filter(|step| self.needs(*step)).collect();
        (self.awaited, self.fence, self.told, self.done) = (None, None, Told::Nothing, None);
    }

    pub(super) fn is_at_work(&self) -> bool {
        !self.left.is_empty() || self.awaited.is_some()
    }

    /// What it was told since it began the frame.
    pub(super) fn told(&self) -> Told {
        if self.is_at_work() { Told::Silence } else { self.told }
    }

    /// When it was done with the frame.
    pub(super) fn done_at(&self, otherwise: Time) -> Time {
        self.done.unwrap_or(otherwise)
    }

    /// What is shown is used again; what is drawn to is made for each frame.
    fn needs(&self, step: Step) -> bool {
        match step {
            Step::Dumb => self.dumb.is_none(),
            Step::Framebuffer => self.framebuffer.is_none(),
            _ => true,
        }
    }

    /// Looks whether what it waits for has come, and does what is next. Says whether there was anything.
    pub(super) fn step(&mut self, system: &mut System) -> bool {
        if let Some(awaited) = self.awaited.take() {
            let Some(good) = self.hear(system, &awaited) else {
                self.awaited = Some(awaited);
                return false;
            };
            if !good {
                // The frame is over, as in a program that checks what it is told.
                self.told = Told::Error;
                self.left.clear();
            }
        }
        match self.left.pop() {
            Some(step) => self.awaited = self.ask(system, step),
            None if self.done.is_none() => self.done = Some(system.now()),
            None => return false,
        }
        true
    }

    /// Whether what has come is good; nothing if it has not come.
    fn hear(&mut self, system: &mut System, awaited: &Awaited) -> Option<bool> {
        if system.door.is_cut_off(self.file) {
            return Some(false);
        }
        match awaited {
            Awaited::Answer(step, token) => {
                let answer = system.door.answer(*token)?;
                self.learn(*step, &answer);
                Some(answer.errno().is_none())
            }
            Awaited::Fence(fence) => system.door.signalled(*fence).map(|result| result.is_ok()),
            Awaited::Event => (!system.door.events(self.file).is_empty()).then_some(true),
        }
    }

    fn learn(&mut self, step: Step, answer: &Answer) {
        match step {
            Step::Create => {
                self.target = answer.fixed::<ResourceCreate>().map(|it| (it.bo_handle, it.res_handle));
            }
            Step::Dumb => self.dumb = answer.fixed::<CreateDumb>().map(|it| it.handle),
            Step::Framebuffer => self.framebuffer = answer.fixed::<AddFb2>().map(|it| it.fb_id),
            _ => {}
        }
    }

    fn ask(&mut self, system: &mut System, step: Step) -> Option<Awaited> {
        let (bo_handle, resource) = self.target.unwrap_or_default();
        let fb_id = self.framebuffer.unwrap_or_default();
        let token = match step {
            Step::Create => {
                let (width, height) = (4, 4);
                self.call(
                    system,
                    &ResourceCreate { target: 2, width, height, size: 64, ..Default::default() },
                    &[],
                )
            }
            Step::Upload => {
                self.call(system, &TransferToHost { bo_handle, w: 1, h: 1, d: 1, ..Default::default() }, &[])
            }
            Step::ReadBack => self.call(
                system,
                &TransferFromHost { bo_handle, w: 1, h: 1, d: 1, ..Default::default() },
                &[],
            ),
            Step::Close => self.call(system, &GemClose { handle: bo_handle, pad: 0 }, &[]),
            Step::Wait => self.call(system, &Wait { handle: bo_handle, flags: 0 }, &[]),
            Step::Submit => {
                let (stream, handles) = ([resource], [bo_handle]);
                let stream = stream.as_bytes();
                let what = Submission { stream, handles: &handles, fence: true, ..Submission::default() };
                let Some(made) = system.door.submit(self.file, &what) else {
                    // No memory for the stream: a door would wait, and so does this.
                    self.left.push(step);
                    return None;
                };
                self.fence = made.fence;
                made.token
            }
            Step::Fence => return self.fence.map(Awaited::Fence),
            Step::Dumb => self.call(
                system,
                &CreateDumb { width: SIDE, height: SIDE, bpp: 32, ..Default::default() },
                &[],
            ),
            Step::Framebuffer => {
                let handles = [self.dumb.unwrap_or_default(), 0, 0, 0];
                let (pixel_format, pitches) = (u32::from_le_bytes(*b"XR24"), [SIDE * 4, 0, 0, 0]);
                let (width, height) = (SIDE, SIDE);
                self.call(
                    system,
                    &AddFb2 { width, height, pixel_format, handles, pitches, ..Default::default() },
                    &[],
                )
            }
            Step::Show => {
                let (mode, mode_valid) = (mode(), 1);
                let asked = SetCrtc {
                    count_connectors: 1,
                    crtc_id: CRTC,
                    fb_id,
                    mode_valid,
                    mode,
                    ..Default::default()
                };
                self.call(system, &asked, &[&CONNECTOR.to_le_bytes()])
            }
            Step::Cursor => {
                let (flags, handle) = (CursorFlags::all().bits(), self.dumb.unwrap_or_default());
                let asked = Cursor { flags, crtc_id: CRTC, x: 3, y: 4, width: SIDE, height: SIDE, handle };
                self.call(system, &asked, &[])
            }
            Step::Flip => {
                self.call(system, &PageFlip { crtc_id: CRTC, fb_id, flags: 1, ..Default::default() }, &[])
            }
            Step::Event => return Some(Awaited::Event),
        };
        Some(Awaited::Answer(step, token))
    }

    fn call<T: Ioctl>(&self, system: &mut System, asked: &T, arrays: &[&[u8]]) -> Token {
        system.door.call(self.file, asked, arrays)
    }
}
