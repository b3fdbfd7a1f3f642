//! Occlusion queries and fences of GL itself.

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, FILL, clear, fill};
use crate::gl::{Gl, Query};
use crate::stop::{Stop, ensure};

pub(super) const CASES: &[Listed] =
    &[("occlusion-query", occlusion), ("fence-sync", fence), ("fence-many", many_fences)];

const SAMPLES: u32 = glow::ANY_SAMPLES_PASSED;

/// True when something was seen, false when the depth test or the scissor hid all.
fn occlusion(stage: &Stage<'_>) -> Verdict {
    let (gl, _canvas) = (stage.gl(), stage.canvas(32, 32)?);
    let program = gl.program(COVER, FILL)?;
    gl.enable(glow::DEPTH_TEST);
    clear(gl, [0.0; 4]);
    let asked = |depth: f32, function: u32| -> Verdict<Query> {
        let query = gl.create_query()?;
        gl.clear_depth_f32(depth);
        gl.clear(glow::DEPTH_BUFFER_BIT);
        gl.depth_func(function);
        gl.begin_query(SAMPLES, query);
        fill(gl, program, [1.0; 4]);
        gl.end_query(SAMPLES);
        Ok(query)
    };
    let queries = [
        (asked(1.0, glow::LESS)?, true),
        (asked(0.1, glow::LESS)?, false),
        (asked(0.1, glow::GREATER)?, true),
        (asked(1.0, glow::NEVER)?, false),
    ];
    for (number, (query, wanted)) in queries.into_iter().enumerate() {
        let seen = gl.get_query_parameter_u32(query, glow::QUERY_RESULT) != 0;
        ensure(seen == wanted, || format!("query {number}: expected {wanted}, saw {seen}"))?;
        gl.delete_query(query);
    }
    Ok(())
}

fn fence(stage: &Stage<'_>) -> Verdict {
    let (gl, canvas) = (stage.gl(), stage.canvas(256, 256)?);
    clear(gl, [0.0, 1.0, 0.0, 1.0]);
    wait(gl)?;
    canvas.picture(gl).expect_plain(0, [0, 255, 0, 255])
}

/// Many fences in flight, waited for newest first.
fn many_fences(stage: &Stage<'_>) -> Verdict {
    let (gl, _canvas) = (stage.gl(), stage.canvas(64, 64)?);
    let mut fences = Vec::new();
    for step in 0..100u8 {
        clear(gl, [f32::from(step) / 100.0, 0.0, 0.0, 1.0]);
        fences.push(gl.fence_sync(glow::SYNC_GPU_COMMANDS_COMPLETE, 0)?);
        gl.flush();
    }
    for fence in fences.into_iter().rev() {
        signalled(gl.client_wait_sync(fence, 0, 1_000_000_000))?;
        gl.delete_sync(fence);
    }
    Ok(())
}

fn wait(gl: &Gl) -> Verdict {
    let fence = gl.fence_sync(glow::SYNC_GPU_COMMANDS_COMPLETE, 0)?;
    signalled(gl.client_wait_sync(fence, glow::SYNC_FLUSH_COMMANDS_BIT, 2_000_000_000))?;
    // A fence that was signalled stays so.
    let again = gl.client_wait_sync(fence, 0, 0);
    ensure(again == glow::ALREADY_SIGNALED, || format!("expected ALREADY_SIGNALED, saw {again:#06x}"))?;
    gl.delete_sync(fence);
    Ok(())
}

fn signalled(answer: u32) -> Verdict {
    match answer {
        glow::ALREADY_SIGNALED | glow::CONDITION_SATISFIED => Ok(()),
        other => Err(Stop::failed(format!("expected a signalled fence, saw {other:#06x}"))),
    }
}
