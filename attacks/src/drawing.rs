//! Command streams that draw: all that a shader, or what stands around one, can read or write by a resource's number.
//!
//! Where a stream reads, what it read ends in the target texture, byte for byte. Shaders are in TGSI's text form, as the
//! protocol wants them.

use crate::picture::{SIDE, clear};

/// Stages of shaders.
pub(crate) const VERTEX: u32 = 0;
pub(crate) const FRAGMENT: u32 = 1;
/// Bytes of the buffers that these streams use: as many as a picture has.
pub(crate) const BUFFER_BYTES: u32 = SIDE * SIDE * 4;

/// The numbers of what a client has, as streams name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) texture: u32,
    pub(crate) buffer: u32,
    /// A buffer whose memory is all that there is of it: the results of queries are written there.
    pub(crate) results: u32,
}

/// A way to use a resource: its name, and the stream that uses `theirs`, with the attacker's own where others are needed too.
pub(crate) type Way = (&'static str, fn(theirs: Numbers, own: Numbers) -> Vec<u32>);

/// Ways to get what is in a resource into one's own texture.
pub(crate) const READINGS: &[Way] = &[
    ("sampler view", sample),
    ("vertex buffer", vertices),
    ("index buffer", indices),
    ("uniform buffer", uniforms),
    ("storage buffer", |theirs, own| fill(own.texture, &storage(theirs.buffer), LOADING)),
    ("image", |theirs, own| fill(own.texture, &image(theirs.texture, READ), LOOKING)),
    ("blit", |theirs, own| blit(theirs.texture, own.texture)),
];

/// Ways to change a resource.
pub(crate) const WRITINGS: &[Way] = &[
    ("render target", |theirs, _| fill(theirs.texture, &[], WHITE)),
    ("storage buffer", |theirs, own| fill(own.texture, &storage(theirs.buffer), STORING)),
    ("image", |theirs, own| fill(own.texture, &image(theirs.texture, WRITE), PAINTING)),
    ("blit", |theirs, own| blit(own.texture, theirs.texture)),
    ("stream output", stream_output),
    ("query result", query_result),
    ("query buffer", query_buffer),
    ("clear of a texture", |theirs, _| clear_texture(theirs.texture)),
    ("copying transfer", |theirs, own| copying_transfer(own.texture, theirs.texture)),
    ("write into a buffer", |theirs, _| write_into(theirs.buffer)),
];

/// Makes the texture the target of what is drawn from here on. It is red then.
pub(crate) fn canvas(target: u32) -> Vec<u32> {
    let (half, one) = (16.0_f32.to_bits(), 1.0_f32.to_bits());
    const WRITE_ALL: u32 = 0xf << 27;
    const NEAREST_PIXEL: u32 = 1 << 1 | 1 << 29;
    let mut stream = clear(target, 1);
    stream.extend(command(4, 0, &[0, half, half, one, half, half, 0]));
    stream.extend(bound(BLEND, 2, &[0, 0, WRITE_ALL, 0, 0, 0, 0, 0, 0, 0]));
    stream.extend(bound(DEPTH, 3, &[0; 4]));
    stream.extend(bound(RASTERIZER, 4, &[NEAREST_PIXEL, one, 0, 0, one, 0, 0, 0]));
    stream.extend(bound(ELEMENTS, 5, &[]));
    stream
}

/// A shader, made and bound.
pub(crate) fn shader(handle: u32, stage: u32, text: &str) -> Vec<u32> {
    shader_with_output(handle, stage, text, &[0])
}

/// Draws so many vertices.
pub(crate) fn draw(mode: u32, count: u32, instances: u32, indexed: bool) -> Vec<u32> {
    command(8, 0, &[0, count, mode, indexed.into(), instances, 0, 0, 0, 0, 0, u32::MAX, 0])
}

/// Draws the texture, texel by texel, onto the target.
pub(crate) fn sample(theirs: Numbers, own: Numbers) -> Vec<u32> {
    const IN_ORDER: u32 = 1 << 3 | 2 << 6 | 3 << 9;
    let mut use_it = command(1, 6, &[10, theirs.texture, 1, 0, 0, IN_ORDER]);
    use_it.extend(command(10, 0, &[FRAGMENT, 0, 10]));
    use_it.extend(command(1, 7, &[11, 2 << 11, 0, 0, 0, 0, 0, 0, 0]));
    use_it.extend(command(18, 0, &[FRAGMENT, 0, 11]));
    fill(own.texture, &use_it, SAMPLING)
}

/// A triangle over the whole target, drawn by the fragment shader.
fn fill(target: u32, before: &[u32], fragment: &str) -> Vec<u32> {
    let mut stream = canvas(target);
    stream.extend(before);
    stream.extend(shader(6, VERTEX, WHOLE));
    stream.extend(shader(7, FRAGMENT, fragment));
    stream.extend(again());
    stream
}

/// Draws once more what [`sample`] drew, with all that it bound. Only the sampler is bound anew: virglrenderer takes its place
/// for itself where it puts texels into a texture.
pub(crate) fn again() -> Vec<u32> {
    [command(18, 0, &[FRAGMENT, 0, 11]), draw(TRIANGLES, 3, 1, false)].concat()
}

/// A point for each vertex of four bytes, in their colour.
fn vertices(theirs: Numbers, own: Numbers) -> Vec<u32> {
    const RGBA: u32 = 67;
    let mut stream = canvas(own.texture);
    stream.extend(bound(ELEMENTS, 12, &[0, 0, 0, RGBA]));
    stream.extend(command(6, 0, &[4, 0, theirs.buffer]));
    stream.extend(shader(6, VERTEX, COLOURED_POINTS));
    stream.extend(shader(7, FRAGMENT, COLOURED));
    stream.extend(draw(POINTS, SIDE * SIDE, 1, false));
    stream
}

/// A white point where each index of two bytes leads to.
fn indices(theirs: Numbers, own: Numbers) -> Vec<u32> {
    let mut stream = canvas(own.texture);
    stream.extend(command(11, 0, &[theirs.buffer, 2, 0]));
    stream.extend(shader(6, VERTEX, PLACED_POINTS));
    stream.extend(shader(7, FRAGMENT, WHITE));
    stream.extend(draw(POINTS, BUFFER_BYTES / 2, 1, true));
    stream
}

fn uniforms(theirs: Numbers, own: Numbers) -> Vec<u32> {
    fill(own.texture, &command(27, 0, &[FRAGMENT, 1, 0, BUFFER_BYTES, theirs.buffer]), READING_UNIFORMS)
}

fn storage(buffer: u32) -> Vec<u32> {
    command(34, 0, &[FRAGMENT, 0, 0, BUFFER_BYTES, buffer])
}

fn image(texture: u32, access: u32) -> Vec<u32> {
    const WORDS: u32 = 193; // R32_UINT
    command(35, 0, &[FRAGMENT, 0, WORDS, access, 0, 0, texture])
}

pub(crate) fn blit(from: u32, to: u32) -> Vec<u32> {
    const ALL_COLOURS: u32 = 0xf;
    let place = |texture| [texture, 0, 1, 0, 0, 0, SIDE, SIDE, 1];
    command(16, 0, &[&[ALL_COLOURS, 0, 0][..], &place(to), &place(from)].concat())
}

/// The places of points go into the buffer.
fn stream_output(theirs: Numbers, own: Numbers) -> Vec<u32> {
    let mut stream = canvas(own.texture);
    // One output: register 0, four components, to buffer 0.
    stream.extend(shader_with_output(6, VERTEX, PLACED_POINTS, &[1, 4, 0, 0, 0, 4 << 10, 0]));
    stream.extend(shader(7, FRAGMENT, WHITE));
    stream.extend(command(1, 10, &[13, theirs.buffer, 0, BUFFER_BYTES]));
    stream.extend(command(25, 0, &[0, 13]));
    stream.extend(draw(POINTS, 64, 1, false));
    stream.extend(command(25, 0, &[0]));
    stream
}

/// How much was drawn, to be written to the memory behind the buffer.
fn query_result(theirs: Numbers, own: Numbers) -> Vec<u32> {
    let mut stream = counted(theirs.results, own.texture);
    stream.extend(command(21, 0, &[14, 1]));
    stream
}

/// The same, to be written into the buffer by the host's own renderer.
fn query_buffer(theirs: Numbers, own: Numbers) -> Vec<u32> {
    let mut stream = counted(own.results, own.texture);
    stream.extend(command(42, 0, &[14, theirs.buffer, 1, 0, 0, 0]));
    stream
}

fn counted(result: u32, target: u32) -> Vec<u32> {
    let mut stream = command(1, 9, &[14, 0, 0, result]);
    stream.extend(command(19, 0, &[14]));
    stream.extend(fill(target, &[], WHITE));
    stream.extend(command(20, 0, &[14]));
    stream
}

fn clear_texture(texture: u32) -> Vec<u32> {
    command(47, 0, &[texture, 0, 0, 0, 0, SIDE, SIDE, 1, u32::MAX, u32::MAX, u32::MAX, u32::MAX])
}

fn copying_transfer(from: u32, to: u32) -> Vec<u32> {
    command(45, 0, &[to, 0, 0, SIDE * 4, 0, 0, 0, 0, SIDE, SIDE, 1, from, 0, 1])
}

fn write_into(buffer: u32) -> Vec<u32> {
    command(9, 0, &[buffer, 0, 0, 0, 0, 0, 0, 0, 16, 1, 1, 1, 2, 3, 4])
}

/// One command: its code, the kind of object that it is about, its words.
pub(crate) fn command(code: u32, kind: u32, words: &[u32]) -> Vec<u32> {
    let length = u32::try_from(words.len()).unwrap_or(u32::MAX);
    [&[code | kind << 8 | length << 16], words].concat()
}

/// An object, made and bound.
fn bound(kind: u32, handle: u32, words: &[u32]) -> Vec<u32> {
    let make = command(1, kind, &[&[handle], words].concat());
    [make, command(2, kind, &[handle])].concat()
}

fn shader_with_output(handle: u32, stage: u32, text: &str, output: &[u32]) -> Vec<u32> {
    /// How many tokens a shader has at most.
    const TOKENS: u32 = 1 << 16;
    const SHADER: u32 = 4;
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words = bytes.chunks_exact(4).map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]));
    let head = [&[handle, stage, length, TOKENS], output].concat();
    let make = command(1, SHADER, &head.into_iter().chain(words).collect::<Vec<_>>());
    [make, command(31, 0, &[handle, stage])].concat()
}

const BLEND: u32 = 1;
const RASTERIZER: u32 = 2;
const DEPTH: u32 = 3;
const ELEMENTS: u32 = 5;
const POINTS: u32 = 0;
pub(crate) const TRIANGLES: u32 = 4;
const READ: u32 = 1;
const WRITE: u32 = 2;

/// Three vertices around the target.
const WHOLE: &str = "VERT\nDCL SV[0], VERTEXID\nDCL OUT[0], POSITION\nDCL TEMP[0], LOCAL\n\
    IMM[0] FLT32 { 4.0, -1.0, 0.0, 1.0 }\nIMM[1] UINT32 { 1, 1, 0, 0 }\n\
    AND TEMP[0].x, SV[0].xxxx, IMM[1].xxxx\nUSHR TEMP[0].y, SV[0].xxxx, IMM[1].xxxx\n\
    U2F TEMP[0].xy, TEMP[0].xyyy\nMAD OUT[0].xy, TEMP[0].xyyy, IMM[0].xxxx, IMM[0].yyyy\n\
    MOV OUT[0].zw, IMM[0].zzzw\nEND\n";
/// Vertex n is in the middle of pixel n, in the colour whose bytes in memory are its own.
const COLOURED_POINTS: &str = "VERT\nDCL IN[0]\nDCL SV[0], VERTEXID\nDCL OUT[0], POSITION\nDCL OUT[1], GENERIC[0]\n\
    DCL TEMP[0], LOCAL\nIMM[0] FLT32 { 0.0625, -0.96875, 0.0, 1.0 }\nIMM[1] UINT32 { 31, 5, 0, 0 }\n\
    AND TEMP[0].x, SV[0].xxxx, IMM[1].xxxx\nUSHR TEMP[0].y, SV[0].xxxx, IMM[1].yyyy\n\
    AND TEMP[0].y, TEMP[0].yyyy, IMM[1].xxxx\nU2F TEMP[0].xy, TEMP[0].xyyy\n\
    MAD OUT[0].xy, TEMP[0].xyyy, IMM[0].xxxx, IMM[0].yyyy\nMOV OUT[0].zw, IMM[0].zzzw\n\
    MOV OUT[1], IN[0].zyxw\nEND\n";
/// The same without a colour.
const PLACED_POINTS: &str = "VERT\nDCL SV[0], VERTEXID\nDCL OUT[0], POSITION\n\
    DCL TEMP[0], LOCAL\nIMM[0] FLT32 { 0.0625, -0.96875, 0.0, 1.0 }\nIMM[1] UINT32 { 31, 5, 0, 0 }\n\
    AND TEMP[0].x, SV[0].xxxx, IMM[1].xxxx\nUSHR TEMP[0].y, SV[0].xxxx, IMM[1].yyyy\n\
    AND TEMP[0].y, TEMP[0].yyyy, IMM[1].xxxx\nU2F TEMP[0].xy, TEMP[0].xyyy\n\
    MAD OUT[0].xy, TEMP[0].xyyy, IMM[0].xxxx, IMM[0].yyyy\nMOV OUT[0].zw, IMM[0].zzzw\nEND\n";
const COLOURED: &str =
    "FRAG\nDCL IN[0], GENERIC[0], PERSPECTIVE\nDCL OUT[0], COLOR\nMOV OUT[0], IN[0]\nEND\n";
const WHITE: &str = "FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 { 1.0, 1.0, 1.0, 1.0 }\nMOV OUT[0], IMM[0]\nEND\n";
const SAMPLING: &str = "FRAG\nDCL IN[0], POSITION, LINEAR\nDCL OUT[0], COLOR\nDCL SAMP[0]\nDCL SVIEW[0], 2D, FLOAT\n\
    DCL TEMP[0], LOCAL\nIMM[0] UINT32 { 0, 0, 0, 0 }\nF2U TEMP[0].xy, IN[0].xyyy\nMOV TEMP[0].zw, IMM[0].xxxx\n\
    TXF OUT[0], TEMP[0], SAMP[0], 2D\nEND\n";
/// Column x shows word x of the row's part of the uniforms: the first of each four.
const READING_UNIFORMS: &str = "FRAG\nDCL IN[0], POSITION, LINEAR\nDCL OUT[0], COLOR\nDCL CONST[1][0..255]\n\
    DCL TEMP[0..1], LOCAL\nDCL ADDR[0]\nIMM[0] UINT32 { 16, 8, 0, 24 }\nIMM[1] UINT32 { 255, 8, 2, 0 }\n\
    IMM[2] FLT32 { 0.00392156863, 0.0, 0.0, 0.0 }\nF2U TEMP[0].xy, IN[0].xyyy\n\
    USHR TEMP[0].x, TEMP[0].xxxx, IMM[1].zzzz\nUMAD TEMP[0].x, TEMP[0].yyyy, IMM[1].yyyy, TEMP[0].xxxx\n\
    UARL ADDR[0].x, TEMP[0].xxxx\nMOV TEMP[1].x, CONST[1][ADDR[0].x].xxxx\n\
    USHR TEMP[1], TEMP[1].xxxx, IMM[0]\nAND TEMP[1], TEMP[1], IMM[1].xxxx\nU2F TEMP[1], TEMP[1]\n\
    MUL OUT[0], TEMP[1], IMM[2].xxxx\nEND\n";
/// Pixel n shows word n of the buffer.
const LOADING: &str = "FRAG\nDCL IN[0], POSITION, LINEAR\nDCL OUT[0], COLOR\nDCL BUFFER[0]\nDCL TEMP[0..1], LOCAL\n\
    IMM[0] UINT32 { 16, 8, 0, 24 }\nIMM[1] UINT32 { 255, 4, 128, 0 }\nIMM[2] FLT32 { 0.00392156863, 0.0, 0.0, 0.0 }\n\
    F2U TEMP[0].xy, IN[0].xyyy\nUMUL TEMP[0].x, TEMP[0].xxxx, IMM[1].yyyy\n\
    UMAD TEMP[0].x, TEMP[0].yyyy, IMM[1].zzzz, TEMP[0].xxxx\nLOAD TEMP[1].x, BUFFER[0], TEMP[0].xxxx\n\
    USHR TEMP[1], TEMP[1].xxxx, IMM[0]\nAND TEMP[1], TEMP[1], IMM[1].xxxx\nU2F TEMP[1], TEMP[1]\n\
    MUL OUT[0], TEMP[1], IMM[2].xxxx\nEND\n";
/// Pixel n stores n where its word is.
const STORING: &str = "FRAG\nDCL IN[0], POSITION, LINEAR\nDCL OUT[0], COLOR\nDCL BUFFER[0]\nDCL TEMP[0], LOCAL\n\
    IMM[0] UINT32 { 4, 128, 0, 0 }\nIMM[1] FLT32 { 1.0, 1.0, 1.0, 1.0 }\nF2U TEMP[0].xy, IN[0].xyyy\n\
    UMUL TEMP[0].x, TEMP[0].xxxx, IMM[0].xxxx\nUMAD TEMP[0].x, TEMP[0].yyyy, IMM[0].yyyy, TEMP[0].xxxx\n\
    STORE BUFFER[0].x, TEMP[0].xxxx, TEMP[0].xxxx\nMOV OUT[0], IMM[1]\nEND\n";
/// Each pixel shows the image's word at its place, whose bytes are red, green, blue and alpha.
const LOOKING: &str = "FRAG\nDCL IN[0], POSITION, LINEAR\nDCL OUT[0], COLOR\nDCL IMAGE[0], 2D, PIPE_FORMAT_R32_UINT\n\
    DCL TEMP[0..1], LOCAL\nIMM[0] UINT32 { 0, 8, 16, 24 }\nIMM[1] UINT32 { 255, 0, 0, 0 }\n\
    IMM[2] FLT32 { 0.00392156863, 0.0, 0.0, 0.0 }\nF2U TEMP[0].xy, IN[0].xyyy\n\
    LOAD TEMP[1], IMAGE[0], TEMP[0], 2D, PIPE_FORMAT_R32_UINT\nUSHR TEMP[1], TEMP[1].xxxx, IMM[0]\n\
    AND TEMP[1], TEMP[1], IMM[1].xxxx\nU2F TEMP[1], TEMP[1]\nMUL OUT[0], TEMP[1], IMM[2].xxxx\nEND\n";
const PAINTING: &str = "FRAG\nDCL IN[0], POSITION, LINEAR\nDCL OUT[0], COLOR\nDCL IMAGE[0], 2D, PIPE_FORMAT_R32_UINT, WR\n\
    DCL TEMP[0], LOCAL\nIMM[0] FLT32 { 1.0, 1.0, 1.0, 1.0 }\nF2U TEMP[0].xy, IN[0].xyyy\n\
    STORE IMAGE[0], TEMP[0], TEMP[0], 2D, PIPE_FORMAT_R32_UINT\nMOV OUT[0], IMM[0]\nEND\n";
