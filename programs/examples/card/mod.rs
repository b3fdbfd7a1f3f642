//! What the examples have in common: a card, and what is to be shown on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use drm::control::{Device as ControlDevice, Event, Mode, connector, crtc};
use rustix::time::{ClockId, clock_gettime};
use virgld_programs::pace::Shown;
use virgld_programs::stop::{Stop, Verdict, ensure};

/// An open node.
pub(crate) struct Card {
    file: File,
    /// Flips that were heard of together with one that was waited for.
    shown: RefCell<VecDeque<Shown>>,
}

impl Card {
    /// Opens it for reading and writing.
    pub(crate) fn open(path: &Path) -> Verdict<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|error| Stop::failed(format!("{}: {error}", path.display())))?;
        Ok(Self { file, shown: RefCell::default() })
    }

    /// Waits until a flip was shown.
    pub(crate) fn wait_for_flip(&self, crtc: crtc::Handle) -> Verdict<Shown> {
        let mut shown = self.shown.borrow_mut();
        loop {
            if let Some(first) = shown.pop_front() {
                return Ok(first);
            }
            let events = self.receive_events()?;
            let now = clock_gettime(ClockId::Monotonic);
            let arrival = Duration::try_from(now).map_err(|error| Stop::failed(error.to_string()))?;
            for event in events {
                if let Event::PageFlip(flip) = event {
                    ensure(flip.crtc == crtc, || format!("an event of {:?}, not of {crtc:?}", flip.crtc))?;
                    shown.push_back(Shown { refresh: flip.frame, stamp: flip.duration, arrival });
                }
            }
        }
    }
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl drm::Device for Card {}
impl ControlDevice for Card {}

/// What is to be shown on, and how.
pub(crate) struct Screen {
    /// Where the display is.
    pub(crate) connector: connector::Handle,
    /// What feeds it.
    pub(crate) crtc: crtc::Handle,
    /// What it likes best.
    pub(crate) mode: Mode,
}

impl Screen {
    /// The first connector with a display, its best mode, and a CRTC for it.
    pub(crate) fn find(card: &Card) -> Verdict<Self> {
        let resources = card.resource_handles()?;
        for handle in resources.connectors() {
            let connector = card.get_connector(*handle, true)?;
            let (connector::State::Connected, Some(mode)) = (connector.state(), connector.modes().first())
            else {
                continue;
            };
            for encoder in connector.encoders() {
                let possible = card.get_encoder(*encoder)?.possible_crtcs();
                if let Some(crtc) = resources.filter_crtcs(possible).first() {
                    return Ok(Self { connector: *handle, crtc: *crtc, mode: *mode });
                }
            }
        }
        Err(Stop::failed("no connector has a display, or none with a display has a CRTC"))
    }
}
