//! A sub-context: the objects and the state of one of a client's GL contexts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use virgld_protocol::virgl::{Command, ObjectKind, Verb, head};

use super::ENTRY;

/// What a sub-context has.
#[derive(Debug, Default)]
pub(super) struct SubContext {
    pub(super) objects: BTreeMap<u32, Object>,
    /// The last command of each kind of state, and when it was.
    pub(super) state: HashMap<Key, (u64, Vec<u32>)>,
    /// Queries that have begun and not ended.
    pub(super) counting: BTreeSet<u32>,
    bytes: usize,
}

/// An object, and the commands that made it.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) kind: ObjectKind,
    pub(super) commands: Vec<u32>,
}

/// Names a piece of state: two commands with the same key set the same.
pub(super) type Key = (Verb, u32, u32);

/// In the word of a shader's offset: this is a further part of its text.
const CONTINUED: u32 = 1 << 31;

impl SubContext {
    /// Bytes that it takes to remember it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The resource that an object is a window on.
    pub(super) fn resource_of(&self, handle: u32) -> Option<u32> {
        let object = self.objects.get(&handle)?;
        object.commands.get(1 + object.kind.names_resource()?).copied()
    }

    /// Notes a command of those that make objects and state.
    pub(super) fn note(&mut self, clock: u64, command: &Command) -> Result<(), &'static str> {
        match command.verb {
            Verb::CREATE_OBJECT => self.create(command),
            Verb::DESTROY_OBJECT => self.destroy(command.word(0)),
            Verb::BEGIN_QUERY => {
                if self.counting.insert(command.word(0)) {
                    self.bytes += ENTRY;
                }
            }
            Verb::END_QUERY => self.end_query(command.word(0)),
            Verb::SET_VIEWPORT_STATE => self.slots(clock, command, 0, 6),
            Verb::SET_SCISSOR_STATE => self.slots(clock, command, 0, 2),
            Verb::SET_ATOMIC_BUFFERS => self.slots(clock, command, 0, 3),
            Verb::SET_SHADER_BUFFERS => self.slots(clock, command, 1, 3),
            Verb::SET_SHADER_IMAGES => self.slots(clock, command, 1, 5),
            _ => {
                let key = key(command).ok_or("it uses a command that the journal does not know")?;
                self.set(clock, key, command.whole);
            }
        }
        Ok(())
    }

    fn create(&mut self, command: &Command) {
        let handle = command.word(0);
        let shader = command.object == ObjectKind::SHADER;
        if shader && command.word(2) & CONTINUED != 0 {
            if let Some(object) = self.objects.get_mut(&handle) {
                object.commands.extend_from_slice(command.whole);
                self.bytes += command.whole.len() * 4;
            }
            return;
        }
        self.destroy(handle);
        self.bytes += ENTRY + command.whole.len() * 4;
        self.objects.insert(handle, Object { kind: command.object, commands: command.whole.to_vec() });
    }

    fn destroy(&mut self, handle: u32) {
        if let Some(object) = self.objects.remove(&handle) {
            self.bytes -= ENTRY + object.commands.len() * 4;
        }
        self.end_query(handle);
    }

    fn end_query(&mut self, handle: u32) {
        if self.counting.remove(&handle) {
            self.bytes -= ENTRY;
        }
    }

    /// State that a command sets for several slots, from the one on that `start` words are before: each by itself, so
    /// that a later command for some of them leaves the others.
    fn slots(&mut self, clock: u64, command: &Command, start: usize, words: usize) {
        let Some((before, slots)) = command.words.split_at_checked(start + 1) else { return };
        for (index, slot) in slots.chunks_exact(words).enumerate() {
            let Ok(index) = u32::try_from(index) else { return };
            let number = before[start].saturating_add(index);
            let whole: Vec<u32> = [head(command.verb, 0, start + 1 + words)]
                .iter()
                .chain(&before[..start])
                .chain([&number])
                .chain(slot)
                .copied()
                .collect();
            let of = if start == 0 { 0 } else { before[0] };
            self.set(clock, (command.verb, of, number), &whole);
        }
    }

    fn set(&mut self, clock: u64, key: Key, whole: &[u32]) {
        let (at, words) = self.state.entry(key).or_insert_with(|| {
            self.bytes += ENTRY;
            (clock, Vec::new())
        });
        self.bytes -= words.len() * 4;
        *at = clock;
        words.clear();
        words.extend_from_slice(whole);
        self.bytes += words.len() * 4;
    }
}

/// What a command sets; nothing for one that is not known.
fn key(command: &Command) -> Option<Key> {
    let (first, second) = (command.word(0), command.word(1));
    let part = match command.verb {
        Verb::SET_FRAMEBUFFER_STATE
        | Verb::SET_FRAMEBUFFER_STATE_NO_ATTACH
        | Verb::SET_VERTEX_BUFFERS
        | Verb::SET_INDEX_BUFFER
        | Verb::SET_STENCIL_REF
        | Verb::SET_BLEND_COLOR
        | Verb::SET_POLYGON_STIPPLE
        | Verb::SET_CLIP_STATE
        | Verb::SET_SAMPLE_MASK
        | Verb::SET_STREAMOUT_TARGETS
        | Verb::SET_RENDER_CONDITION
        | Verb::SET_TESS_STATE
        | Verb::SET_MIN_SAMPLES => (0, 0),
        Verb::BIND_OBJECT => (u32::from(command.object.0), 0),
        Verb::BIND_SHADER => (second, 0),
        Verb::SET_TWEAKS => (first, 0),
        Verb::SET_SAMPLER_VIEWS
        | Verb::BIND_SAMPLER_STATES
        | Verb::SET_CONSTANT_BUFFER
        | Verb::SET_UNIFORM_BUFFER => (first, second),
        _ => return None,
    };
    Some((command.verb, part.0, part.1))
}
