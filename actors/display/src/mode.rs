//! Modes: what a screen can be told to show.
//!
//! A display of a virtual machine has no timing of its own. Modes that are offered have the blanking of CVT's reduced
//! form and 60 refreshes a second; a client may set any other that is sound.

use std::time::Duration;

use virgld_protocol::client::kms::ModeInfo as Mode;
use virgld_protocol::errno::{Errno, Refusal};

/// Largest and smallest framebuffer and mode, as Linux has it for this device.
pub(crate) const LARGEST: u32 = 8192;
pub(crate) const SMALLEST: u32 = 32;

/// `DRM_MODE_TYPE_PREFERRED` and `DRM_MODE_TYPE_DRIVER`.
const PREFERRED: u32 = 1 << 3;
const DRIVER: u32 = 1 << 6;
/// `DRM_MODE_FLAG_INTERLACE`, `DRM_MODE_FLAG_DBLSCAN`.
const INTERLACE: u32 = 1 << 4;
const DOUBLE_SCAN: u32 = 1 << 5;

/// A client must not make the daemon refresh faster, nor wait longer, than this.
const FASTEST: Duration = Duration::from_micros(1_000_000 / 240);
const SLOWEST: Duration = Duration::from_millis(100);

/// Sizes that are offered besides the display's own, if they are not larger.
const COMMON: [(u16, u16); 14] = [
    (3840, 2160),
    (2560, 1600),
    (2560, 1440),
    (1920, 1200),
    (1920, 1080),
    (1680, 1050),
    (1600, 900),
    (1440, 900),
    (1280, 1024),
    (1280, 800),
    (1280, 720),
    (1024, 768),
    (800, 600),
    (640, 480),
];

/// What a display whose own size is `preferred` can show, the best first.
pub(crate) fn offered(preferred: (u32, u32)) -> Vec<Mode> {
    let fits = |side: u32| u16::try_from(side.clamp(SMALLEST, LARGEST)).unwrap_or(640);
    let own = (fits(preferred.0), fits(preferred.1));
    let mut first = timed(own, 60);
    first.kind |= PREFERRED;
    let smaller = |size: &(u16, u16)| *size != own && size.0 <= own.0 && size.1 <= own.1;
    let others = COMMON.into_iter().filter(smaller).map(|size| timed(size, 60));
    std::iter::once(first).chain(others).collect()
}

/// A mode of this size and rate.
pub(crate) fn timed((width, height): (u16, u16), rate: u16) -> Mode {
    let (htotal, vtotal) = (width + 160, height + 30);
    let clock = u32::from(htotal) * u32::from(vtotal) * u32::from(rate) / 1000;
    let mut mode = Mode {
        clock,
        hdisplay: width,
        hsync_start: width + 48,
        hsync_end: width + 80,
        htotal,
        vdisplay: height,
        vsync_start: height + 3,
        vsync_end: height + 13,
        vtotal,
        vrefresh: u32::from(rate),
        kind: DRIVER,
        ..Mode::default()
    };
    for (to, from) in mode.name.iter_mut().zip(format!("{width}x{height}").bytes()) {
        *to = from;
    }
    mode
}

/// Refuses a mode that no screen could show (`drm_mode_validate_basic`, `drm_mode_validate_size`).
pub(crate) fn check(mode: &Mode) -> Result<(), Refusal> {
    const UNSOUND: Refusal = Refusal::new(Errno::EINVAL, "the mode's timing makes no sense");
    const RANGE: Refusal = Refusal::new(Errno::ERANGE, "the mode's clock is too large");
    let across = [mode.hdisplay, mode.hsync_start, mode.hsync_end, mode.htotal];
    let down = [mode.vdisplay, mode.vsync_start, mode.vsync_end, mode.vtotal];
    if i32::try_from(mode.clock).is_err() || i32::try_from(mode.vrefresh).is_err() {
        return Err(RANGE);
    }
    let sound = mode.clock > 0
        && across[0] > 0
        && down[0] > 0
        && across.is_sorted()
        && down.is_sorted()
        && u32::from(across[0]) <= LARGEST
        && u32::from(down[0]) <= LARGEST
        && mode.flags & (INTERLACE | DOUBLE_SCAN) == 0;
    if sound { Ok(()) } else { Err(UNSOUND) }
}

/// How long a refresh takes.
pub(crate) fn period(mode: &Mode) -> Duration {
    let pixels = u64::from(mode.htotal) * u64::from(mode.vtotal);
    // The clock is in kHz.
    let nanoseconds = (pixels * 1_000_000).checked_div(u64::from(mode.clock)).unwrap_or(u64::MAX);
    Duration::from_nanos(nanoseconds).clamp(FASTEST, SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_sound_and_refreshes_sixty_times_a_second() {
        for preferred in [(1280, 800), (1366, 768), (8192, 8192), (1, 1)] {
            let modes = offered(preferred);
            assert_eq!(modes.iter().filter(|mode| mode.kind & PREFERRED != 0).count(), 1);
            for mode in modes {
                assert_eq!(check(&mode), Ok(()), "{mode:?}");
                let rate = 1.0 / period(&mode).as_secs_f64();
                assert!((59.9..60.1).contains(&rate), "{rate} {mode:?}");
            }
        }
    }

    #[test]
    fn unsound_modes_are_refused() {
        let good = timed((1024, 768), 60);
        let bad: [fn(&mut Mode); 6] = [
            |mode| mode.clock = 0,
            |mode| mode.hdisplay = 0,
            |mode| mode.hsync_end = mode.htotal + 1,
            |mode| mode.vtotal = mode.vdisplay - 1,
            |mode| mode.flags = INTERLACE,
            |mode| mode.clock = u32::MAX,
        ];
        for spoil in bad {
            let mut mode = good;
            spoil(&mut mode);
            assert!(check(&mode).is_err(), "{mode:?}");
        }
    }

    #[test]
    fn no_mode_makes_the_daemon_run_free() {
        let fast = Mode { clock: 2_000_000, htotal: 1, vtotal: 1, ..timed((32, 32), 60) };
        assert_eq!(period(&fast), FASTEST);
        let slow = Mode { clock: 1, ..timed((8192, 8192), 60) };
        assert_eq!(period(&slow), SLOWEST);
    }
}
