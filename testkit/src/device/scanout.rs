//! What is on the displays: 2D resources, scanouts, flushes.

use virgld_protocol::device::{
    Code, DisplayOne, MAX_SCANOUTS, ResourceCreate2d, ResourceFlush, SetScanout, TransferToHost2d,
};
use virgld_protocol::message::ctrlq::Rectangle;
use zerocopy::IntoBytes;

use super::host::{Asked, Executed, Host, Resource};
use super::offence::Offence;
use crate::queue::AddressSpace;

/// What one scanout shows.
#[derive(Debug, Default, Clone)]
pub struct Scanout {
    resource: u32,
    /// Which part of it.
    pub rectangle: Rectangle,
    /// The pixels as of the last flush, four bytes each.
    pub pixels: Vec<u8>,
    /// How often it was flushed.
    pub flushes: usize,
}

impl Host {
    /// What a scanout shows, if it is on.
    pub fn scanout(&self, number: u32) -> Option<&Scanout> {
        self.scanouts.get(&number)
    }

    pub(super) fn surface_create(&mut self, asked: &Asked<'_>) -> Executed {
        let it = self.body::<ResourceCreate2d>(asked)?;
        let number = it.resource_id;
        if number == 0 || self.resources.contains_key(&number) {
            return Err(self.accuse(Offence::ResourceExists(number), Code::ERR_INVALID_RESOURCE));
        }
        self.forgiven_resources.remove(&number);
        let pixels = vec![0; it.width as usize * it.height as usize * 4];
        let surface = Some((it.width, it.height, pixels));
        self.resources.insert(number, Resource { surface, ..Resource::default() });
        Ok(Vec::new())
    }

    pub(super) fn transfer_surface(&mut self, asked: &Asked<'_>, space: &AddressSpace) -> Executed {
        let it = self.body::<TransferToHost2d>(asked)?;
        let number = it.resource_id;
        let resource = self.resource(asked, number)?;
        let (Some(backing), Some((width, height, pixels))) = (resource.backing, resource.surface.as_mut())
        else {
            let offence = Offence::NotBacked { code: asked.header.code, resource: number };
            return Err(self.accuse_about(number, offence, Code::ERR_INVALID_PARAMETER));
        };
        let Rectangle { x, y, width: across, height: down } = it.rectangle;
        let mut fits = x + across <= *width && y + down <= *height;
        for row in 0..down {
            let from = it.offset + u64::from(row) * u64::from(*width) * 4;
            let to = ((y + row) as usize * *width as usize + x as usize) * 4;
            let bytes = across as usize * 4;
            fits &= from + bytes as u64 <= backing.length;
            let Some(target) = pixels.get_mut(to..to + bytes).filter(|_| fits) else { break };
            fits &= space.read(backing.address + from, target).is_ok();
        }
        if fits {
            return Ok(Vec::new());
        }
        Err(self.accuse(Offence::Picture(it.rectangle), Code::ERR_INVALID_PARAMETER))
    }

    pub(super) fn set_scanout(&mut self, asked: &Asked<'_>) -> Executed {
        let it = self.body::<SetScanout>(asked)?;
        if it.resource_id == 0 {
            self.scanouts.remove(&it.scanout_id);
            return Ok(Vec::new());
        }
        self.resource(asked, it.resource_id)?;
        let scanout = Scanout { resource: it.resource_id, rectangle: it.rectangle, ..Scanout::default() };
        self.scanouts.insert(it.scanout_id, scanout);
        Ok(Vec::new())
    }

    pub(super) fn flush(&mut self, asked: &Asked<'_>) -> Executed {
        let it = self.body::<ResourceFlush>(asked)?;
        self.resource(asked, it.resource_id)?;
        let resources = &self.resources;
        for scanout in self.scanouts.values_mut().filter(|scanout| scanout.resource == it.resource_id) {
            scanout.flushes += 1;
            let Some(Resource { surface: Some((width, _, pixels)), .. }) = resources.get(&it.resource_id)
            else {
                continue;
            };
            let Rectangle { x, y, width: across, height: down } = scanout.rectangle;
            let row = |row: u32| {
                let start = ((y + row) as usize * *width as usize + x as usize) * 4;
                pixels.get(start..start + across as usize * 4).unwrap_or_default()
            };
            scanout.pixels = (0..down).flat_map(row).copied().collect();
        }
        Ok(Vec::new())
    }

    pub(super) fn display_info(&mut self) -> Executed {
        let mut displays = [DisplayOne::default(); MAX_SCANOUTS];
        for (display, extent) in displays.iter_mut().zip(&self.displays) {
            if let Some((width, height)) = *extent {
                display.rectangle = Rectangle { width, height, ..Rectangle::default() };
                display.enabled = 1;
            }
        }
        Ok(displays.as_bytes().to_vec())
    }
}
