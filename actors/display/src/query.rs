//! What there is: GETRESOURCES and the calls that ask about one object.

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::display::{Answer, Connector, Resources};

use crate::framebuffer::{CURSOR_FORMATS, PRIMARY_FORMATS};
use crate::mode::{LARGEST, SMALLEST};
use crate::object::Object;
use crate::state::{Outcome, State};

impl State {
    pub(crate) fn resources(&mut self, file: FileId) -> Result<Outcome, Refusal> {
        let numbers = |object: fn(usize) -> Object| {
            (0..self.outputs.len()).map(|index| object(index).number()).collect::<Vec<_>>()
        };
        Ok(Outcome::Answer(Answer::Resources(Resources {
            framebuffers: self.framebuffers_of(file),
            crtcs: numbers(Object::Crtc),
            connectors: numbers(Object::Connector),
            encoders: numbers(Object::Encoder),
            smallest: (SMALLEST, SMALLEST),
            largest: (LARGEST, LARGEST),
        })))
    }

    pub(crate) fn connector(&mut self, file: FileId, id: u32) -> Result<Outcome, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::ENOENT, "no such connector");
        let found = Object::of(id, self.outputs.len());
        let Some(object @ Object::Connector(index)) = found else { return Err(UNKNOWN) };
        let properties = self.values_for(file, object)?;
        let output = &self.outputs[index];
        let encoder = Object::Encoder(index).number();
        Ok(Outcome::Answer(Answer::Connector(Connector {
            encoder,
            current_encoder: if output.config.joined { encoder } else { 0 },
            index: u32::try_from(index + 1).unwrap_or(u32::MAX),
            connected: output.monitor.connected,
            size: output.monitor.size,
            modes: output.monitor.modes.clone(),
            properties,
        })))
    }

    pub(crate) fn encoder(&mut self, id: u32) -> Result<Outcome, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::ENOENT, "no such encoder");
        let Some(Object::Encoder(index)) = Object::of(id, self.outputs.len()) else { return Err(UNKNOWN) };
        let joined = self.outputs[index].config.joined;
        let crtc = if joined { Object::Crtc(index).number() } else { 0 };
        Ok(Outcome::Answer(Answer::Encoder { crtc, possible: 1 << index }))
    }

    pub(crate) fn show_crtc(&mut self, id: u32) -> Result<Outcome, Refusal> {
        let config = &self.outputs[self.crtc(id)?].config;
        let [x, y, ..] = config.primary.source;
        Ok(Outcome::Answer(Answer::Crtc {
            framebuffer: config.primary.framebuffer.unwrap_or(0),
            position: (x >> 16, y >> 16),
            mode: config.mode.map(|(_, mode)| mode),
        }))
    }

    /// Who does not understand universal planes sees overlays only, and there are none.
    pub(crate) fn planes(&mut self, file: FileId) -> Result<Outcome, Refusal> {
        let universal = self.rights(file)?.universal_planes;
        let all = (0..self.outputs.len()).flat_map(|index| [Object::Primary(index), Object::Cursor(index)]);
        let planes = all.filter(|_| universal).map(Object::number).collect();
        Ok(Outcome::Answer(Answer::Planes(planes)))
    }

    pub(crate) fn show_plane(&mut self, id: u32) -> Result<Outcome, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::ENOENT, "no such plane");
        let (index, plane, formats) = match Object::of(id, self.outputs.len()) {
            Some(Object::Primary(index)) => {
                (index, &self.outputs[index].config.primary, PRIMARY_FORMATS.to_vec())
            }
            Some(Object::Cursor(index)) => {
                (index, &self.outputs[index].config.cursor, CURSOR_FORMATS.to_vec())
            }
            _ => return Err(UNKNOWN),
        };
        Ok(Outcome::Answer(Answer::Plane {
            crtc: if plane.joined { Object::Crtc(index).number() } else { 0 },
            framebuffer: plane.framebuffer.unwrap_or(0),
            possible: 1 << index,
            formats,
        }))
    }
}
