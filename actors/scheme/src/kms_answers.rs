//! Answers about mode setting, put together.
//!
//! As on Linux, a client asks twice: an array is answered as far as there is room for all of it, and its count says
//! how much there is.

use virgld_protocol::client::kms::{
    AddFb, AddFb2, AuthMagic, Connection, CreatePropBlob, CrtcGetSequence, CrtcQueueSequence, GetConnector,
    GetCrtc, GetEncoder, GetFb, GetFb2, GetPlane, GetPlaneResources, GetPropBlob, GetProperty, GetResources,
    ListLessees, ModeInfo, ObjGetProperties, PropertyEnum, WaitVblank, name_of,
};
use virgld_protocol::client::{Call, Reply};
use virgld_protocol::errno::Refusal;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::display::{Answer, Connector, Property, Resources};
use zerocopy::IntoBytes;

use crate::kms::low;
use crate::state::State;

impl State {
    /// The bytes of an answer to a call.
    pub(crate) fn encode(&mut self, file: FileId, call: &Call, answer: Answer) -> Result<Reply, Refusal> {
        Ok(match answer {
            Answer::Done if call.number == 0x11 => {
                return self.authenticate(call.parse::<AuthMagic>()?.fixed.magic);
            }
            Answer::Done => Reply::empty(),
            Answer::Made(id) => made(call, id)?,
            Answer::Resources(it) => resources(call, &it)?,
            Answer::Connector(it) => connector(call, &it)?,
            Answer::Encoder { crtc, possible } => Reply::fixed(&GetEncoder {
                encoder_type: GetEncoder::VIRTUAL,
                crtc_id: crtc,
                possible_crtcs: possible,
                possible_clones: 0,
                ..call.parse::<GetEncoder>()?.fixed
            }),
            Answer::Crtc { framebuffer, position, mode } => Reply::fixed(&GetCrtc {
                fb_id: framebuffer,
                x: position.0,
                y: position.1,
                gamma_size: 0,
                mode_valid: mode.is_some().into(),
                mode: mode.unwrap_or_default(),
                ..call.parse::<GetCrtc>()?.fixed
            }),
            Answer::Planes(planes) => {
                let room = call.parse::<GetPlaneResources>()?.fixed.count_planes;
                Reply::fixed(&GetPlaneResources { count_planes: count(&planes) }).with(fit(&planes, room))
            }
            Answer::Plane { crtc, framebuffer, possible, formats } => {
                let asked = call.parse::<GetPlane>()?.fixed;
                Reply::fixed(&GetPlane {
                    crtc_id: crtc,
                    fb_id: framebuffer,
                    possible_crtcs: possible,
                    gamma_size: 0,
                    count_format_types: count(&formats),
                    ..asked
                })
                .with(fit(&formats, asked.count_format_types))
            }
            Answer::Properties(all) => {
                let asked = call.parse::<ObjGetProperties>()?.fixed;
                let (ids, values): (Vec<u32>, Vec<u64>) = all.into_iter().unzip();
                Reply::fixed(&ObjGetProperties { count_props: count(&ids), ..asked })
                    .with(fit(&ids, asked.count_props))
                    .with(fit(&values, asked.count_props))
            }
            Answer::Property(it) => property(call, &it)?,
            Answer::Blob(bytes) => {
                let asked = call.parse::<GetPropBlob>()?.fixed;
                let whole = if asked.length == count(&bytes) { &bytes[..] } else { &[] };
                Reply::fixed(&GetPropBlob { length: count(&bytes), ..asked }).with(whole)
            }
            Answer::Framebuffer { width, height, format, pitch, offset, resource } => {
                let handle = self.handle_for(file, resource)?;
                framebuffer(call, (width, height), format, (pitch, offset), handle)?
            }
            Answer::Vblank { sequence, time, active } => vblank(call, sequence, time, active)?,
            Answer::NoLessees => Reply::fixed(&ListLessees { count_lessees: 0, pad: 0 }).with(Vec::new()),
        })
    }
}

fn made(call: &Call, id: u32) -> Result<Reply, Refusal> {
    Ok(match call.number {
        0xae => Reply::fixed(&AddFb { fb_id: id, ..call.parse::<AddFb>()?.fixed }),
        0xb8 => Reply::fixed(&AddFb2 { fb_id: id, ..call.parse::<AddFb2>()?.fixed }),
        _ => Reply::fixed(&CreatePropBlob { blob_id: id, ..call.parse::<CreatePropBlob>()?.fixed }),
    })
}

fn resources(call: &Call, it: &Resources) -> Result<Reply, Refusal> {
    let asked = call.parse::<GetResources>()?.fixed;
    let fixed = GetResources {
        count_fbs: count(&it.framebuffers),
        count_crtcs: count(&it.crtcs),
        count_connectors: count(&it.connectors),
        count_encoders: count(&it.encoders),
        min_width: it.smallest.0,
        max_width: it.largest.0,
        min_height: it.smallest.1,
        max_height: it.largest.1,
    };
    Ok(Reply::fixed(&fixed)
        .with(fit(&it.framebuffers, asked.count_fbs))
        .with(fit(&it.crtcs, asked.count_crtcs))
        .with(fit(&it.connectors, asked.count_connectors))
        .with(fit(&it.encoders, asked.count_encoders)))
}

fn connector(call: &Call, it: &Connector) -> Result<Reply, Refusal> {
    let asked = call.parse::<GetConnector>()?.fixed;
    let (ids, values): (Vec<u32>, Vec<u64>) = it.properties.iter().copied().unzip();
    let connection = if it.connected { Connection::CONNECTED } else { Connection::DISCONNECTED };
    let fixed = GetConnector {
        count_modes: count(&it.modes),
        count_props: count(&ids),
        count_encoders: 1,
        encoder_id: it.current_encoder,
        connector_type: GetConnector::VIRTUAL,
        connector_type_id: it.index,
        connection: connection.0,
        mm_width: it.size.0,
        mm_height: it.size.1,
        subpixel: GetConnector::SUBPIXEL_UNKNOWN + 1,
        ..asked
    };
    let modes: &[ModeInfo] = if asked.count_modes >= count(&it.modes) { &it.modes } else { &[] };
    Ok(Reply::fixed(&fixed)
        .with(fit(&[it.encoder], asked.count_encoders))
        .with(modes.as_bytes())
        .with(fit(&ids, asked.count_props))
        .with(fit(&values, asked.count_props)))
}

fn property(call: &Call, it: &Property) -> Result<Reply, Refusal> {
    let asked = call.parse::<GetProperty>()?.fixed;
    let named = |(value, name): &(u64, &str)| PropertyEnum { value: *value, name: name_of(name) };
    let names: Vec<PropertyEnum> = it.names.iter().map(named).collect();
    let fixed = GetProperty {
        flags: it.flags,
        name: name_of(it.name),
        count_values: count(&it.values),
        count_enum_blobs: count(&names),
        ..asked
    };
    Ok(Reply::fixed(&fixed)
        .with(fit(&it.values, asked.count_values))
        .with(fit(&names, asked.count_enum_blobs)))
}

fn framebuffer(
    call: &Call,
    (width, height): (u32, u32),
    format: u32,
    (pitch, offset): (u32, u32),
    handle: u32,
) -> Result<Reply, Refusal> {
    if call.number == 0xad {
        let asked = call.parse::<GetFb>()?.fixed;
        let depth = if format == u32::from_le_bytes(*b"AR24") { 32 } else { 24 };
        return Ok(Reply::fixed(&GetFb { width, height, pitch, bpp: 32, depth, handle, ..asked }));
    }
    let asked = call.parse::<GetFb2>()?.fixed;
    Ok(Reply::fixed(&GetFb2 {
        width,
        height,
        pixel_format: format,
        flags: 0,
        handles: [handle, 0, 0, 0],
        pitches: [pitch, 0, 0, 0],
        offsets: [offset, 0, 0, 0],
        modifier: [0; 4],
        ..asked
    }))
}

fn vblank(call: &Call, sequence: u64, time: u64, active: bool) -> Result<Reply, Refusal> {
    Ok(match call.number {
        0x3a => Reply::fixed(&WaitVblank {
            sequence: low(sequence),
            signal_or_seconds: time / 1_000_000_000,
            microseconds: (time % 1_000_000_000 / 1000).cast_signed(),
            ..call.parse::<WaitVblank>()?.fixed
        }),
        0x3b => Reply::fixed(&CrtcGetSequence {
            active: active.into(),
            sequence,
            sequence_ns: time.cast_signed(),
            ..call.parse::<CrtcGetSequence>()?.fixed
        }),
        _ => Reply::fixed(&CrtcQueueSequence { sequence, ..call.parse::<CrtcQueueSequence>()?.fixed }),
    })
}

fn count<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(u32::MAX)
}

/// As much of an array as there is room for.
fn fit<T: IntoBytes + zerocopy::Immutable>(all: &[T], room: u32) -> Vec<u8> {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(all.len());
    all[..room].as_bytes().to_vec()
}
