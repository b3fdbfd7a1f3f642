//! One scanout: its connector, encoder, CRTC and two planes, and what they show.

use virgld_protocol::client::kms::ModeInfo as Mode;

use crate::damage::Damage;
use crate::mode;
use crate::vblank::Clock;

/// What is connected to a scanout.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    pub(crate) connected: bool,
    pub(crate) modes: Vec<Mode>,
    /// In millimetres.
    pub(crate) size: (u32, u32),
    /// The blob that holds its EDID.
    pub(crate) edid: Option<u32>,
}

/// What is set, or to be set, on an output.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Config {
    /// Whether the connector is fed by the CRTC.
    pub(crate) joined: bool,
    pub(crate) active: bool,
    /// The mode, and the blob that it came in if it was one.
    pub(crate) mode: Option<(u32, Mode)>,
    pub(crate) primary: Plane,
    pub(crate) cursor: Plane,
}

/// What is set on a plane.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plane {
    pub(crate) framebuffer: Option<u32>,
    /// Whether it is shown by the CRTC.
    pub(crate) joined: bool,
    pub(crate) position: (i32, i32),
    pub(crate) size: (u32, u32),
    /// Left, top, width, height in 1/65536 of a pixel.
    pub(crate) source: [u32; 4],
    pub(crate) hotspot: (i32, i32),
    /// What a change that is not shown yet has of it shown anew.
    pub(crate) damage: Damage,
}

/// One scanout.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) monitor: Monitor,
    /// What clients have set.
    pub(crate) config: Config,
    /// What is on the screen: the same, but for a flip that waits for its refresh.
    pub(crate) shown: Config,
    pub(crate) clock: Clock,
    pub(crate) flips: u64,
}

impl Config {
    /// The mode, if the output is on.
    pub(crate) fn lit(&self) -> Option<&Mode> {
        self.mode.as_ref().map(|(_, mode)| mode).filter(|_| self.active)
    }

    /// Width and height of what is shown, if anything is.
    pub(crate) fn extent(&self) -> Option<(u32, u32)> {
        self.lit().map(|mode| (u32::from(mode.hdisplay), u32::from(mode.vdisplay)))
    }

    /// Where the pointer is, if it is shown.
    pub(crate) fn pointer(&self) -> Option<(i32, i32)> {
        self.cursor.framebuffer.and(self.lit()).map(|_| self.cursor.position)
    }

    /// Both planes.
    pub(crate) fn planes(&self) -> [&Plane; 2] {
        [&self.primary, &self.cursor]
    }

    /// Whether a plane shows this framebuffer.
    pub(crate) fn shows(&self, framebuffer: u32) -> bool {
        self.planes().iter().any(|plane| plane.framebuffer == Some(framebuffer))
    }
}

impl Plane {
    /// All of a framebuffer of this size, from this point of it on, over so much of the screen.
    pub(crate) fn covering(framebuffer: u32, from: (u32, u32), extent: (u32, u32)) -> Self {
        let fixed = |pixels: u32| pixels.saturating_mul(1 << 16);
        Self {
            framebuffer: Some(framebuffer),
            joined: true,
            position: (0, 0),
            size: extent,
            source: [fixed(from.0), fixed(from.1), fixed(extent.0), fixed(extent.1)],
            damage: Damage::Everything,
            ..Self::default()
        }
    }
}

impl Monitor {
    /// Width and height of the best mode.
    pub(crate) fn preferred(&self) -> Option<(u32, u32)> {
        self.modes.first().map(|it| (u32::from(it.hdisplay), u32::from(it.vdisplay)))
    }

    /// Nothing is connected: what the display told of itself is not to be believed any more.
    pub(crate) fn unplug(&mut self) {
        (self.edid, self.size) = (None, (0, 0));
    }

    /// What GET_DISPLAY_INFO tells. Gives whether it is news.
    pub(crate) fn resize(&mut self, extent: Option<(u32, u32)>) -> bool {
        let before = (self.connected, self.preferred());
        self.connected = extent.is_some();
        self.modes = extent.map(mode::offered).unwrap_or_default();
        before != (self.connected, self.preferred())
    }
}
