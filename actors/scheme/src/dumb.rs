//! Dumb buffers: pixels in memory, for those who draw without a GPU.

use virgld_protocol::client::kms::{CreateDumb, DestroyDumb, MapDumb};
use virgld_protocol::client::{Call, Reply};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, Handle};
use virgld_protocol::message::ctrlq::Surface;
use virgld_protocol::message::resource::{Request, Shape};

use crate::buffer::Parting;
use crate::create::Awaited;
use crate::map::Mapping;
use crate::state::{Caller, Effect, Outcome, State};

/// `VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM` (virtio 1.2, section 5.7.6.8): what XRGB8888 is in memory.
const B8G8R8X8: u32 = 2;

impl State {
    pub(crate) fn create_dumb(
        &mut self,
        caller: Caller,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let asked = measure(call.parse::<CreateDumb>()?.fixed)?;
        self.device()?;
        let user = self.file(caller.file)?.user();
        let token = self.park(caller, Awaited::Dumb(asked));
        effects.push(Effect::Resource(Request::Create {
            token,
            owner: caller.file,
            user,
            shape: Shape::Flat(surface(&asked)),
            bytes: asked.size,
            // A compositor passes them on, and no other memory with them.
            shareable: true,
        }));
        Ok(Outcome::Later)
    }

    pub(crate) fn map_dumb(&mut self, caller: Caller, call: &Call) -> Result<Outcome, Refusal> {
        let asked = call.parse::<MapDumb>()?.fixed;
        self.map_at_rest(caller, Mapping::Dumb(asked))
    }

    pub(crate) fn destroy_dumb(
        &mut self,
        file: FileId,
        call: &Call,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let asked = call.parse::<DestroyDumb>()?.fixed;
        self.close_handle(file, asked.handle, Parting::Closed, effects)?;
        Ok(Outcome::Answer(Reply::empty()))
    }
}

/// Bytes per row and in all, or what Linux says where there are none (`drm_mode_create_dumb`,
/// `virtio_gpu_mode_dumb_create`).
fn measure(asked: CreateDumb) -> Result<CreateDumb, Refusal> {
    const EMPTY: Refusal = Refusal::new(Errno::EINVAL, "a buffer without pixels");
    const LARGE: Refusal = Refusal::new(Errno::EINVAL, "a buffer of more than 4 GiB");
    const DEPTH: Refusal = Refusal::new(Errno::EINVAL, "pixels have 32 bits");
    if asked.width == 0 || asked.height == 0 || asked.bpp == 0 {
        return Err(EMPTY);
    }
    let pitch = asked.width.checked_mul(asked.bpp.div_ceil(8)).ok_or(LARGE)?;
    let bytes = pitch.checked_mul(asked.height).ok_or(LARGE)?;
    if asked.bpp != 32 {
        return Err(DEPTH);
    }
    Ok(CreateDumb { pitch, size: u64::from(bytes).next_multiple_of(4096), ..asked })
}

pub(crate) fn surface(asked: &CreateDumb) -> Surface {
    Surface { format: B8G8R8X8, width: asked.width, height: asked.height }
}

pub(crate) fn reply(asked: &CreateDumb, handle: Handle) -> Reply {
    Reply::fixed(&CreateDumb { handle: handle.0, ..*asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_linux_and_overflows_are_refused() {
        let ask = |width, height, bpp| measure(CreateDumb { width, height, bpp, ..CreateDumb::default() });
        let made = ask(100, 3, 32).unwrap();
        assert_eq!((made.pitch, made.size), (400, 4096));
        for (width, height, bpp) in [
            (0, 1, 32),
            (1, 0, 32),
            (1, 1, 0),
            (64, 64, 16),
            (64, 64, 33),
            (1 << 30, 1, 32),
            (1 << 16, 1 << 16, 32),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(ask(width, height, bpp).err().map(|it| it.errno), Some(Errno::EINVAL));
        }
    }
}
