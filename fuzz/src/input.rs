//! Bytes, read as choices.

/// Choices that bytes make. When they are used up, every choice is the first, so that any bytes are an input and a
/// beginning of them is one too.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The choices that these bytes make.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether any choice is left.
    pub fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Up to so many of the next bytes.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True so many times in 256.
    pub fn chance(&mut self, of_256: u8) -> bool {
        let byte = self.byte();
        byte != 0 && byte <= of_256
    }

    /// One of `items`, if there is any.
    pub fn pick<'b, T>(&mut self, items: &'b [T]) -> Option<&'b T> {
        if items.is_empty() { None } else { items.get(self.below(items.len())) }
    }

    /// A number: mostly small, sometimes where things overflow, now and then any.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..=0xbf => u32::from(small),
            edge @ 0xc0..=0xef => EDGES[usize::from(edge) % EDGES.len()],
            _ => u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }

    /// The same with twice as many bits.
    pub fn long(&mut self) -> u64 {
        let low = u64::from(self.number());
        if self.chance(64) { low | u64::from(self.number()) << 32 } else { low }
    }

    /// A number of two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }
}

const EDGES: [u32; 12] = [
    0xff,
    0x100,
    0x1000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
    u32::MAX - 1,
    0xffff_f000,
    0x10_0000,
    0x1001,
];
