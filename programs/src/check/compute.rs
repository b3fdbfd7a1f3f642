//! Compute shaders and shader storage.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::stop::{Stop, ensure};

pub(super) const CASES: &[Listed] = &[("compute", compute)];

const TRIANGULAR: &str = "#version 310 es
layout(local_size_x = 64) in;
layout(std430, binding = 0) readonly buffer Input { uint numbers[]; };
layout(std430, binding = 1) writeonly buffer Output { uint results[]; };
void main() {
    uint at = gl_GlobalInvocationID.x;
    results[at] = numbers[at] * (numbers[at] + 1u) / 2u + at;
}";

fn compute(stage: &Stage<'_>) -> Verdict {
    let gl = stage.gl();
    if !gl.is_es3(1) {
        return Err(Stop::skipped("no ES 3.1"));
    }
    let program = gl.create_program()?;
    gl.add_stage(program, glow::COMPUTE_SHADER, TRIANGULAR)?;
    gl.use_program(Some(gl.link(program)?));
    let numbers: Vec<u32> = (0..1024).map(|number| number * 3 % 1000).collect();
    let source: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
    let storage = glow::SHADER_STORAGE_BUFFER;
    let (input, output) = (gl.buffer(storage, &source)?, gl.buffer(storage, &[0; 4096])?);
    gl.bind_buffer_base(storage, 0, Some(input));
    gl.bind_buffer_base(storage, 1, Some(output));
    gl.dispatch_compute(16, 1, 1);
    gl.memory_barrier(glow::BUFFER_UPDATE_BARRIER_BIT);
    gl.bind_buffer(storage, Some(output));
    let seen = gl.map(storage, 0, 4096, glow::MAP_READ_BIT, |bytes| bytes.to_vec())?;
    let seen = seen.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
    for (at, (number, seen)) in (0..).zip(numbers.iter().zip(seen)) {
        let wanted = number * (number + 1) / 2 + at;
        ensure(seen == wanted, || format!("expected {wanted}, saw {seen}, at number {at}"))?;
    }
    Ok(())
}
