//! What a resource holds, as far as it is known where it came from.

use super::ENTRY;

/// The pieces of one resource, oldest first.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pieces: Vec<Piece>,
    bytes: usize,
}

/// A part of a resource that was written at once.
#[derive(Debug)]
pub(super) struct Piece {
    /// When, as the journal counts.
    pub(super) at: u64,
    pub(super) level: u32,
    /// x, y, z, width, height, depth.
    pub(super) region: [u32; 6],
    pub(super) source: Source,
}

/// Where the bytes can be had again.
#[derive(Debug)]
pub(super) enum Source {
    /// In the resource's memory.
    Memory { offset: u32, stride: u32, layer_stride: u32 },
    /// Here: the memory that they came from has been used for something else.
    Bytes { stride: u32, layer_stride: u32, bytes: Vec<u8> },
    /// By this command, from what other resources hold.
    Command(Vec<u32>),
}

/// So many pieces are too many to look through at each write.
const MOST_PIECES: usize = 512;

impl Contents {
    /// Bytes that it takes to remember them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_too_scattered(&self) -> bool {
        self.pieces.len() > MOST_PIECES
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// Adds a piece in place of those that it covers.
    pub(super) fn add(&mut self, mut piece: Piece) {
        self.pieces.retain(|old| !piece.covers(old));
        self.merge(&mut piece);
        self.pieces.push(piece);
        self.bytes = self.pieces.iter().map(Piece::bytes).sum();
    }

    /// Makes one piece of parts of a buffer's memory that touch one another, unless that would bring back what has been
    /// overwritten from elsewhere.
    fn merge(&mut self, piece: &mut Piece) {
        let Some((mut start, mut end)) = piece.interval() else { return };
        let touches = |old: &Piece, start: u32, end: u32| {
            old.interval().is_some_and(|(from, to)| from <= end && start <= to)
        };
        while let Some(index) = self.pieces.iter().position(|old| touches(old, start, end)) {
            let Some((from, to)) = self.pieces[index].interval() else { return };
            let (low, high) = (start.min(from), end.max(to));
            let elsewhere = |old: &Piece| {
                let [x, _, _, w, ..] = old.region;
                old.interval().is_none() && x < high && low < x.saturating_add(w)
            };
            if self.pieces.iter().any(elsewhere) {
                return;
            }
            self.pieces.remove(index);
            (start, end) = (low, high);
            piece.region = [start, 0, 0, end - start, 1, 1];
            piece.source = Source::Memory { offset: start, stride: 0, layer_stride: 0 };
        }
    }
}

impl Piece {
    fn bytes(&self) -> usize {
        ENTRY
            + match &self.source {
                Source::Memory { .. } => 0,
                Source::Bytes { bytes, .. } => bytes.len(),
                Source::Command(words) => words.len() * 4,
            }
    }

    /// Whether nothing of `other` is left.
    fn covers(&self, other: &Self) -> bool {
        let within = |axis: usize| {
            let (start, old) = (self.region[axis], other.region[axis]);
            let end = u64::from(start) + u64::from(self.region[axis + 3]);
            start <= old && u64::from(old) + u64::from(other.region[axis + 3]) <= end
        };
        self.level == other.level && (0..3).all(within)
    }

    /// From where to where it goes, if it is a part of a buffer and lies in its memory where it lies in the buffer.
    fn interval(&self) -> Option<(u32, u32)> {
        match (self.level, self.region, &self.source) {
            (0, [x, 0, 0, width, 1, 1], Source::Memory { offset, stride: 0, .. }) if x == *offset => {
                Some((x, x.checked_add(width)?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(x: u32, width: u32) -> Piece {
        let source = Source::Memory { offset: x, stride: 0, layer_stride: 0 };
        Piece { at: 0, level: 0, region: [x, 0, 0, width, 1, 1], source }
    }

    fn bytes(x: u32, width: u32) -> Piece {
        let source = Source::Bytes { stride: 0, layer_stride: 0, bytes: vec![1; width as usize] };
        Piece { at: 0, level: 0, region: [x, 0, 0, width, 1, 1], source }
    }

    fn regions(contents: &Contents) -> Vec<(u32, u32)> {
        contents.pieces().map(|piece| (piece.region[0], piece.region[3])).collect()
    }

    #[test]
    fn what_is_covered_goes_and_its_bytes_with_it() {
        let mut contents = Contents::default();
        contents.add(bytes(10, 20));
        assert_eq!(contents.bytes(), ENTRY + 20);
        contents.add(bytes(0, 64));
        assert_eq!((regions(&contents), contents.bytes()), (vec![(0, 64)], ENTRY + 64));
        contents.add(Piece { level: 1, ..bytes(0, 64) });
        assert_eq!(regions(&contents).len(), 2, "another level");
    }

    #[test]
    fn parts_of_a_buffer_that_touch_become_one() {
        let mut contents = Contents::default();
        [(0, 16), (32, 16), (16, 16)].into_iter().for_each(|(x, width)| contents.add(memory(x, width)));
        assert_eq!(regions(&contents), [(0, 48)]);
    }

    #[test]
    fn memory_does_not_bring_back_what_was_overwritten_from_elsewhere() {
        let mut contents = Contents::default();
        contents.add(memory(0, 64));
        contents.add(bytes(16, 16));
        contents.add(memory(60, 16));
        assert_eq!(regions(&contents), [(0, 64), (16, 16), (60, 16)]);
    }
}
