//! What the tests of several crates ask for.

use virgld_protocol::client::kms::ModeInfo;
use virgld_resource::{Limits, Quota};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// 64 by 64, a hundred times a second.
pub fn mode() -> ModeInfo {
    ModeInfo {
        clock: 1000,
        hdisplay: 64,
        hsync_start: 70,
        hsync_end: 80,
        htotal: 100,
        vdisplay: 64,
        vsync_start: 70,
        vsync_end: 80,
        vtotal: 100,
        ..ModeInfo::default()
    }
}

/// So little memory that a few requests use it up.
pub fn tight_limits() -> Limits {
    let file = Quota {
        bytes: 16 * PAGE,
        isolated_bytes: 3 * PAGE,
        resources: 5,
        isolated: 3,
        copied_bytes: 4 * PAGE,
    };
    let user = Quota {
        bytes: 20 * PAGE,
        isolated_bytes: 6 * PAGE,
        resources: 8,
        isolated: 6,
        copied_bytes: 6 * PAGE,
    };
    Limits { arena_bytes: 4 * PAGE, file, user, overflow_bytes: 2 * PAGE }
}
