//! Fetching the pixels of a resource from the host, for the display.
//!
//! They do not go through the memory behind the resource: its owner may be writing there. For the time of one transfer
//! the resource gets other memory that no client sees. The control queue is in order, so nothing of a client comes
//! between.

use std::ops::Range;

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Token};
use virgld_protocol::message::ctrlq::ResourceCommand;
use virgld_protocol::message::display;
use virgld_protocol::message::resource::{Backing, ReadBack, Shape};

use crate::arena::{in_memory, whole_pages};
use crate::state::{Effect, State, back};

/// Bytes of a texel of what can be shown.
const TEXEL: u64 = 4;

/// Pixels on their way.
pub(crate) struct Fetch {
    /// As the display asked.
    asked: Token,
    /// Where they come to, in the memory that no client sees.
    place: Range<u64>,
    stride: u32,
    length: u64,
}

impl State {
    pub(crate) fn fetch(&mut self, request: ReadBack, effects: &mut Vec<Effect>) {
        if let Err(errno) = self.begin_fetch(request, effects) {
            effects.push(Effect::Display(display::ReadBack { token: request.token, result: Err(errno) }));
        }
    }

    fn begin_fetch(&mut self, request: ReadBack, effects: &mut Vec<Effect>) -> Result<(), Errno> {
        let ReadBack { token: asked, resource } = request;
        let up = self.up;
        let record = self.record(resource).filter(|record| !record.released).ok_or(Errno::ENOENT)?;
        let Shape::Texture(shape) = record.shape else { return Err(Errno::EINVAL) };
        let (width, height) = (shape.width, shape.height);
        let own = record.backing.clone();
        if !up {
            return Err(Errno::ENODEV);
        }
        let stride = width.checked_mul(4).ok_or(Errno::EINVAL)?;
        let length = u64::from(width) * u64::from(height) * TEXEL;
        let bytes = whole_pages(length).filter(|it| u32::try_from(*it).is_ok()).ok_or(Errno::EINVAL)?;
        let (region, place) = self.room(bytes)?;
        let token = self.token();
        let staging = Backing { region, offset: place.start, length: bytes, isolated: false, device: None };
        self.fetches.insert(token, Fetch { asked, place, stride, length });
        exchange(resource, &staging, effects);
        effects.push(Effect::Control(ResourceCommand::Fetch { token, resource, width, height }));
        exchange(resource, &own, effects);
        Ok(())
    }

    /// Memory that no client sees and the device does.
    fn room(&mut self, bytes: u64) -> Result<(virgld_runtime::link::Region, Range<u64>), Errno> {
        let overflow = self.overflow.as_mut().ok_or(Errno::ENOMEM)?;
        let place = overflow.take(bytes).ok_or(Errno::ENOMEM)?;
        Ok((overflow.region.clone(), place))
    }

    pub(crate) fn fetched(&mut self, token: Token, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        let Some(Fetch { asked, place, stride, length }) = self.fetches.remove(&token) else { return };
        let Some(overflow) = &mut self.overflow else { return };
        let result = result.and_then(|()| {
            let mut bytes = vec![0; in_memory(length)];
            let read = overflow.region.memory.read(in_memory(place.start), &mut bytes);
            read.map(|()| (stride, bytes)).map_err(|_| Errno::EIO)
        });
        // After a deadline the device may still write there: then the place is not used again.
        if result.as_ref().err() != Some(&Errno::ETIMEDOUT) {
            overflow.give_back(place);
        }
        effects.push(Effect::Display(display::ReadBack { token: asked, result }));
    }
}

/// Puts other memory behind a resource.
fn exchange(resource: ResourceId, backing: &Backing, effects: &mut Vec<Effect>) {
    effects.push(Effect::Control(ResourceCommand::DetachBacking { resource }));
    back(resource, backing, effects);
}
