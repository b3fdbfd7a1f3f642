//! Properties: their numbers, what they are, and their values.

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::display::{Answer, Property};

use crate::object::Object;
use crate::output::Plane;
use crate::state::{Outcome, State};

macro_rules! properties {
    ($($name:ident = $number:literal;)*) => {
        $(pub(crate) const $name: u32 = $number;)*
    };
}

properties! {
    TYPE = 1;
    FB_ID = 2;
    CRTC_ID = 3;
    CRTC_X = 4;
    CRTC_Y = 5;
    CRTC_W = 6;
    CRTC_H = 7;
    SRC_X = 8;
    SRC_Y = 9;
    SRC_W = 10;
    SRC_H = 11;
    DAMAGE = 12;
    HOTSPOT_X = 13;
    HOTSPOT_Y = 14;
    ACTIVE = 15;
    MODE_ID = 16;
    EDID = 17;
    DPMS = 18;
    LINK_STATUS = 19;
    NON_DESKTOP = 20;
}

pub(crate) use virgld_protocol::client::kms::{IN_FENCE_FD, OUT_FENCE_PTR};

/// `DRM_MODE_PROP_*`.
const RANGE: u32 = 1 << 1;
const IMMUTABLE: u32 = 1 << 2;
const ENUM: u32 = 1 << 3;
const BLOB: u32 = 1 << 4;
const OBJECT: u32 = 1 << 6;
const SIGNED: u32 = 2 << 6;
const ATOMIC: u32 = 0x8000_0000;

const ANY_FRAMEBUFFER: u64 = 0xfbfb_fbfb;
const ANY_CRTC: u64 = 0xcccc_cccc;
const I32: (u64, u64) = ((-(1_i64 << 31)).cast_unsigned(), (1 << 31) - 1);

/// A property by its number.
fn describe(id: u32) -> Option<Property> {
    let property = |name, flags, values: &[u64], names: &[(u64, &'static str)]| {
        let names = names.to_vec();
        let values = if names.is_empty() { values.to_vec() } else { names.iter().map(|it| it.0).collect() };
        Some(Property { name, flags, values, names })
    };
    let signed = |name| property(name, SIGNED | ATOMIC, &[I32.0, I32.1], &[]);
    let unsigned = |name, most| property(name, RANGE | ATOMIC, &[0, most], &[]);
    const INT: u64 = i32::MAX as u64;
    const UINT: u64 = u32::MAX as u64;
    match id {
        TYPE => property("type", ENUM | IMMUTABLE, &[], &[(0, "Overlay"), (1, "Primary"), (2, "Cursor")]),
        FB_ID => property("FB_ID", OBJECT | ATOMIC, &[ANY_FRAMEBUFFER], &[]),
        CRTC_ID => property("CRTC_ID", OBJECT | ATOMIC, &[ANY_CRTC], &[]),
        CRTC_X => signed("CRTC_X"),
        CRTC_Y => signed("CRTC_Y"),
        CRTC_W => unsigned("CRTC_W", INT),
        CRTC_H => unsigned("CRTC_H", INT),
        SRC_X => unsigned("SRC_X", UINT),
        SRC_Y => unsigned("SRC_Y", UINT),
        SRC_W => unsigned("SRC_W", UINT),
        SRC_H => unsigned("SRC_H", UINT),
        DAMAGE => property("FB_DAMAGE_CLIPS", BLOB | ATOMIC, &[0], &[]),
        HOTSPOT_X => signed("HOTSPOT_X"),
        HOTSPOT_Y => signed("HOTSPOT_Y"),
        ACTIVE => unsigned("ACTIVE", 1),
        MODE_ID => property("MODE_ID", BLOB | ATOMIC, &[0], &[]),
        EDID => property("EDID", BLOB | IMMUTABLE, &[0], &[]),
        DPMS => property("DPMS", ENUM, &[], &[(0, "On"), (1, "Standby"), (2, "Suspend"), (3, "Off")]),
        LINK_STATUS => property("link-status", ENUM, &[], &[(0, "Good"), (1, "Bad")]),
        NON_DESKTOP => property("non-desktop", RANGE | IMMUTABLE, &[0, 1], &[]),
        IN_FENCE_FD => property("IN_FENCE_FD", SIGNED | ATOMIC, &[u64::MAX, INT], &[]),
        OUT_FENCE_PTR => unsigned("OUT_FENCE_PTR", u64::MAX),
        _ => None,
    }
}

/// Whether only clients that use atomic mode setting see a property.
fn is_atomic(id: u32) -> bool {
    describe(id).is_some_and(|it| it.flags & ATOMIC != 0)
}

impl State {
    pub(crate) fn property(&mut self, id: u32) -> Result<Outcome, Refusal> {
        let found = describe(id).ok_or(Refusal::new(Errno::ENOENT, "no such property"))?;
        Ok(Outcome::Answer(Answer::Property(found)))
    }

    pub(crate) fn properties(&mut self, file: FileId, object: u32, kind: u32) -> Result<Outcome, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::ENOENT, "no such object");
        const NONE: Refusal = Refusal::new(Errno::EINVAL, "such objects have no properties");
        let found = Object::of(object, self.outputs.len())
            .filter(|it| kind == 0 || it.kind() == kind)
            .ok_or(UNKNOWN)?;
        if matches!(found, Object::Encoder(_)) {
            return Err(NONE);
        }
        let values = self.values_for(file, found)?;
        Ok(Outcome::Answer(Answer::Properties(values)))
    }

    /// The properties of an object that a file is to see.
    pub(crate) fn values_for(&mut self, file: FileId, object: Object) -> Result<Vec<(u32, u64)>, Refusal> {
        let rights = self.rights(file)?;
        let (atomic, hotspots) = (rights.atomic, rights.hotspots);
        let visible = |id: u32| match id {
            HOTSPOT_X | HOTSPOT_Y => atomic && hotspots,
            _ => atomic || !is_atomic(id),
        };
        Ok(self.values(object).into_iter().filter(|(id, _)| visible(*id)).collect())
    }

    /// All properties of an object.
    pub(crate) fn values(&self, object: Object) -> Vec<(u32, u64)> {
        match object {
            Object::Crtc(index) => {
                let config = &self.outputs[index].config;
                let mode = config.mode.as_ref().map_or(0, |(blob, _)| u64::from(*blob));
                vec![(ACTIVE, config.active.into()), (MODE_ID, mode), (OUT_FENCE_PTR, 0)]
            }
            Object::Primary(index) => {
                let mut values = self.plane_values(index, 1, &self.outputs[index].config.primary);
                values.push((DAMAGE, 0));
                values
            }
            Object::Cursor(index) => {
                let plane = &self.outputs[index].config.cursor;
                let mut values = self.plane_values(index, 2, plane);
                values.extend([(HOTSPOT_X, signed(plane.hotspot.0)), (HOTSPOT_Y, signed(plane.hotspot.1))]);
                values
            }
            Object::Connector(index) => {
                let output = &self.outputs[index];
                let crtc = if output.config.joined { Object::Crtc(index).number() } else { 0 };
                let off = output.config.mode.is_some() && !output.config.active;
                vec![
                    (EDID, output.monitor.edid.unwrap_or(0).into()),
                    (DPMS, if off { 3 } else { 0 }),
                    (LINK_STATUS, 0),
                    (NON_DESKTOP, 0),
                    (CRTC_ID, crtc.into()),
                ]
            }
            Object::Encoder(_) => Vec::new(),
        }
    }

    fn plane_values(&self, index: usize, kind: u64, plane: &Plane) -> Vec<(u32, u64)> {
        let crtc = if plane.joined { Object::Crtc(index).number() } else { 0 };
        let [x, y, width, height] = plane.source.map(u64::from);
        vec![
            (TYPE, kind),
            (FB_ID, plane.framebuffer.unwrap_or(0).into()),
            (CRTC_ID, crtc.into()),
            (CRTC_X, signed(plane.position.0)),
            (CRTC_Y, signed(plane.position.1)),
            (CRTC_W, plane.size.0.into()),
            (CRTC_H, plane.size.1.into()),
            (SRC_X, x),
            (SRC_Y, y),
            (SRC_W, width),
            (SRC_H, height),
            (IN_FENCE_FD, u64::MAX),
        ]
    }
}

/// A signed value as properties carry it.
fn signed(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}
