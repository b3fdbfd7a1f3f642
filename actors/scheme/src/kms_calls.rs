//! Calls of mode setting, taken apart.

use virgld_protocol::client::kms::{
    AddFb, AddFb2, Atomic, AuthMagic, Clip, CloseFb, CreateLease, CreatePropBlob, CrtcGetSequence,
    CrtcQueueSequence, Cursor, Cursor2, DestroyPropBlob, DirtyFb, DropMaster, GetConnector, GetCrtc,
    GetEncoder, GetFb, GetFb2, GetGamma, GetLease, GetPlane, GetPlaneResources, GetPropBlob, GetProperty,
    GetResources, IN_FENCE_FD, ListLessees, ModeInfo, ObjGetProperties, ObjSetProperty, ObjectType, PageFlip,
    RevokeLease, RmFb, SetCrtc, SetGamma, SetMaster, SetPlane, SetProperty, WaitVblank,
};
use virgld_protocol::client::{Call, Ioctl, SetClientCap};
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FenceKey, FileId};
use virgld_protocol::message::display::{self, Call as Ask, CursorCall, LeaseCall, NewFramebuffer};
use virgld_protocol::message::scheme::Attached;
use zerocopy::FromBytes;

use crate::state::State;

/// The fences that came with a call.
#[derive(Default)]
pub(crate) struct Fences {
    /// A descriptor.
    pub(crate) attached: Option<Attached>,
    /// To be signalled.
    pub(crate) out: Option<FenceKey>,
}

impl State {
    /// What the display is asked.
    pub(crate) fn decode(&mut self, file: FileId, call: &Call, fences: Fences) -> Result<Ask, Refusal> {
        Ok(match call.number {
            0x0d => {
                let SetClientCap { capability, value } = call.parse()?.fixed;
                Ask::Understand { capability, value }
            }
            0x11 => checked::<AuthMagic>(call, Ask::NeedMaster(Ok(())))?,
            0x1e => checked::<SetMaster>(call, Ask::SetMaster)?,
            0x1f => checked::<DropMaster>(call, Ask::DropMaster)?,
            0x3a => {
                let it = call.parse::<WaitVblank>()?.fixed;
                Ask::WaitVblank { kind: it.flags, sequence: it.sequence, user_data: it.signal_or_seconds }
            }
            0x3b => Ask::Sequence(call.parse::<CrtcGetSequence>()?.fixed.crtc_id),
            0x3c => {
                let CrtcQueueSequence { crtc_id: crtc, flags, sequence, user_data } = call.parse()?.fixed;
                Ask::QueueSequence { crtc, flags, sequence, user_data }
            }
            0xa0 => checked::<GetResources>(call, Ask::Resources)?,
            0xa1 => Ask::Crtc(call.parse::<GetCrtc>()?.fixed.crtc_id),
            0xa2 => set_crtc(call)?,
            0xa3 => {
                let it = call.parse::<Cursor>()?.fixed;
                self.cursor(file, it, (0, 0))?
            }
            0xa4 => {
                let it = call.parse::<GetGamma>()?.fixed;
                Ask::Gamma { crtc: it.crtc_id, size: it.gamma_size }
            }
            0xa5 => {
                let it = call.parse::<SetGamma>()?.fixed;
                Ask::SetGamma { crtc: it.crtc_id, size: it.gamma_size }
            }
            0xa6 => Ask::Encoder(call.parse::<GetEncoder>()?.fixed.encoder_id),
            0xa7 => Ask::Connector(call.parse::<GetConnector>()?.fixed.connector_id),
            0xaa => Ask::Property(call.parse::<GetProperty>()?.fixed.prop_id),
            0xab => {
                let it = call.parse::<SetProperty>()?.fixed;
                let (object, kind) = (it.connector_id, ObjectType::CONNECTOR.0);
                Ask::SetProperty { object, kind, property: it.prop_id, value: it.value }
            }
            0xac => Ask::Blob(call.parse::<GetPropBlob>()?.fixed.blob_id),
            0xad => Ask::Framebuffer(call.parse::<GetFb>()?.fixed.fb_id),
            0xae => self.add_framebuffer(file, call)?,
            0xaf => Ask::RemoveFramebuffer(call.parse::<RmFb>()?.fixed.fb_id),
            0xb0 => page_flip(call)?,
            0xb1 => dirty(call)?,
            0xb5 => checked::<GetPlaneResources>(call, Ask::Planes)?,
            0xb6 => Ask::Plane(call.parse::<GetPlane>()?.fixed.plane_id),
            0xb7 => set_plane(call)?,
            0xb8 => self.add_framebuffer_2(file, call)?,
            0xb9 => {
                let it = call.parse::<ObjGetProperties>()?.fixed;
                Ask::Properties { object: it.obj_id, kind: it.obj_type }
            }
            0xba => {
                let it = call.parse::<ObjSetProperty>()?.fixed;
                let (object, kind) = (it.obj_id, it.obj_type);
                Ask::SetProperty { object, kind, property: it.prop_id, value: it.value }
            }
            0xbb => {
                let it = call.parse::<Cursor2>()?.fixed;
                let (flags, crtc_id, x, y) = (it.flags, it.crtc_id, it.x, it.y);
                let (width, height, handle) = (it.width, it.height, it.handle);
                let plain = Cursor { flags, crtc_id, x, y, width, height, handle };
                self.cursor(file, plain, (it.hot_x, it.hot_y))?
            }
            0xbc => self.atomic(call, fences)?,
            0xbd => Ask::CreateBlob(call.parse::<CreatePropBlob>()?.arrays[0].to_vec()),
            0xbe => Ask::DestroyBlob(call.parse::<DestroyPropBlob>()?.fixed.blob_id),
            0xc6 => checked::<CreateLease>(call, Ask::Lease(LeaseCall::Create))?,
            0xc7 => checked::<ListLessees>(call, Ask::Lease(LeaseCall::List))?,
            0xc8 => checked::<GetLease>(call, Ask::Lease(LeaseCall::Get))?,
            0xc9 => checked::<RevokeLease>(call, Ask::Lease(LeaseCall::Revoke))?,
            0xce => Ask::Framebuffer(call.parse::<GetFb2>()?.fixed.fb_id),
            0xd0 => {
                let it = call.parse::<CloseFb>()?.fixed;
                if it.pad != 0 {
                    return Err(Refusal::new(Errno::EINVAL, "the padding is filled"));
                }
                Ask::CloseFramebuffer(it.fb_id)
            }
            _ => return Err(Refusal::new(Errno::EINVAL, "no such ioctl")),
        })
    }

    /// ADDFB tells a format by its depths.
    fn add_framebuffer(&mut self, file: FileId, call: &Call) -> Result<Ask, Refusal> {
        const DEPTH: Refusal = Refusal::new(Errno::EINVAL, "no format has these depths");
        let it = call.parse::<AddFb>()?.fixed;
        let name = match (it.bpp, it.depth) {
            (1, 1) => b"C1  ",
            (2, 2) => b"C2  ",
            (4, 4) => b"C4  ",
            (8, 8) => b"C8  ",
            (16, 15) => b"XR15",
            (16, 16) => b"RG16",
            (24, 24) => b"RG24",
            (32, 24) => b"XR24",
            (32, 30) => b"XR30",
            (32, 32) => b"AR24",
            _ => return Err(DEPTH),
        };
        Ok(Ask::AddFramebuffer(NewFramebuffer {
            width: it.width,
            height: it.height,
            format: u32::from_le_bytes(*name),
            flags: 0,
            pitch: it.pitch,
            offset: 0,
            modifiers: [0; 4],
            image: self.image(file, it.handle)?,
        }))
    }

    fn add_framebuffer_2(&mut self, file: FileId, call: &Call) -> Result<Ask, Refusal> {
        let it = call.parse::<AddFb2>()?.fixed;
        Ok(Ask::AddFramebuffer(NewFramebuffer {
            width: it.width,
            height: it.height,
            format: it.pixel_format,
            flags: it.flags,
            pitch: it.pitches[0],
            offset: it.offsets[0],
            modifiers: it.modifier,
            image: self.image(file, it.handles[0])?,
        }))
    }

    fn cursor(&mut self, file: FileId, it: Cursor, hotspot: (i32, i32)) -> Result<Ask, Refusal> {
        let image = match it.handle {
            0 => Ok(None),
            handle => self.image(file, handle)?.map(Some).ok_or(Errno::EINVAL),
        };
        Ok(Ask::Cursor(CursorCall {
            crtc: it.crtc_id,
            flags: it.flags,
            position: (it.x, it.y),
            size: (it.width, it.height),
            image,
            hotspot,
        }))
    }

    fn atomic(&mut self, call: &Call, fences: Fences) -> Result<Ask, Refusal> {
        const NO_FENCE: Refusal = Refusal::new(Errno::EINVAL, "IN_FENCE_FD is no fence");
        let wire = call.parse::<Atomic>()?;
        if wire.fixed.reserved != 0 {
            return Ok(WRONG);
        }
        let changes = wire.changes()?;
        // A value other than none: its fence is what came with the call.
        let waits = changes.iter().any(|it| it.property == IN_FENCE_FD && it.value.cast_signed() != -1);
        let fence_in = match waits {
            true => Some(self.fence_of(fences.attached).ok_or(NO_FENCE)?),
            false => None,
        };
        if let Some(fence) = fences.out {
            // Work of any file may wait for it, also of the one that commits.
            self.fences.expect(fence, None);
        }
        Ok(Ask::Atomic {
            flags: wire.fixed.flags,
            sets: changes.into_iter().map(|it| (it.object, it.property, it.value)).collect(),
            user_data: wire.fixed.user_data,
            fence_in: fence_in.filter(|fence| self.fences.is_pending(*fence)),
            fence_out: fences.out,
        })
    }
}

/// A call with words that it may not have, which only a master is told.
const WRONG: Ask = Ask::NeedMaster(Err(Errno::EINVAL));

/// A call whose words do not matter, but which must be as long as it says.
fn checked<T: Ioctl>(call: &Call, ask: Ask) -> Result<Ask, Refusal> {
    call.parse::<T>().map(|_| ask)
}

fn set_crtc(call: &Call) -> Result<Ask, Refusal> {
    let wire = call.parse::<SetCrtc>()?;
    let it = wire.fixed;
    let mode: Option<ModeInfo> = (it.mode_valid != 0).then_some(it.mode);
    Ok(Ask::SetCrtc(display::SetCrtc {
        crtc: it.crtc_id,
        framebuffer: it.fb_id,
        position: (it.x, it.y),
        connectors: wire.arrays[0].as_chunks::<4>().0.iter().map(|it| u32::from_le_bytes(*it)).collect(),
        mode,
    }))
}

fn page_flip(call: &Call) -> Result<Ask, Refusal> {
    let PageFlip { crtc_id: crtc, fb_id: framebuffer, flags, sequence, user_data } = call.parse()?.fixed;
    // A refresh is named, and there is no flag that would have one.
    if sequence != 0 {
        return Ok(WRONG);
    }
    Ok(Ask::PageFlip { crtc, framebuffer, flags, user_data })
}

fn dirty(call: &Call) -> Result<Ask, Refusal> {
    let wire = call.parse::<DirtyFb>()?;
    if wire.fixed.num_clips > DirtyFb::MOST_CLIPS {
        return Ok(WRONG);
    }
    let clip = |bytes| Clip::read_from_bytes(bytes).map(|it| [it.x1, it.y1, it.x2, it.y2]).ok();
    let clips = wire.arrays[0].chunks_exact(size_of::<Clip>()).filter_map(clip).collect();
    Ok(Ask::Dirty { framebuffer: wire.fixed.fb_id, flags: wire.fixed.flags, clips })
}

fn set_plane(call: &Call) -> Result<Ask, Refusal> {
    let it = call.parse::<SetPlane>()?.fixed;
    Ok(Ask::SetPlane(display::SetPlane {
        plane: it.plane_id,
        crtc: it.crtc_id,
        framebuffer: it.fb_id,
        position: (it.crtc_x, it.crtc_y),
        size: (it.crtc_w, it.crtc_h),
        source: [it.src_x, it.src_y, it.src_w, it.src_h],
    }))
}
