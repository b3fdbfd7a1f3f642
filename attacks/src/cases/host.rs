//! Streams that the host renderer does not survive, or never gets done with.
//!
//! They cost the device that all share, so they are not among the other attacks: they run against a daemon of their own.
//! The victim may see its context lost, but nothing that is another's, and a file that is opened then works at once.

use std::thread;
use std::time::{Duration, Instant};

use virgld_protocol::channel::{KIND_IOCTL, NO_SLOT};
use virgld_protocol::client::{Execbuffer, Ioctl};
use zerocopy::IntoBytes;

use super::{Case, must};
use crate::drawing::{self, FRAGMENT, TRIANGLES, VERTEX, canvas, shader};
use crate::picture::{BYTES, Picture, UNTOUCHED, submit, wait};
use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("host-endless-shader", endless_shader),
    ("host-endless-draw", endless_draw),
    ("host-deep-shader", deep_shader),
    ("host-image-format", image_format),
    ("host-slow-progress", slow_progress),
];

/// How long a deadline and another device take, and then some.
const AFTERMATH: Duration = Duration::from_secs(8);
/// What the attacker's texture is full of.
const COLOUR: u8 = 0x44;
/// The simplest of all vertex shaders.
const STILL: &str =
    "VERT\nDCL OUT[0], POSITION\nIMM[0] FLT32 { 0.0, 0.0, 0.0, 1.0 }\n  0: MOV OUT[0], IMM[0]\n  1: END\n";
const BLACK: &str =
    "FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 { 0.0, 0.0, 0.0, 1.0 }\n  0: MOV OUT[0], IMM[0]\n  1: END\n";

/// Nested loops that count far, for a million vertices: llvmpipe breaks off loops, but only those of one vertex.
fn endless_shader(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const DEPTH: usize = 4;
    let mut body = String::new();
    for level in 0..DEPTH {
        body += &format!(
            "MOV TEMP[{level}].x, IMM[1].xxxx\nBGNLOOP\nUADD TEMP[{level}].x, TEMP[{level}].xxxx, IMM[1].yyyy\n\
             USGE TEMP[{level}].y, TEMP[{level}].xxxx, IMM[1].zzzz\nUIF TEMP[{level}].yyyy\nBRK\nENDIF\n\
             UMUL TEMP[9].x, TEMP[9].xxxx, IMM[1].wwww\nUADD TEMP[9].x, TEMP[9].xxxx, SV[0].xxxx\n"
        );
    }
    body += &"ENDLOOP\n".repeat(DEPTH);
    let text = format!(
        "VERT\nDCL SV[0], VERTEXID\nDCL OUT[0], POSITION\nDCL TEMP[0..9], LOCAL\n\
         IMM[0] FLT32 {{ 0.0, 0.0, 0.0, 1.0 }}\nIMM[1] UINT32 {{ 0, 1, 1073741824, 1664525 }}\n\
         MOV TEMP[9].x, SV[0].xxxx\n{body}MOV OUT[0], IMM[0]\nU2F OUT[0].x, TEMP[9].xxxx\nEND\n"
    );
    break_host(door, victim, &|target| draw(target, &text, 1 << 20, 1))
}

/// As many vertices, as often, as numbers go.
fn endless_draw(door: &Door, victim: &mut Victim) -> Outcome<String> {
    break_host(door, victim, &|target| draw(target, STILL, 0x7fff_fffd, 0x7fff_ffff))
}

/// Branches within branches: the host's compiler does not get done with them.
fn deep_shader(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const DEPTH: usize = 1000;
    // No other run's: one that some device did compile in the end is kept for those that come after it.
    let own = std::process::id();
    let text = format!(
        "VERT\nDCL SV[0], VERTEXID\nDCL OUT[0], POSITION\nDCL TEMP[0], LOCAL\nIMM[0] FLT32 {{ 0.0, {own}.0, 0.0, 1.0 }}\n\
         MOV TEMP[0], IMM[0]\n{}{}MOV OUT[0], TEMP[0]\nEND\n",
        "UIF SV[0].xxxx\nADD TEMP[0].x, TEMP[0].xxxx, IMM[0].wwww\n".repeat(DEPTH),
        "ENDIF\n".repeat(DEPTH)
    );
    break_host(door, victim, &|target| draw(target, &text, 3, 1))
}

/// The number of a format is an index to the renderer, and not every release compares it with its table's size.
fn image_format(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const SET_SHADER_IMAGES: u32 = 35;
    const NO_FORMAT: u32 = u32::MAX - 2;
    break_host(door, victim, &|own| vec![SET_SHADER_IMAGES | 7 << 16, FRAGMENT, 0, NO_FORMAT, 0, 0, 0, own])
}

/// Draws that take long, each well within a command's deadline, all of them together far beyond it.
fn slow_progress(door: &Door, victim: &mut Victim) -> Outcome<String> {
    const DRAWS: usize = 6;
    const PROBE: u32 = 1 << 20;
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    submit(&mut client, &draw(own.resource, STILL, 3, 1), own.handle)?;
    let begin = Instant::now();
    submit(&mut client, &draw(own.resource, STILL, PROBE, 1), own.handle)?;
    let second = Duration::from_secs(1).as_micros() / begin.elapsed().as_micros().max(1);
    let second = u32::try_from(second.max(1)).unwrap_or(u32::MAX);
    let stream = draw(own.resource, STILL, PROBE, second);
    let size = u32::try_from(size_of_val(&*stream)).unwrap_or(u32::MAX);
    let fixed = Execbuffer { size, num_bo_handles: 1, fence_fd: -1, ..Execbuffer::default() };
    let payload = [fixed.as_bytes(), stream.as_bytes(), [own.handle].as_bytes()].concat();
    let begin = Instant::now();
    for _ in 0..DRAWS {
        client.post(KIND_IOCTL, Execbuffer::TABLE.number, NO_SLOT, &payload, &[])?;
    }
    victim.check()?;
    let victims = begin.elapsed().as_secs_f32();
    let got = wait(&mut client, own.handle);
    let all = begin.elapsed().as_secs_f32();
    Ok(format!(
        "{DRAWS} slow draws took {all:.1} s ({got:?}); the victim's frame, right, came after {victims:.1} s"
    ))
}

/// Submits a stream that the host renderer may not come back from, and looks at what is left for the others.
fn break_host(door: &Door, victim: &mut Victim, stream: &dyn Fn(u32) -> Vec<u32>) -> Outcome<String> {
    let mut client = door.open()?;
    let own = Picture::new(&mut client, 0)?;
    own.upload(&mut client, &[COLOUR; BYTES])?;
    let begin = Instant::now();
    let got = submit(&mut client, &stream(own.resource), own.handle);
    let took = begin.elapsed().as_secs_f32();
    must("the attacker has no answer", matches!(got, Ok(()) | Err(Failed::Errno(_))))?;
    if victim.survives {
        // The next device may die too, of what the attacker's context is made anew from. What is under way then fails.
        thread::sleep(AFTERMATH);
    }
    let mut newcomer = Victim::new(door)?;
    newcomer.check()?;
    let texels = victim.picture.download(&mut victim.client)?;
    if texels == victim.texels {
        return Ok(format!("an answer after {took:.1} s; the victim keeps its context and its texture"));
    }
    must("the victim's context did not outlive the device", !victim.survives)?;
    must("the victim sees what is neither its own nor its memory", texels == [UNTOUCHED; BYTES])?;
    let again: Vec<u8> = victim.texels.clone();
    victim.picture.upload(&mut victim.client, &again)?;
    must("its memory is another's", victim.picture.read()? == again)?;
    *victim = newcomer;
    Ok(format!(
        "an answer after {took:.1} s; the victim's context is lost, its file and memory are not; new files draw"
    ))
}

/// A picture as the target, two shaders, one draw.
fn draw(target: u32, vertex: &str, count: u32, instances: u32) -> Vec<u32> {
    let mut stream = canvas(target);
    stream.extend(shader(6, VERTEX, vertex));
    stream.extend(shader(7, FRAGMENT, BLACK));
    stream.extend(drawing::draw(TRIANGLES, count, instances, false));
    stream
}
