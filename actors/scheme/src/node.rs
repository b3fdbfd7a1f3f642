//! The ioctls of the DRM core: who drives this node, and what it can do.

use virgld_protocol::client::{
    Call, GetCap, GetMagic, GetUnique, Reply, SetVersion, Version, cap, layout_of,
};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::scheme::Node;
use virgld_protocol::pci::BUS_NAME;

use crate::state::{Outcome, State};

/// Programs look the driver up by this name (Mesa's loader, libdrm's `drmOpen`).
const NAME: &[u8] = b"virtio_gpu";
/// Not the date of anything; Linux says the same for newer drivers.
const DATE: &[u8] = b"0";
const DESCRIPTION: &[u8] = b"virtio GPU";

impl State {
    /// Which ioctls a render node has, as Linux has it (`DRM_RENDER_ALLOW`). What no node has is not this
    /// node's lack: it is refused as on any other.
    pub(crate) fn may(&mut self, file: FileId, number: u8) -> Result<(), Refusal> {
        const NOT_HERE: Refusal = Refusal::new(Errno::EACCES, "not on a render node");
        let render =
            matches!(number, 0x00 | 0x09 | 0x0c | 0x2d | 0x2e | 0x40..=0x9f | 0xbf..=0xc5 | 0xca..=0xcd);
        let unknown = layout_of(number).is_none();
        if render || unknown || self.file(file)?.node == Node::Card { Ok(()) } else { Err(NOT_HERE) }
    }

    pub(crate) fn version(&mut self, call: &Call) -> Result<Outcome, Refusal> {
        let room = call.parse::<Version>()?.fixed;
        let fixed = Version {
            major: 0,
            // From minor version 1 on Mesa uses fence descriptors.
            minor: 1,
            patch: 0,
            name_len: NAME.len() as u64,
            date_len: DATE.len() as u64,
            desc_len: DESCRIPTION.len() as u64,
            ..room
        };
        let reply = Reply::fixed(&fixed)
            .with(fitting(NAME, room.name_len))
            .with(fitting(DATE, room.date_len))
            .with(fitting(DESCRIPTION, room.desc_len));
        Ok(Outcome::Answer(reply))
    }

    /// Empty before SET_VERSION: otherwise `drmOpen` takes the device for busy.
    pub(crate) fn unique(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        let room = call.parse::<GetUnique>()?.fixed.unique_len;
        let name = if self.file(file)?.versioned { BUS_NAME.as_bytes() } else { b"" };
        let whole = if room >= name.len() as u64 { name } else { b"" };
        let fixed = GetUnique { unique_len: name.len() as u64 };
        Ok(Outcome::Answer(Reply::fixed(&fixed).with(whole)))
    }

    /// A number that a master could authenticate. There is nothing that it would open.
    pub(crate) fn magic(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        call.parse::<GetMagic>()?;
        let magic = u32::try_from(file.0).unwrap_or(u32::MAX);
        Ok(Outcome::Answer(Reply::fixed(&GetMagic { magic })))
    }

    pub(crate) fn set_version(&mut self, file: FileId, call: &Call) -> Result<Outcome, Refusal> {
        const TOO_NEW: Refusal = Refusal::new(Errno::EINVAL, "no such interface version");
        let asked = call.parse::<SetVersion>()?.fixed;
        let good = |major: i32, minor: i32, our_major: i32, our_minor: i32| {
            major == -1 || (major == our_major && (0..=our_minor).contains(&minor))
        };
        if !good(asked.di_major, asked.di_minor, 1, 4) || !good(asked.dd_major, asked.dd_minor, 0, 1) {
            return Err(TOO_NEW);
        }
        self.file(file)?.versioned = true;
        let fixed = SetVersion { di_major: 1, di_minor: 4, dd_major: 0, dd_minor: 1 };
        Ok(Outcome::Answer(Reply::fixed(&fixed)))
    }

    pub(crate) fn capability(&mut self, call: &Call) -> Result<Outcome, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::EINVAL, "no such capability");
        let mut fixed = call.parse::<GetCap>()?.fixed;
        fixed.value = match fixed.capability {
            cap::PRIME => 3,
            cap::TIMESTAMP_MONOTONIC
            | cap::SYNCOBJ
            | cap::SYNCOBJ_TIMELINE
            | cap::DUMB_BUFFER
            | cap::VBLANK_HIGH_CRTC
            | cap::ASYNC_PAGE_FLIP
            | cap::CRTC_IN_VBLANK_EVENT
            | cap::ATOMIC_ASYNC_PAGE_FLIP => 1,
            cap::DUMB_PREFERRED_DEPTH => 24,
            cap::CURSOR_WIDTH | cap::CURSOR_HEIGHT => 64,
            // What there is not, said rather than refused.
            cap::DUMB_PREFER_SHADOW | cap::ADDFB2_MODIFIERS | cap::PAGE_FLIP_TARGET => 0,
            _ => return Err(UNKNOWN),
        };
        Ok(Outcome::Answer(Reply::fixed(&fixed)))
    }
}

/// As much of a text as there is room for.
fn fitting(text: &[u8], room: u64) -> &[u8] {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    &text[..text.len().min(room)]
}
