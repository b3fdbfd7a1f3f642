//! What of a picture is to be shown anew.

use virgld_protocol::message::ctrlq::Rectangle;

/// Left, top, right, bottom; the last two are outside.
pub(crate) type Clip = [u16; 4];

/// What has changed of what is shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Damage {
    #[default]
    Nothing,
    Clips(Vec<Clip>),
    Everything,
}

/// More clips than this cost more than the whole.
const MANY: usize = 64;

impl Damage {
    /// What clips say; everything if there are none.
    pub(crate) fn of(clips: &[Clip]) -> Self {
        if clips.is_empty() || clips.len() > MANY { Self::Everything } else { Self::Clips(clips.to_vec()) }
    }

    /// This has changed too.
    pub(crate) fn add(&mut self, other: Self) {
        *self = match (std::mem::take(self), other) {
            (it, Self::Nothing) | (Self::Nothing, it) => it,
            (Self::Clips(mut clips), Self::Clips(more)) => {
                // Who says the same again and again adds nothing.
                clips.extend(more.into_iter().filter(|clip| !clips.contains(clip)).collect::<Vec<_>>());
                Self::of(&clips)
            }
            _ => Self::Everything,
        };
    }

    /// The parts of a rectangle that have changed.
    pub(crate) fn within(&self, rectangle: Rectangle) -> Vec<Rectangle> {
        let clip = |[left, top, right, bottom]: &Clip| {
            let (x, y) = (u32::from(*left).max(rectangle.x), u32::from(*top).max(rectangle.y));
            let right = u32::from(*right).min(rectangle.x + rectangle.width);
            let bottom = u32::from(*bottom).min(rectangle.y + rectangle.height);
            (x < right && y < bottom).then(|| Rectangle { x, y, width: right - x, height: bottom - y })
        };
        match self {
            Self::Nothing => Vec::new(),
            Self::Clips(clips) => clips.iter().filter_map(clip).collect(),
            Self::Everything => vec![rectangle],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Rectangle = Rectangle { x: 10, y: 0, width: 20, height: 20 };

    #[test]
    fn clips_are_cut_to_the_screen_and_those_beside_it_are_none() {
        let damage = Damage::of(&[[0, 0, 15, 5], [28, 18, 99, 99], [0, 0, 10, 20], [5, 5, 4, 4]]);
        let parts =
            [Rectangle { x: 10, y: 0, width: 5, height: 5 }, Rectangle { x: 28, y: 18, width: 2, height: 2 }];
        assert_eq!(damage.within(SCREEN), parts);
        assert_eq!(Damage::of(&[]).within(SCREEN), [SCREEN]);
        assert_eq!(Damage::Nothing.within(SCREEN), []);
    }

    #[test]
    fn what_is_gathered_never_grows_beyond_a_limit() {
        let mut damage = Damage::Nothing;
        damage.add(Damage::of(&[[0, 0, 1, 1]]));
        damage.add(Damage::of(&[[0, 0, 1, 1], [1, 1, 2, 2]]));
        assert_eq!(damage, Damage::Clips(vec![[0, 0, 1, 1], [1, 1, 2, 2]]));
        for left in 0..100 {
            damage.add(Damage::of(&[[left, 5, left + 1, 6]]));
        }
        assert_eq!(damage, Damage::Everything);
        damage.add(Damage::of(&[[0, 0, 1, 1]]));
        assert_eq!(damage, Damage::Everything);
    }
}
