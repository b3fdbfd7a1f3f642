//! What is connected to the device, and what the device has sent to be shown there: the pixels that a person would see.
//!
//! A device without 3D sends them on its display socket (VHOST_USER_GPU_SCANOUT, VHOST_USER_GPU_UPDATE).

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::reactor::signal;

/// The screens as the device has filled them, pointers left out. Clones are of the same screens, and they outlast the
/// device: another goes on with them.
#[derive(Debug, Clone, Default)]
pub struct Monitor(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    screens: Vec<Screen>,
    /// The size of the first, if it is not that with which the device was started.
    extent: Option<(u32, u32)>,
    /// Whether the driver is to be told that the size is another.
    resized: bool,
    /// Wakes the connection to the device.
    nudge: Option<Arc<OwnedFd>>,
}

/// One of them: blue, green, red and a byte without meaning for each pixel, row by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screen {
    /// In pixels; 0 if it is off.
    pub width: u32,
    /// In pixels; 0 if it is off.
    pub height: u32,
    /// Width times height times 4 bytes.
    pub pixels: Vec<u8>,
}

/// Where the pixels of an update go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scanout: u32,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Monitor {
    /// All screens of which the device has said anything.
    pub fn screens(&self) -> Vec<Screen> {
        self.lock().screens.clone()
    }

    /// The first screen is of this size from now on, as if a person had drawn its window larger or smaller: the device
    /// is told when it asks, the driver that it should. Otherwise says why not.
    pub fn resize(&self, width: u32, height: u32) -> Result<(), &'static str> {
        let sound = |side| (SMALLEST..=LARGEST).contains(&side);
        if !sound(width) || !sound(height) {
            return Err("a screen has 32 to 8192 pixels each way");
        }
        let mut inside = self.lock();
        let inside = &mut *inside;
        let Some(nudge) = &inside.nudge else {
            return Err(
                "the screen is another's: whatever shows it, a virtual machine's window say, gives it its size",
            );
        };
        inside.extent = Some((width, height));
        inside.resized = true;
        signal(nudge);
        Ok(())
    }

    /// The size that it was given since, if any.
    pub(super) fn extent(&self) -> Option<(u32, u32)> {
        self.lock().extent
    }

    /// Whether it was given one since this was asked last.
    pub(super) fn take_resized(&self) -> bool {
        std::mem::take(&mut self.lock().resized)
    }

    /// Another device is connected, and who is to be woken when the screen is resized. It has shown nothing yet: what the
    /// one before showed is not what this one does.
    pub(super) fn connect(&self, nudge: Arc<OwnedFd>) {
        let mut inside = self.lock();
        inside.nudge = Some(nudge);
        inside.screens.clear();
    }

    /// A screen has this size from now on, and is black; without width or height it is off. A device that asks for more
    /// than screens can be, or than is kept for all of them, gets none.
    pub(super) fn set(&self, scanout: u32, width: u32, height: u32) {
        let (index, screens) = (scanout as usize, &mut self.lock().screens);
        // Not louder where it is refused: a device may say so without end.
        let refused = || tracing::debug!(scanout, width, height, "the device sets a screen that cannot be");
        if index >= MOST_SCREENS || width > LARGEST || height > LARGEST {
            return refused();
        }
        let bytes = width as usize * height as usize * PIXEL;
        let kept = |(other, screen): (usize, &Screen)| if other == index { 0 } else { screen.pixels.len() };
        if screens.iter().enumerate().map(kept).sum::<usize>() + bytes > MOST_BYTES {
            return refused();
        }
        if screens.len() <= index {
            screens.resize(index + 1, Screen::default());
        }
        screens[index] = Screen { width, height, pixels: vec![0; bytes] };
    }

    /// Takes some bytes of an update, from `done` bytes after its first on. What is outside the screen is dropped.
    pub(super) fn fill(&self, place: Place, done: usize, bytes: &[u8]) {
        let screens = &mut self.lock().screens;
        let Some(screen) = screens.get_mut(place.scanout as usize) else { return };
        let row = place.width as usize * PIXEL;
        if row == 0 {
            return;
        }
        let (mut done, mut bytes) = (done, bytes);
        while !bytes.is_empty() {
            let (y, start) = (done / row, done % row);
            let (now, later) = bytes.split_at(bytes.len().min(row - start));
            if y < place.height as usize {
                screen.fill(place.x as usize * PIXEL + start, place.y as usize + y, now);
            }
            done += now.len();
            bytes = later;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// Puts bytes into a row, from byte `left` of it on.
    fn fill(&mut self, left: usize, y: usize, bytes: &[u8]) {
        let row = self.width as usize * PIXEL;
        let length = bytes.len().min(row.saturating_sub(left));
        if y < self.height as usize && length > 0 {
            let start = y * row + left;
            self.pixels[start..start + length].copy_from_slice(&bytes[..length]);
        }
    }
}

const PIXEL: usize = 4;
/// `VIRTIO_GPU_MAX_SCANOUTS`.
const MOST_SCREENS: usize = 16;
/// In pixels, each way: more than modes can have here.
const LARGEST: u32 = 8192;
/// Of all screens together: one of the largest, or many that are smaller.
const MOST_BYTES: usize = LARGEST as usize * LARGEST as usize * PIXEL;
/// In pixels, each way: less than this, and there is no mode.
const SMALLEST: u32 = 32;

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn place(x: u32, y: u32, width: u32, height: u32) -> Place {
        Place { scanout: 0, x, y, width, height }
    }

    #[test]
    fn an_update_in_pieces_of_any_length_is_one_picture() {
        let bytes: Vec<u8> = (1..=2 * 2 * 4).collect();
        for length in 1..=bytes.len() {
            let monitor = Monitor::default();
            monitor.set(0, 3, 3);
            for (number, piece) in bytes.chunks(length).enumerate() {
                monitor.fill(place(1, 1, 2, 2), number * length, piece);
            }
            let [screen] = &monitor.screens()[..] else { panic!("one screen") };
            let mut right = vec![0; 3 * 3 * 4];
            right[16..24].copy_from_slice(&bytes[..8]);
            right[28..36].copy_from_slice(&bytes[8..]);
            assert_eq!(screen.pixels, right, "pieces of {length} bytes");
        }
    }

    #[test]
    fn what_is_outside_goes_nowhere() {
        let monitor = Monitor::default();
        monitor.set(16, 8, 8);
        monitor.set(0, LARGEST + 1, 1);
        assert_eq!(monitor.screens(), []);
        monitor.set(0, 2, 1);
        monitor.fill(place(1, 0, 2, 2), 0, &[7; 16]);
        for far in [place(u32::MAX, 0, 1, 1), place(0, u32::MAX, 1, 1), place(0, 0, 0, 1)] {
            monitor.fill(far, 0, &[9; 4]);
        }
        monitor.fill(Place { scanout: 3, ..place(0, 0, 1, 1) }, 0, &[9; 4]);
        // More bytes than the update has room for.
        monitor.fill(place(0, 0, 1, 1), 4, &[9; 4]);
        assert_eq!(monitor.screens()[0].pixels, [0, 0, 0, 0, 7, 7, 7, 7]);
        monitor.set(0, 0, 0);
        assert_eq!(monitor.screens(), [Screen::default()]);
    }

    #[test]
    fn a_device_that_sets_many_screens_takes_no_more_memory_than_one() {
        let monitor = Monitor::default();
        let sizes = || monitor.lock().screens.iter().map(|screen| screen.pixels.len()).collect::<Vec<_>>();
        monitor.set(0, LARGEST, LARGEST / 2);
        monitor.set(1, LARGEST, LARGEST / 2);
        monitor.set(2, 1, 1);
        monitor.set(1, LARGEST, LARGEST / 2 + 1);
        assert_eq!(sizes(), [MOST_BYTES / 2; 2]);
        monitor.set(1, 1, 1);
        monitor.set(2, 1, 1);
        assert_eq!(sizes(), [MOST_BYTES / 2, PIXEL, PIXEL]);
    }

    #[test]
    fn what_a_device_before_showed_is_not_what_the_next_shows() {
        let monitor = Monitor::default();
        monitor.set(0, 2, 1);
        monitor.fill(place(0, 0, 2, 1), 0, &[7; 8]);
        monitor.connect(Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()));
        assert_eq!(monitor.screens(), []);
    }

    #[test]
    fn a_size_is_told_once_and_kept() {
        let monitor = Monitor::default();
        assert!(monitor.resize(800, 600).unwrap_err().contains("another's"));
        let nudge = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        monitor.connect(Arc::new(nudge));
        assert!(monitor.resize(31, 600).is_err() && monitor.resize(800, 8193).is_err());
        assert_eq!((monitor.extent(), monitor.take_resized()), (None, false));
        monitor.clone().resize(800, 600).unwrap();
        assert_eq!((monitor.extent(), monitor.take_resized()), (Some((800, 600)), true));
        assert_eq!((monitor.extent(), monitor.take_resized()), (Some((800, 600)), false));
    }
}
