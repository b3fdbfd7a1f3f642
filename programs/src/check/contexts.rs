//! Several contexts: beside each other, on threads, sharing, and many in turn.

use std::thread;

use super::stage::Stage;
use super::{Listed, Verdict};
use crate::canvas::{COVER, Canvas, FILL, clear, fill, sampled};
use crate::egl::{Context, Display, ShareToken};
use crate::gl::{Layout, Region};
use crate::picture::{Picture, color, pattern};
use crate::stop::Stop;

pub(super) const CASES: &[Listed] = &[
    ("contexts-interleaved", interleaved),
    ("contexts-threads", threads),
    ("contexts-shared", shared),
    ("contexts-shared-threads", shared_threads),
    ("contexts-churn", churn),
];

fn shade(number: u8) -> [f32; 4] {
    [f32::from(number % 5) / 4.0, f32::from(number % 3) / 2.0, f32::from(number) / 255.0, 1.0]
}

/// Four contexts take turns on one thread, each with a picture and state of its own.
fn interleaved(stage: &Stage<'_>) -> Verdict {
    let contexts = (0..4).map(|_| stage.display().context()).collect::<Verdict<Vec<Context<'_>>>>()?;
    let mut canvases = Vec::new();
    for context in &contexts {
        context.activate()?;
        canvases.push(Canvas::new(context.gl(), 24, 24)?);
    }
    for round in 0..8u8 {
        for (number, context) in (0..4).zip(&contexts) {
            context.activate()?;
            clear(context.gl(), shade(round * 16 + number));
        }
        for ((number, context), canvas) in (0..4).zip(&contexts).zip(&canvases) {
            context.activate()?;
            let wanted = color(shade(round * 16 + number));
            canvas.picture(context.gl()).expect_plain(1, wanted)?;
        }
    }
    contexts.iter().try_for_each(|context| context.activate().and_then(|()| context.gl().check()))
}

fn threads(stage: &Stage<'_>) -> Verdict {
    let display = stage.display();
    join(&[1, 2].map(|number| move || draw_rounds(display, number)))
}

/// Runs each job on a thread of its own and gives the first complaint.
fn join(jobs: &[impl Fn() -> Verdict + Sync]) -> Verdict {
    thread::scope(|scope| {
        let handles: Vec<_> = jobs.iter().map(|job| scope.spawn(job)).collect();
        let mut outcome = Ok(());
        for handle in handles {
            let ended = handle.join().unwrap_or_else(|_| Err(Stop::failed("a thread panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    })
}

fn draw_rounds(display: &Display, number: u8) -> Verdict {
    let context = display.context()?;
    let gl = context.gl();
    let (canvas, program) = (Canvas::new(gl, 50, 50)?, gl.program(COVER, FILL)?);
    for round in 0..50 {
        let wanted = shade(round * 5 + number);
        fill(gl, program, wanted);
        canvas.picture(gl).expect_plain(1, color(wanted))?;
    }
    gl.check()
}

/// A texture made in one context is seen in another; a change made there is seen in the first.
fn shared(stage: &Stage<'_>) -> Verdict {
    let first = stage.context();
    let texture = first.gl().texture(1, 30, 20)?;
    let picture = Picture::compute(30, 20, pattern);
    first.gl().upload(0, Region::size(30, 20), Layout::RGBA8, picture.bytes());
    first.gl().finish();

    let second = first.sharing()?;
    sampled(second.gl(), texture, 0, (30, 20))?.expect(0, pattern)?;
    Canvas::around(second.gl(), texture, 30, 20)?;
    clear(second.gl(), [1.0, 0.0, 1.0, 1.0]);
    second.gl().finish();
    second.gl().check()?;
    drop(second);

    first.activate()?;
    sampled(first.gl(), texture, 0, (30, 20))?.expect_plain(0, [255, 0, 255, 255])
}

/// Two threads upload, a third reads what they made once they are done.
fn shared_threads(stage: &Stage<'_>) -> Verdict {
    let (context, token) = (stage.context(), stage.context().share_token());
    let textures = [0, 100].map(|_| context.gl().texture(1, 64, 64));
    let [first, second] = textures;
    let textures = [(first?, 0), (second?, 100)];
    context.gl().finish();
    join(&textures.map(|(texture, shift)| move || upload_shared(token, texture, shift)))?;
    for (texture, shift) in textures {
        let seen = sampled(context.gl(), texture, 0, (64, 64))?;
        seen.expect(0, |x, y| pattern(x + shift, y))?;
    }
    Ok(())
}

fn upload_shared(token: ShareToken<'_>, texture: crate::gl::Texture, shift: i32) -> Verdict {
    let context = token.context()?;
    let gl = context.gl();
    gl.bind_texture(glow::TEXTURE_2D, Some(texture));
    for round in (0..20).rev() {
        let picture = Picture::compute(64, 64, |x, y| pattern(x + shift, y + round));
        gl.upload(0, Region::size(64, 64), Layout::RGBA8, picture.bytes());
    }
    gl.finish();
    gl.check()
}

/// Contexts come and go, fifty times, each with a picture.
fn churn(stage: &Stage<'_>) -> Verdict {
    for round in 0..50 {
        let context = stage.display().context()?;
        let canvas = Canvas::new(context.gl(), 16, 16)?;
        clear(context.gl(), shade(round));
        let seen = canvas.picture(context.gl()).expect_plain(1, color(shade(round)));
        seen.map_err(|stop| Stop::failed(format!("context {round}: {stop}")))?;
    }
    Ok(())
}
