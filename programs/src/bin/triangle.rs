//! The demonstration's picture: a lit scene, drawn off screen.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use virgld_programs::egl::Display;
use virgld_programs::gl::{Gl, Sync};
use virgld_programs::scene::{Scene, names};
use virgld_programs::stop::{Verdict, ensure};

/// Draws a scene off screen, says with what and how fast, and keeps the last frame as a PNG.
#[derive(Parser)]
struct Options {
    /// How many frames to draw; the last one is the picture.
    #[arg(long, default_value_t = 120)]
    frames: u32,
    /// Draw for so many seconds, however many frames that makes.
    #[arg(long)]
    seconds: Option<f64>,
    /// Width and height in pixels.
    #[arg(long, default_value = "640x480", value_parser = parse_size)]
    size: (i32, i32),
    /// What to draw.
    #[arg(long, default_value = names()[0], value_parser = names())]
    scene: String,
    /// A line of text in the picture.
    #[arg(long)]
    label: Option<String>,
    /// Where to keep the last frame.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
}

fn parse_size(text: &str) -> Result<(i32, i32), String> {
    let (width, height) = text.split_once('x').ok_or("expected WIDTHxHEIGHT")?;
    let side = |text: &str| match text.parse() {
        Ok(side @ 1..=8192) => Ok(side),
        _ => Err(format!("{text} is not from 1 to 8192")),
    };
    Ok((side(width)?, side(height)?))
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            println!("FAIL triangle: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Verdict {
    let display = Display::surfaceless()?;
    let context = display.context()?;
    let gl = context.gl();
    println!("renderer: {}", gl.renderer());
    let scene = Scene::new(&context, &options.scene, options.size, options.label.as_deref())?;
    // The first frame compiles shaders, so it is no measure.
    scene.draw(0.0);
    gl.finish();

    let start = Instant::now();
    let limit = options.seconds.map(Duration::from_secs_f64);
    let mut frames = 0;
    let mut before = None;
    while limit.map_or(frames < options.frames, |limit| start.elapsed() < limit) {
        scene.draw(moment(frames));
        frames += 1;
        // As with a window of two buffers: one frame is drawn while another is made.
        let fence = gl.fence_sync(glow::SYNC_GPU_COMMANDS_COMPLETE, 0)?;
        if let Some(before) = before.replace(fence) {
            wait(gl, before)?;
        }
    }
    gl.finish();
    let elapsed = start.elapsed();
    println!("frames: {frames}");
    println!("fps: {:.1}", f64::from(frames) / elapsed.as_secs_f64());
    if let Some(path) = &options.png {
        scene.picture().write(path, options.label.as_deref())?;
    }
    gl.check()
}

/// Frames are a sixtieth of a second apart, however long they take, so that pictures can be compared.
#[allow(clippy::cast_precision_loss, reason = "the moment repeats long before precision is lost")]
fn moment(frame: u32) -> f32 {
    frame as f32 / 60.0
}

/// A frame may take long where the device was lost and another has to compile all shaders again.
fn wait(gl: &Gl, fence: Sync) -> Verdict {
    const TWO_SECONDS: i32 = i32::MAX;
    let mut answer = glow::TIMEOUT_EXPIRED;
    for _ in 0..20 {
        answer = gl.client_wait_sync(fence, glow::SYNC_FLUSH_COMMANDS_BIT, TWO_SECONDS);
        if answer != glow::TIMEOUT_EXPIRED {
            break;
        }
    }
    gl.delete_sync(fence);
    let done = [glow::ALREADY_SIGNALED, glow::CONDITION_SATISFIED].contains(&answer);
    ensure(done, || format!("expected the frame to be done within 40 seconds, saw {answer:#06x}"))
}
