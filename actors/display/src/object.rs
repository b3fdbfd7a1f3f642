//! Numbers of mode objects. Those of an output follow from its place; those of framebuffers and blobs come one after
//! another and are not used twice.

/// What a number stands for, as far as that is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Crtc(usize),
    Primary(usize),
    Cursor(usize),
    Encoder(usize),
    Connector(usize),
}

/// Numbers below are those of properties.
const FIRST: u32 = 40;
/// How many numbers an output takes.
const STEP: u32 = 5;
/// Framebuffers and blobs have numbers from here on.
pub(crate) const FIRST_MADE: u32 = 256;

impl Object {
    /// What the number stands for in a system of so many outputs.
    pub(crate) fn of(number: u32, outputs: usize) -> Option<Self> {
        let place = number.checked_sub(FIRST)?;
        let index = usize::try_from(place / STEP).ok().filter(|index| *index < outputs)?;
        Some(match place % STEP {
            0 => Self::Crtc(index),
            1 => Self::Primary(index),
            2 => Self::Cursor(index),
            3 => Self::Encoder(index),
            _ => Self::Connector(index),
        })
    }

    pub(crate) fn number(self) -> u32 {
        let (place, index) = match self {
            Self::Crtc(index) => (0, index),
            Self::Primary(index) => (1, index),
            Self::Cursor(index) => (2, index),
            Self::Encoder(index) => (3, index),
            Self::Connector(index) => (4, index),
        };
        FIRST + STEP * u32::try_from(index).unwrap_or(u32::MAX / STEP - FIRST) + place
    }

    /// The place of its output.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Crtc(index)
            | Self::Primary(index)
            | Self::Cursor(index)
            | Self::Encoder(index)
            | Self::Connector(index) => index,
        }
    }

    /// `DRM_MODE_OBJECT_*`.
    pub(crate) fn kind(self) -> u32 {
        match self {
            Self::Crtc(_) => 0xcccc_cccc,
            Self::Primary(_) | Self::Cursor(_) => 0xeeee_eeee,
            Self::Encoder(_) => 0xe0e0_e0e0,
            Self::Connector(_) => 0xc0c0_c0c0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_what_they_were_made_for_and_nothing_beyond_the_outputs() {
        for index in 0..16 {
            for object in [
                Object::Crtc(index),
                Object::Primary(index),
                Object::Cursor(index),
                Object::Encoder(index),
                Object::Connector(index),
            ] {
                assert_eq!(Object::of(object.number(), 16), Some(object));
                assert_eq!(Object::of(object.number(), index), None);
                assert!(object.number() < FIRST_MADE);
            }
        }
        assert_eq!(Object::of(0, 16), None);
    }
}
