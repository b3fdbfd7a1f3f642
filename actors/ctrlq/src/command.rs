//! Turns typed commands into bytes.

use virgld_protocol::client::Box3d;
use virgld_protocol::device::{
    CONTROL_FLAG_FENCE, CONTROL_FLAG_RING, Code, Command, ContextAttachResource, ContextCreate,
    ContextDestroy, ContextDetachResource, ControlHeader, GetCapset, GetCapsetInfo, GetDisplayInfo, GetEdid,
    ResourceAttachBacking, ResourceCreate2d, ResourceCreate3d, ResourceDetachBacking, ResourceFlush,
    ResourceUnref, SetScanout, Submit3d, TransferFromHost3d, TransferToHost2d, TransferToHost3d,
};
use virgld_protocol::ids::{ContextId, FenceId, RingIndex};
use virgld_protocol::message::ctrlq::{
    ContextCommand, DisplayCommand, Rectangle, ResourceCommand, Surface, Transfer,
};
use virgld_protocol::message::resource::Shape;
use zerocopy::{Immutable, IntoBytes};

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = size_of::<ControlHeader>();
/// Where the fence number lies in the header.
const FENCE: std::ops::Range<usize> = 8..16;
/// The longest request but for the stream of a submit.
const REQUEST_BYTES: usize = HEADER_BYTES + size_of::<ContextCreate>();

/// A request, but for the stream that may follow it.
pub(crate) struct Encoded {
    bytes: [u8; REQUEST_BYTES],
    length: usize,
    /// Room that the answer takes, with its header.
    pub(crate) response: usize,
    /// Whether the command's answer is to wait for its effects.
    pub(crate) fenced: bool,
}

impl Encoded {
    fn new<C: Command>(context: ContextId, body: &C) -> Self {
        let mut encoded = Self {
            bytes: [0; REQUEST_BYTES],
            length: HEADER_BYTES,
            response: HEADER_BYTES + size_of::<C::Response>(),
            fenced: false,
        };
        encoded.header(C::CODE, context);
        encoded.append(body);
        encoded
    }

    fn header(&mut self, code: Code, context: ContextId) {
        let header = ControlHeader { code, ctx_id: context.0, ..ControlHeader::default() };
        self.bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    }

    fn append(&mut self, body: &(impl IntoBytes + Immutable)) {
        // PANIC: the buffer holds the longest of all bodies, as the test below shows for each.
        let bytes = body.as_bytes();
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Marks the request as fenced, on a ring or on the context's own timeline.
    pub(crate) fn fence(&mut self, fence: FenceId, ring: Option<RingIndex>) {
        const FLAGS: std::ops::Range<usize> = 4..8;
        const RING: usize = 20;
        let flags = CONTROL_FLAG_FENCE | if ring.is_some() { CONTROL_FLAG_RING } else { 0 };
        self.bytes[FLAGS].copy_from_slice(&flags.to_le_bytes());
        self.bytes[FENCE].copy_from_slice(&u64::from(fence.0).to_le_bytes());
        self.bytes[RING] = ring.map_or(0, |ring| ring.0);
    }

    /// Fills in the highest fence number, without the flag that gives it a meaning (section 5.7.6.7). QEMU's
    /// `vhost-user-gpu` keeps commands that it cannot answer at once in its list of fences, and whatever their flags
    /// say, the next fence that signals answers all with lower numbers, without the data that was asked for; then it
    /// crashes when the data comes.
    fn behind_all_fences(mut self) -> Self {
        self.bytes[FENCE].copy_from_slice(&u64::MAX.to_le_bytes());
        self
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The request for a context's command.
pub(crate) fn of_context(context: ContextId, command: &ContextCommand) -> Encoded {
    match command {
        ContextCommand::Create { name, capset } => Encoded::new(
            context,
            &ContextCreate { nlen: name.length, context_init: *capset, debug_name: name.bytes },
        ),
        // Fenced, so that it is answered after all work of the context.
        ContextCommand::Destroy => Encoded { fenced: true, ..Encoded::new(context, &ContextDestroy {}) },
        ContextCommand::Attach { resource } => {
            Encoded::new(context, &ContextAttachResource { resource_id: resource.0, padding: 0 })
        }
        ContextCommand::Detach { resource } => {
            Encoded::new(context, &ContextDetachResource { resource_id: resource.0, padding: 0 })
        }
        ContextCommand::Submit { length, fenced, .. } => {
            Encoded { fenced: *fenced, ..Encoded::new(context, &Submit3d { size: *length, padding: 0 }) }
        }
        ContextCommand::Replay { stream } => {
            let size = u32::try_from(stream.len() * 4).unwrap_or(u32::MAX);
            Encoded::new(context, &Submit3d { size, padding: 0 })
        }
        ContextCommand::Fence { .. } => {
            Encoded { fenced: true, ..Encoded::new(context, &Submit3d { size: 0, padding: 0 }) }
        }
        ContextCommand::Transfer(transfer) => of_transfer(context, transfer),
    }
}

fn of_transfer(context: ContextId, transfer: &Transfer) -> Encoded {
    let Transfer { to_host, resource, region, level, offset, stride, layer_stride, .. } = *transfer;
    let resource_id = resource.0;
    if to_host {
        let body = TransferToHost3d { region, offset, resource_id, level, stride, layer_stride };
        Encoded::new(context, &body)
    } else {
        let body = TransferFromHost3d { region, offset, resource_id, level, stride, layer_stride };
        Encoded { fenced: true, ..Encoded::new(context, &body) }
    }
}

/// The request for a command of the display.
pub(crate) fn of_display(command: &DisplayCommand) -> Encoded {
    const NONE: ContextId = ContextId(0);
    match *command {
        DisplayCommand::Displays => Encoded::new(NONE, &GetDisplayInfo {}).behind_all_fences(),
        DisplayCommand::Edid { scanout } => {
            Encoded::new(NONE, &GetEdid { scanout, padding: 0 }).behind_all_fences()
        }
        DisplayCommand::SetScanout { scanout, resource, rectangle } => {
            Encoded::new(NONE, &SetScanout { rectangle, scanout_id: scanout, resource_id: resource.0 })
        }
        DisplayCommand::Flush { resource, rectangle, .. } => {
            Encoded::new(NONE, &ResourceFlush { rectangle, resource_id: resource.0, padding: 0 })
        }
        DisplayCommand::Transfer { token, resource, rectangle, offset } => {
            let body = TransferToHost2d { rectangle, offset, resource_id: resource.0, padding: 0 };
            Encoded { fenced: token.is_some(), ..Encoded::new(NONE, &body) }
        }
    }
}

/// The request for a command of the resource actor.
pub(crate) fn of_resource(command: &ResourceCommand) -> Encoded {
    const NONE: ContextId = ContextId(0);
    match *command {
        ResourceCommand::Create3d { resource, description: what } => Encoded::new(
            NONE,
            &ResourceCreate3d {
                resource_id: resource.0,
                target: what.target,
                format: what.format,
                bind: what.bind,
                width: what.width,
                height: what.height,
                depth: what.depth,
                array_size: what.array_size,
                last_level: what.last_level,
                nr_samples: what.nr_samples,
                flags: what.flags,
                padding: 0,
            },
        ),
        ResourceCommand::Create2d { resource, surface } => Encoded::new(
            NONE,
            &ResourceCreate2d {
                resource_id: resource.0,
                format: surface.format,
                width: surface.width,
                height: surface.height,
            },
        ),
        ResourceCommand::Fetch { resource, width, height, .. } => {
            let region = Box3d { w: width, h: height, d: 1, ..Box3d::default() };
            let body =
                TransferFromHost3d { region, resource_id: resource.0, ..TransferFromHost3d::default() };
            Encoded { fenced: true, ..Encoded::new(NONE, &body) }
        }
        ResourceCommand::AttachBacking { resource, address, length } => Encoded::new(
            NONE,
            &ResourceAttachBacking { resource_id: resource.0, nr_entries: 1, address, length, padding: 0 },
        ),
        ResourceCommand::DetachBacking { resource } => {
            Encoded::new(NONE, &ResourceDetachBacking { resource_id: resource.0, padding: 0 })
        }
        ResourceCommand::Unreference { resource } => {
            Encoded::new(NONE, &ResourceUnref { resource_id: resource.0, padding: 0 })
        }
        ResourceCommand::Restore { resource, shape: Shape::Texture(description) } => {
            let region = description.first_level();
            let body = TransferToHost3d { region, resource_id: resource.0, ..TransferToHost3d::default() };
            Encoded::new(NONE, &body)
        }
        ResourceCommand::Restore { resource, shape: Shape::Flat(surface) } => {
            let Surface { width, height, .. } = surface;
            let rectangle = Rectangle { x: 0, y: 0, width, height };
            Encoded::new(
                NONE,
                &TransferToHost2d { rectangle, offset: 0, resource_id: resource.0, padding: 0 },
            )
        }
        ResourceCommand::CapsetInfo { index, .. } => {
            Encoded::new(NONE, &GetCapsetInfo { capset_index: index, padding: 0 })
        }
        ResourceCommand::Capset { id, version, size, .. } => {
            let encoded = Encoded::new(NONE, &GetCapset { capset_id: id, capset_version: version });
            Encoded { response: HEADER_BYTES + size as usize, ..encoded }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fence_that_signals_is_above_a_question_about_displays() {
        let questions = [(DisplayCommand::Displays, 0x100_u32), (DisplayCommand::Edid { scanout: 3 }, 0x10a)];
        for (question, code) in questions {
            let encoded = of_display(&question);
            let header = [&code.to_le_bytes()[..], &[0; 4], &[0xff; 8], &[0; 8]].concat();
            assert_eq!(encoded.bytes()[..HEADER_BYTES], header);
            assert!(!encoded.fenced);
        }
    }
}
