//! The command streams of virgl, as far as whoever looks into one must know them: where each command ends, and what it
//! names (virglrenderer, `virgl_protocol.h`; version 0.10, Mesa 22.3).
//!
//! A stream is a client's word. What is cut short is [`Malformed`], and no word of a command is taken for more than a
//! number.

/// A kind of command (`enum virgl_context_cmd`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Verb(pub u8);

macro_rules! verbs {
    ($($name:ident = $number:literal;)*) => {
        #[allow(missing_docs, reason = "virgl_protocol.h has them by the same names")]
        impl Verb { $(pub const $name: Self = Self($number);)* }
    };
}

verbs! {
    NOP = 0;
    CREATE_OBJECT = 1;
    BIND_OBJECT = 2;
    DESTROY_OBJECT = 3;
    SET_VIEWPORT_STATE = 4;
    SET_FRAMEBUFFER_STATE = 5;
    SET_VERTEX_BUFFERS = 6;
    CLEAR = 7;
    DRAW_VBO = 8;
    RESOURCE_INLINE_WRITE = 9;
    SET_SAMPLER_VIEWS = 10;
    SET_INDEX_BUFFER = 11;
    SET_CONSTANT_BUFFER = 12;
    SET_STENCIL_REF = 13;
    SET_BLEND_COLOR = 14;
    SET_SCISSOR_STATE = 15;
    BLIT = 16;
    RESOURCE_COPY_REGION = 17;
    BIND_SAMPLER_STATES = 18;
    BEGIN_QUERY = 19;
    END_QUERY = 20;
    GET_QUERY_RESULT = 21;
    SET_POLYGON_STIPPLE = 22;
    SET_CLIP_STATE = 23;
    SET_SAMPLE_MASK = 24;
    SET_STREAMOUT_TARGETS = 25;
    SET_RENDER_CONDITION = 26;
    SET_UNIFORM_BUFFER = 27;
    SET_SUB_CTX = 28;
    CREATE_SUB_CTX = 29;
    DESTROY_SUB_CTX = 30;
    BIND_SHADER = 31;
    SET_TESS_STATE = 32;
    SET_MIN_SAMPLES = 33;
    SET_SHADER_BUFFERS = 34;
    SET_SHADER_IMAGES = 35;
    MEMORY_BARRIER = 36;
    LAUNCH_GRID = 37;
    SET_FRAMEBUFFER_STATE_NO_ATTACH = 38;
    TEXTURE_BARRIER = 39;
    SET_ATOMIC_BUFFERS = 40;
    SET_DEBUG_FLAGS = 41;
    GET_QUERY_RESULT_QBO = 42;
    TRANSFER3D = 43;
    END_TRANSFERS = 44;
    COPY_TRANSFER3D = 45;
    SET_TWEAKS = 46;
    CLEAR_TEXTURE = 47;
    GET_MEMORY_INFO = 50;
    EMIT_STRING_MARKER = 51;
    LINK_SHADER = 52;
}

impl Verb {
    /// Whether it is one of the above.
    const fn is_known(self) -> bool {
        self.0 <= Self::CLEAR_TEXTURE.0
            || (Self::GET_MEMORY_INFO.0 <= self.0 && self.0 <= Self::LINK_SHADER.0)
    }
}

/// A kind of object (`enum virgl_object_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKind(pub u8);

#[allow(missing_docs, reason = "virgl_protocol.h has them by the same names")]
impl ObjectKind {
    pub const SHADER: Self = Self(4);
    pub const SAMPLER_VIEW: Self = Self(6);
    pub const SURFACE: Self = Self(8);
    pub const QUERY: Self = Self(9);
    pub const STREAMOUT_TARGET: Self = Self(10);
    pub const MSAA_SURFACE: Self = Self(11);
}

impl ObjectKind {
    /// Whether such an object is a window on a resource, and which word of the command that makes it names that.
    pub const fn names_resource(self) -> Option<usize> {
        match self {
            Self::SURFACE | Self::MSAA_SURFACE | Self::SAMPLER_VIEW | Self::STREAMOUT_TARGET => Some(1),
            Self::QUERY => Some(3),
            _ => None,
        }
    }
}

/// Beyond every word of a command.
const NONE: usize = 1 << 16;

/// Most words behind the head of a command.
pub const MOST_WORDS: usize = 0xffff;

/// The head of a command (`VIRGL_CMD0`). `words` is at most [`MOST_WORDS`].
pub const fn head(verb: Verb, object: u8, words: usize) -> u32 {
    let [low, high, ..] = words.to_le_bytes();
    u32::from_le_bytes([verb.0, object, low, high])
}

/// One command of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// What is to be done.
    pub verb: Verb,
    /// With which kind of object, where it is about one.
    pub object: ObjectKind,
    /// All words behind the head.
    pub words: &'a [u32],
    /// The whole command, head included.
    pub whole: &'a [u32],
}

impl Command<'_> {
    /// A word behind the head; 0 where the command is shorter, as none that means something is.
    pub fn word(&self, index: usize) -> u32 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// The resources of which the context has something once this is done: an object made of one, or a binding. A command
    /// that is not known may keep whatever it names, and any of its words may be a name.
    pub fn kept(&self) -> impl Iterator<Item = u32> {
        let (first, step) = match self.verb {
            Verb::CREATE_OBJECT => (self.object.names_resource().unwrap_or(NONE), NONE),
            Verb::SET_VERTEX_BUFFERS => (2, 3),
            Verb::SET_INDEX_BUFFER => (0, NONE),
            Verb::SET_UNIFORM_BUFFER => (4, NONE),
            Verb::SET_SHADER_BUFFERS => (4, 3),
            Verb::SET_SHADER_IMAGES => (6, 5),
            Verb::SET_ATOMIC_BUFFERS => (3, 3),
            verb if verb.is_known() => (NONE, NONE),
            _ => (0, 1),
        };
        self.words.iter().skip(first).step_by(step).copied()
    }
}

/// The stream ends in the middle of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The commands of a stream, one after the other.
#[derive(Debug, Clone)]
pub struct Commands<'a>(&'a [u32]);

impl<'a> Commands<'a> {
    /// Those of this stream.
    pub const fn of(stream: &'a [u32]) -> Self {
        Self(stream)
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let [verb, object, low, high] = self.0.first()?.to_le_bytes();
        let length = 1 + usize::from(u16::from_le_bytes([low, high]));
        let Some((whole, rest)) = self.0.split_at_checked(length) else {
            self.0 = &[];
            return Some(Err(Malformed));
        };
        self.0 = rest;
        // PANIC: a command has its head.
        let words = &whole[1..];
        Some(Ok(Command { verb: Verb(verb), object: ObjectKind(object), words, whole }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_commands_one_behind_the_other() {
        let stream = [head(Verb::SET_SUB_CTX, 0, 1), 7, head(Verb::CREATE_OBJECT, 8, 2), 1, 2];
        let commands: Vec<_> = Commands::of(&stream).map(Result::unwrap).collect();
        assert_eq!(commands.len(), 2);
        assert_eq!((commands[0].verb, commands[0].words), (Verb::SET_SUB_CTX, &[7][..]));
        assert_eq!((commands[1].object, commands[1].whole), (ObjectKind::SURFACE, &stream[2..]));
    }

    #[test]
    fn what_a_context_keeps_of_resources_is_found() {
        let kept = |verb, object, words: &[u32]| {
            let whole = [&[head(verb, object, words.len())], words].concat();
            Commands::of(&whole).next().unwrap().unwrap().kept().collect::<Vec<_>>()
        };
        let words: Vec<u32> = (100..113).collect();
        let made = |kind: ObjectKind| kept(Verb::CREATE_OBJECT, kind.0, &words);
        for kind in [ObjectKind::SAMPLER_VIEW, ObjectKind::SURFACE, ObjectKind::MSAA_SURFACE] {
            assert_eq!(made(kind), [101], "{kind:?}: a handle, then the resource");
        }
        assert_eq!((made(ObjectKind::STREAMOUT_TARGET), made(ObjectKind::QUERY)), (vec![101], vec![103]));
        assert_eq!(made(ObjectKind::SHADER), [0; 0]);
        for (verb, expected) in [
            (Verb::SET_VERTEX_BUFFERS, vec![102, 105, 108, 111]),
            (Verb::SET_INDEX_BUFFER, vec![100]),
            (Verb::SET_UNIFORM_BUFFER, vec![104]),
            (Verb::SET_SHADER_BUFFERS, vec![104, 107, 110]),
            (Verb::SET_SHADER_IMAGES, vec![106, 111]),
            (Verb::SET_ATOMIC_BUFFERS, vec![103, 106, 109, 112]),
            (Verb::RESOURCE_COPY_REGION, vec![]),
            (Verb::TRANSFER3D, vec![]),
            (Verb(48), words.clone()),
            (Verb(200), words.clone()),
        ] {
            assert_eq!(kept(verb, 0, &words), expected, "{verb:?}");
        }
        assert_eq!(kept(Verb::SET_UNIFORM_BUFFER, 0, &words[..3]), [0; 0], "cut short");
    }

    #[test]
    fn a_command_that_is_cut_short_ends_the_stream() {
        let stream = [head(Verb::NOP, 0, 0), head(Verb::DRAW_VBO, 0, 12), 1, 2];
        let mut commands = Commands::of(&stream);
        assert!(commands.next().unwrap().is_ok());
        assert_eq!(commands.next(), Some(Err(Malformed)));
        assert_eq!(commands.next(), None);
    }

    proptest! {
        // No file of failures: Miri has no folder.
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the words, the commands are parts of the stream, in order, without a gap.
        #[test]
        fn noise_is_survived(stream in prop::collection::vec(any::<u32>().prop_map(|it| it & 0x0007_ffff), 0..200)) {
            let mut seen = 0;
            for command in Commands::of(&stream) {
                let Ok(command) = command else { break };
                prop_assert_eq!(command.whole, &stream[seen..seen + command.whole.len()]);
                seen += command.whole.len();
            }
            prop_assert!(seen <= stream.len());
        }
    }
}
