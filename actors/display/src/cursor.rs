//! MODE_CURSOR and MODE_CURSOR2: the pointer, changed at once and not at a refresh.

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::display::{CursorCall, NewFramebuffer};

use crate::framebuffer::{self, ARGB8888};
use crate::output::Plane;
use crate::state::{DONE, Effect, Outcome, State};

/// `DRM_MODE_CURSOR_BO` and `DRM_MODE_CURSOR_MOVE`.
const IMAGE: u32 = 1;
const MOVE: u32 = 2;
/// Width and height of the largest image; the device takes no other.
pub(crate) const LARGEST: u32 = 64;

impl State {
    pub(crate) fn cursor(
        &mut self,
        file: FileId,
        call: &CursorCall,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const FLAGS: Refusal = Refusal::new(Errno::EINVAL, "unknown flags, or none");
        const LARGE: Refusal = Refusal::new(Errno::EINVAL, "the image is larger than 64 by 64");
        const UNKNOWN: Refusal = Refusal::new(Errno::EINVAL, "the file has no such handle");
        const FAR: Refusal = Refusal::new(Errno::ERANGE, "the pointer would end beyond all numbers");
        if call.flags == 0 || call.flags & !(IMAGE | MOVE) != 0 {
            return Err(FLAGS);
        }
        let index = self.crtc(call.crtc)?;
        let mut plane = self.outputs[index].config.cursor.clone();
        if call.flags & MOVE != 0 {
            plane.position = call.position;
        }
        if call.flags & IMAGE != 0 {
            let (width, height) = call.size;
            let image = call.image.clone().map_err(|_| UNKNOWN)?;
            let position = plane.position;
            plane = match image {
                None => Plane { position, ..Plane::default() },
                Some(_) if width > LARGEST || height > LARGEST => return Err(LARGE),
                Some(image) => {
                    let pitch = width * 4;
                    let new = NewFramebuffer {
                        width,
                        height,
                        format: ARGB8888,
                        flags: 0,
                        pitch,
                        offset: 0,
                        modifiers: [0; 4],
                        image: Some(image),
                    };
                    let image = framebuffer::check(&new)?;
                    let id = self.keep_framebuffer(file, false, &new, image, effects);
                    let covering = Plane::covering(id, (0, 0), (width, height));
                    Plane { position, hotspot: call.hotspot, ..covering }
                }
            };
        }
        // Otherwise every commit after it would be refused for this.
        if plane.joined && !fits(&plane) {
            return Err(FAR);
        }
        let output = &mut self.outputs[index];
        output.config.cursor = plane.clone();
        output.shown.cursor = plane;
        self.point(index, effects);
        DONE
    }
}

/// Whether right and bottom edge have a number.
fn fits(plane: &Plane) -> bool {
    let ends = [(plane.position.0, plane.size.0), (plane.position.1, plane.size.1)];
    ends.into_iter().all(|(start, length)| start.checked_add_unsigned(length).is_some())
}
