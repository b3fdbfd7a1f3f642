//! From the journal back to command streams: contents first, then the objects and the state of each sub-context.
//!
//! The host's renderer takes no more commands from a context that named something it does not know. So what names a
//! resource that is detached, or an object that is gone, is left out or told to name nothing.

use std::collections::VecDeque;
use std::ops::Range;

use virgld_protocol::ids::ResourceId;
use virgld_protocol::virgl::{Verb, head};

use super::contents::{Piece, Source};
use super::sub::{Key, SubContext};
use super::{Journal, TRANSFER_WORDS};

/// Words of a stream, unless one command is longer.
const STREAM_WORDS: usize = 12 << 10;
/// Bytes of contents in one command, unless one row is longer.
const ROWS_BYTES: usize = 32 << 10;
/// The longest command, in bytes of contents.
const MOST_BYTES: usize = (virgld_protocol::virgl::MOST_WORDS - TRANSFER_WORDS) * 4;

/// Layers of less are not cut: the commands would be longer than what they carry.
const LEAST_LAYER: usize = 256;

/// What is yet to be said of a journal. Streams are made as they are asked for, so that no more is held twice than a
/// few of them; the journal must be as it was in the meantime.
#[derive(Debug)]
pub(crate) struct Replay {
    steps: VecDeque<Step>,
}

/// One command, or where it is in the journal.
#[derive(Debug)]
enum Step {
    Words(Vec<u32>),
    /// Contents that are had again by a command.
    Piece(ResourceId, usize),
    /// Contents that the journal has, and which of them.
    Part(ResourceId, usize, Part),
    /// What follows is in another stream: the host drops the rest of one with a command that it cannot do.
    Cut,
    /// Part of what made an object of a sub-context.
    Object(u32, u32, Range<usize>),
    State(u32, Key),
}

impl Replay {
    /// The next stream, if there is more to say.
    pub(crate) fn next(&mut self, journal: &Journal) -> Option<Vec<u32>> {
        let mut stream = Vec::new();
        while let Some(step) = self.steps.front() {
            let command = match step {
                Step::Cut if stream.is_empty() => Some(Vec::new()),
                Step::Cut => None,
                step => Some(journal.command(step).unwrap_or_default()),
            };
            let Some(command) =
                command.filter(|it| stream.is_empty() || stream.len() + it.len() <= STREAM_WORDS)
            else {
                break;
            };
            stream.extend(command);
            self.steps.pop_front();
        }
        Some(stream).filter(|it| !it.is_empty())
    }
}

impl Journal {
    /// What the context may name.
    pub(crate) fn attached(&self) -> impl Iterator<Item = ResourceId> {
        self.attached.keys().copied()
    }

    /// What makes another context what this one was.
    pub(crate) fn replay(&self) -> Replay {
        let mut pieces: Vec<_> = self
            .contents
            .iter()
            .flat_map(|(resource, it)| (0..).zip(it.pieces()).map(|(index, piece)| (*resource, index, piece)))
            .collect();
        pieces.sort_unstable_by_key(|(.., piece)| piece.at);
        let mut steps = VecDeque::new();
        for (resource, index, piece) in pieces {
            if let Source::Bytes { stride, layer_stride, bytes } = &piece.source {
                let parts = parts(piece.region, *stride, *layer_stride, bytes.len());
                steps.extend(parts.into_iter().map(|part| Step::Part(resource, index, part)));
            } else {
                steps.push_back(Step::Piece(resource, index));
            }
        }
        steps.push_back(Step::Cut);
        for (id, sub) in &self.subs {
            if *id != 0 {
                steps.push_back(Step::Words(vec![head(Verb::CREATE_SUB_CTX, 0, 1), *id]));
                steps.push_back(Step::Words(vec![head(Verb::SET_SUB_CTX, 0, 1), *id]));
            }
            self.furnish(*id, sub, &mut steps);
        }
        steps.push_back(Step::Words(vec![head(Verb::SET_SUB_CTX, 0, 1), self.current]));
        Replay { steps }
    }

    /// The command of a step; none where it would say nothing.
    fn command(&self, step: &Step) -> Option<Vec<u32>> {
        match step {
            Step::Words(words) => Some(words.clone()),
            Step::Piece(resource, index) => self.fill(*resource, self.piece(*resource, *index)?),
            Step::Part(resource, index, part) => {
                let Piece { level, source: Source::Bytes { stride, bytes, .. }, .. } =
                    self.piece(*resource, *index)?
                else {
                    return None;
                };
                let bytes = bytes.get(part.bytes.clone())?;
                let words = TRANSFER_WORDS + bytes.len().div_ceil(4);
                let mut command = vec![head(Verb::RESOURCE_INLINE_WRITE, 0, words)];
                command.extend(place(*resource, *level, (*stride, part.layer_stride), part.region));
                command.extend(bytes.chunks(4).map(word));
                Some(command)
            }
            Step::Cut => None,
            Step::Object(sub, handle, range) => {
                Some(self.subs.get(sub)?.objects.get(handle)?.commands.get(range.clone())?.to_vec())
            }
            Step::State(sub, key) => {
                let sub = self.subs.get(sub)?;
                self.safe(sub, &sub.state.get(key)?.1)
            }
        }
    }

    fn piece(&self, resource: ResourceId, index: usize) -> Option<&Piece> {
        self.contents.get(&resource)?.pieces().nth(index)
    }

    fn has(&self, resource: u32) -> bool {
        self.attached.contains_key(&ResourceId(resource))
    }

    fn fill(&self, resource: ResourceId, piece: &Piece) -> Option<Vec<u32>> {
        match &piece.source {
            Source::Memory { offset, stride, layer_stride } => {
                const TO_HOST: u32 = 1;
                let mut command = vec![head(Verb::TRANSFER3D, 0, TRANSFER_WORDS + 2)];
                command.extend(place(resource, piece.level, (*stride, *layer_stride), piece.region));
                command.extend([*offset, TO_HOST]);
                Some(command)
            }
            // Its other end is attached, or the host would refuse the rest.
            Source::Command(words) => {
                self.ends(words).into_iter().all(|end| self.has(end)).then(|| words.clone())
            }
            Source::Bytes { .. } => None,
        }
    }

    /// The resources that a command that copies is between.
    fn ends(&self, words: &[u32]) -> Vec<u32> {
        let verb = words.first().map_or(Verb::NOP, |head| Verb(head.to_le_bytes()[0]));
        let ends: &[usize] = match verb {
            Verb::BLIT => &[4, 13],
            Verb::RESOURCE_COPY_REGION => &[1, 6],
            _ => &[1],
        };
        ends.iter().filter_map(|index| words.get(*index).copied()).collect()
    }

    /// The objects and the state of a sub-context that is current.
    fn furnish(&self, id: u32, sub: &SubContext, steps: &mut VecDeque<Step>) {
        for (handle, object) in sub.objects.iter().filter(|(_, object)| self.can_be(object)) {
            let mut start = 0;
            // Each part of a shader by itself.
            for command in virgld_protocol::virgl::Commands::of(&object.commands).flatten() {
                let end = start + command.whole.len();
                steps.push_back(Step::Object(id, *handle, start..end));
                start = end;
            }
        }
        let mut state: Vec<_> = sub.state.iter().collect();
        state.sort_unstable_by_key(|(_, (at, _))| *at);
        steps.extend(state.into_iter().map(|(key, _)| Step::State(id, *key)));
        for query in sub.counting.iter().filter(|query| self.is_there(sub, **query)) {
            steps.push_back(Step::Words(vec![head(Verb::BEGIN_QUERY, 0, 1), *query]));
        }
    }

    fn can_be(&self, object: &super::sub::Object) -> bool {
        let resource = object.kind.names_resource().map(|index| object.commands.get(1 + index).copied());
        resource.is_none_or(|resource| resource.is_some_and(|resource| self.has(resource)))
    }

    fn is_there(&self, sub: &SubContext, handle: u32) -> bool {
        sub.objects.get(&handle).is_some_and(|object| self.can_be(object))
    }

    /// The command with nothing in the place of what is gone; none where it then says nothing.
    fn safe(&self, sub: &SubContext, words: &[u32]) -> Option<Vec<u32>> {
        let mut command = words.to_vec();
        let [verb, kind, ..] = command.first()?.to_le_bytes();
        let object = |word: &mut u32| {
            if !self.is_there(sub, *word) {
                *word = 0;
            }
        };
        let resource = |word: &mut u32| {
            if !self.has(*word) {
                *word = 0;
            }
        };
        match Verb(verb) {
            Verb::BIND_OBJECT | Verb::BIND_SHADER => command.iter_mut().skip(1).take(1).for_each(object),
            Verb::SET_FRAMEBUFFER_STATE => command.iter_mut().skip(2).for_each(object),
            Verb::SET_SAMPLER_VIEWS | Verb::BIND_SAMPLER_STATES => {
                command.iter_mut().skip(3).for_each(object);
            }
            Verb::SET_STREAMOUT_TARGETS => {
                let all = command.iter().skip(2).all(|target| *target == 0 || self.is_there(sub, *target));
                return all.then_some(command);
            }
            // Its query has no result.
            Verb::SET_RENDER_CONDITION => return None,
            Verb::SET_VERTEX_BUFFERS => command.iter_mut().skip(3).step_by(3).for_each(resource),
            Verb::SET_INDEX_BUFFER if !self.has(*command.get(1)?) => {
                return Some(vec![head(Verb::SET_INDEX_BUFFER, kind, 1), 0]);
            }
            Verb::SET_UNIFORM_BUFFER => command.iter_mut().skip(5).take(1).for_each(resource),
            Verb::SET_SHADER_BUFFERS | Verb::SET_SHADER_IMAGES | Verb::SET_ATOMIC_BUFFERS => {
                command.last_mut().into_iter().for_each(resource);
            }
            _ => {}
        }
        Some(command)
    }
}

/// The words that say where a transfer goes.
fn place(resource: ResourceId, level: u32, strides: (u32, u32), region: [u32; 6]) -> [u32; TRANSFER_WORDS] {
    let [x, y, z, w, h, d] = region;
    [resource.0, level, 0, strides.0, strides.1, x, y, z, w, h, d]
}

fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u32::from_le_bytes(word)
}

/// What one command writes.
#[derive(Debug)]
struct Part {
    region: [u32; 6],
    layer_stride: u32,
    /// Which of the bytes.
    bytes: Range<usize>,
}

/// Cuts bytes into parts that a command can carry: a buffer anywhere, a texture between rows of blocks.
fn parts(region: [u32; 6], stride: u32, layer_stride: u32, bytes: usize) -> Vec<Part> {
    if bytes <= ROWS_BYTES {
        return vec![Part { region, layer_stride, bytes: 0..bytes }];
    }
    let [x, y, z, w, h, d] = region;
    if stride == 0 {
        // One byte for each place of a buffer; of anything else nobody knows where its rows begin.
        let flat = h == 1 && d == 1 && bytes <= w as usize;
        let chunks = chunks(0..bytes, ROWS_BYTES).map(|bytes| Part {
            region: [x.saturating_add(short(bytes.start)), y, z, short(bytes.len()), 1, 1],
            layer_stride: 0,
            bytes,
        });
        return if flat { chunks.collect() } else { Vec::new() };
    }
    let layer = if layer_stride == 0 { bytes } else { layer_stride as usize };
    if layer < LEAST_LAYER {
        return Vec::new();
    }
    let layers = chunks(0..bytes, layer).zip(z..z.saturating_add(d));
    layers.flat_map(|(bytes, z)| rows([x, y, z, w, h, 1], stride, bytes)).collect()
}

/// Cuts a layer between rows of blocks.
fn rows([x, y, z, w, h, d]: [u32; 6], stride: u32, bytes: Range<usize>) -> Vec<Part> {
    let stride_bytes = stride as usize;
    let rows = bytes.len().div_ceil(stride_bytes).max(1);
    // Blocks of compressed formats are several texels high.
    let block = (h as usize).div_ceil(rows).max(1);
    let at_once = (ROWS_BYTES / stride_bytes).max(1);
    if at_once * stride_bytes > MOST_BYTES {
        return Vec::new();
    }
    let part = |(index, bytes)| {
        let from = short(index * at_once * block);
        let high = short(at_once * block).min(h.saturating_sub(from));
        Part { region: [x, y.saturating_add(from), z, w, high, d], layer_stride: 0, bytes }
    };
    let chunks = chunks(bytes, at_once * stride_bytes).enumerate();
    chunks.map(part).filter(|part| part.region[4] > 0).collect()
}

fn chunks(of: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = of.end;
    of.step_by(size.max(1)).map(move |start| start..end.min(start.saturating_add(size)))
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_texture_is_cut_between_rows_and_every_row_is_written_once() {
        let parts = parts([8, 16, 3, 512, 512, 2], 2048, 2048 * 512, 4 * 512 * 512 * 2);
        let mut next = [(3, 16), (4, 16)];
        for part in &parts {
            let [x, y, z, w, h, d] = part.region;
            let layer = next.iter_mut().find(|(layer, _)| *layer == z).unwrap();
            assert_eq!((x, y, w, d, part.bytes.len()), (8, layer.1, 512, 1, 2048 * h as usize));
            layer.1 += h;
        }
        assert_eq!(next, [(3, 528), (4, 528)]);
    }

    #[test]
    fn rows_of_blocks_stay_whole() {
        // 256 x 256 texels in blocks of 4 x 4 with 16 bytes each.
        let parts = parts([0, 0, 0, 256, 256, 1], 1024, 1024 * 64, 1024 * 64);
        assert_eq!(parts.iter().map(|part| part.region[4]).collect::<Vec<_>>(), [128, 128]);
    }

    #[test]
    fn a_buffer_is_cut_anywhere() {
        let parts = parts([12, 0, 0, 100_000, 1, 1], 0, 0, 100_000);
        let mut next = 12;
        for part in &parts {
            assert_eq!(part.region[0], next);
            next += part.region[3];
        }
        assert_eq!(next, 100_012);
    }
}
