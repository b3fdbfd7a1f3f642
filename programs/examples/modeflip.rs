//! Sets a mode with dumb buffers and flips between them, by the `drm` crate: a client that shares no line of C with
//! Mesa or libdrm.
//!
//! The crate makes its calls through `rustix`, which asks the kernel without the C library unless its feature `use-libc`
//! is on. A preloaded library sees only what goes through the C library; so this example turns the feature on.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use drm::buffer::{Buffer, DrmFourcc};
use drm::control::dumbbuffer::DumbBuffer;
use drm::control::{Device as _, Mode, PageFlipFlags, framebuffer};
use drm::{Device as _, DriverCapability};
use virgld_programs::pace::{Shown, in_order, pace};
use virgld_programs::picture::{Picture, low_byte};
use virgld_programs::stop::{Verdict, ensure};

use card::{Card, Screen};

mod card;

/// Sets a mode, flips, says how fast, and shows the last frame until its input ends.
#[derive(Parser)]
struct Options {
    /// The node.
    #[arg(long, default_value = "/dev/dri/card0")]
    node: PathBuf,
    /// How many times to flip; each flip shows a frame of its own.
    #[arg(long, default_value_t = 60)]
    flips: u32,
    /// How many times to flip after that without waiting for a refresh.
    #[arg(long, default_value_t = 30)]
    torn: u32,
    /// Where to write what must be on the screen in the end.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Do not fail where flips are not at the mode's pace: for machines that are emulated.
    #[arg(long)]
    any_pace: bool,
    /// Show a pointer as well, and move it to this place: its upper left corner.
    #[arg(long, value_name = "X,Y", value_parser = place)]
    pointer: Option<(i32, i32)>,
    /// End at once, without waiting for the end of the input.
    #[arg(long)]
    leave: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            println!("FAIL modeflip: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Verdict {
    let card = Card::open(&options.node)?;
    let driver = card.get_driver()?;
    let screen = Screen::find(&card)?;
    let (width, height) = screen.mode.size();
    let refresh = refresh_of(&screen.mode);
    println!("driver: {}; mode: {width}x{height} at {refresh:.2} Hz", driver.name().display());
    let mut frames = [Frame::new(&card, screen.mode)?, Frame::new(&card, screen.mode)?];
    frames[0].draw(&card, 0, WHOLE)?;
    let connectors = [screen.connector];
    card.set_crtc(screen.crtc, Some(frames[0].framebuffer), (0, 0), &connectors, Some(screen.mode))?;
    let last = flip(&card, &screen, &mut frames, options, refresh)?;
    let last = flip_at_once(last + 1, &card, &screen, &mut frames, options.torn)?;
    if let Some(path) = &options.png {
        let shape = (i32::from(width), i32::from(height));
        let picture = Picture::compute(shape.0, shape.1, |x, y| {
            let [r, g, b] = color(x, shape.1 - 1 - y, last);
            [r, g, b, 255]
        });
        picture.write(path, None)?;
    }
    let pointer = options.pointer.map(|place| point(&card, &screen, place)).transpose()?;
    println!("shown: frame {last}");
    if !options.leave {
        io::stdin().read_to_end(&mut Vec::new())?;
    }
    card.set_crtc(screen.crtc, None, (0, 0), &[], None)?;
    pointer.map(|image| card.destroy_dumb_buffer(image)).transpose()?;
    frames.into_iter().try_for_each(|frame| frame.give_back(&card))
}

/// Flips as often as it is told, and again if that was not at the mode's pace: whoever waits on a busy machine hears late.
/// Says how many flips there were.
fn flip(
    card: &Card,
    screen: &Screen,
    frames: &mut [Frame; 2],
    options: &Options,
    refresh: f64,
) -> Verdict<u32> {
    let flips = options.flips;
    let mut failure = None;
    for attempt in 0..ATTEMPTS {
        let shown = flips_from(attempt * flips + 1, card, screen, frames, flips, PageFlipFlags::EVENT)?;
        in_order(&shown)?;
        match pace(&shown, refresh) {
            Ok(pace) => {
                println!(
                    "flips: {flips}, {:.2} a second at {:.2} refreshes a second; events come after {:?}",
                    pace.flips, pace.refreshes, pace.lateness
                );
                return Ok((attempt + 1) * flips);
            }
            Err(stop) => {
                println!("attempt {}: {stop}", attempt + 1);
                if options.any_pace {
                    return Ok((attempt + 1) * flips);
                }
                failure = Some(stop);
            }
        }
    }
    failure.map_or(Ok(0), Err)
}

fn flips_from(
    first: u32,
    card: &Card,
    screen: &Screen,
    frames: &mut [Frame; 2],
    flips: u32,
    flags: PageFlipFlags,
) -> Verdict<Vec<Shown>> {
    let mut shown = Vec::new();
    for number in first..first + flips {
        let next = &mut frames[number as usize % 2];
        // So that drawing does not set the pace; the last frame is the one to be looked at.
        next.draw(card, number, if number + 1 == first + flips { WHOLE } else { SOME })?;
        card.page_flip(screen.crtc, next.framebuffer, flags, None)?;
        let again = card.page_flip(screen.crtc, next.framebuffer, flags, None);
        let busy = again.as_ref().err().and_then(io::Error::raw_os_error) == Some(EBUSY);
        shown.push(card.wait_for_flip(screen.crtc)?);
        // A flip may be over before the second is asked; then both happen.
        match again {
            Ok(()) => drop(card.wait_for_flip(screen.crtc)?),
            Err(error) => ensure(busy, || format!("a second flip before the first was over: {error}"))?,
        }
    }
    Ok(shown)
}

/// Flips that wait for no refresh. Says which frame is the last.
fn flip_at_once(
    first: u32,
    card: &Card,
    screen: &Screen,
    frames: &mut [Frame; 2],
    flips: u32,
) -> Verdict<u32> {
    let able = card.get_driver_capability(DriverCapability::ASyncPageFlip)?;
    ensure(able == 1, || format!("the driver has no asynchronous flips: {able}"))?;
    let begin = Instant::now();
    let flags = PageFlipFlags::EVENT | PageFlipFlags::ASYNC;
    let shown = flips_from(first, card, screen, frames, flips, flags)?;
    let refreshes = shown.first().zip(shown.last()).map_or(0, |(first, last)| last.refresh - first.refresh);
    println!("asynchronous flips: {flips} in {:?} and {refreshes} refreshes", begin.elapsed());
    Ok(first + flips - 1)
}

/// A buffer that can be shown.
struct Frame {
    buffer: DumbBuffer,
    framebuffer: framebuffer::Handle,
}

impl Frame {
    fn new(card: &Card, mode: Mode) -> Verdict<Self> {
        let (width, height) = mode.size();
        let buffer = card.create_dumb_buffer((width.into(), height.into()), DrmFourcc::Xrgb8888, 32)?;
        let framebuffer = card.add_framebuffer(&buffer, 24, 32)?;
        Ok(Self { buffer, framebuffer })
    }

    /// Draws the upper `rows`.
    fn draw(&mut self, card: &Card, number: u32, rows: usize) -> Verdict {
        let (pitch, (width, _)) = (self.buffer.pitch() as usize, self.buffer.size());
        let mut mapping = card.map_dumb_buffer(&mut self.buffer)?;
        for (y, row) in (0..).zip(mapping.as_mut().chunks_exact_mut(pitch).take(rows)) {
            for (x, pixel) in (0..).zip(row.as_chunks_mut::<4>().0.iter_mut().take(width as usize)) {
                let [r, g, b] = color(x, y, number);
                *pixel = [b, g, r, 0];
            }
        }
        Ok(())
    }

    fn give_back(self, card: &Card) -> Verdict {
        card.destroy_framebuffer(self.framebuffer)?;
        Ok(card.destroy_dumb_buffer(self.buffer)?)
    }
}

/// Shows a pointer and moves it to its place, step by step.
#[expect(deprecated, reason = "compositors without atomic mode setting make these calls")]
fn point(card: &Card, screen: &Screen, (x, y): (i32, i32)) -> Verdict<DumbBuffer> {
    const SIDE: u32 = 64;
    const STEPS: i32 = 20;
    let mut image = card.create_dumb_buffer((SIDE, SIDE), DrmFourcc::Argb8888, 32)?;
    // Blue, green, red, alpha.
    card.map_dumb_buffer(&mut image)?.as_mut().as_chunks_mut::<4>().0.fill([0x10, 0x80, 0xf0, 0xff]);
    card.set_cursor(screen.crtc, Some(&image))?;
    (0..=STEPS).try_for_each(|step| card.move_cursor(screen.crtc, (x * step / STEPS, y * step / STEPS)))?;
    Ok(image)
}

fn place(text: &str) -> Result<(i32, i32), String> {
    let pair = text.split_once(',').and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)));
    pair.ok_or_else(|| "expected two numbers with a comma between them".into())
}

/// A pattern in which each row, column and frame is told from its neighbours, and that has no symmetry.
fn color(x: i32, y: i32, frame: u32) -> [u8; 3] {
    let frame = i32::try_from(frame % 251).unwrap_or(0);
    [low_byte(x + frame), low_byte(y * 3), low_byte((x / 16 * 40) ^ (y / 16 * 24))]
}

/// Refreshes a second, of which the mode's own figure is rounded.
fn refresh_of(mode: &Mode) -> f64 {
    let (_, _, width) = mode.hsync();
    let (_, _, height) = mode.vsync();
    f64::from(mode.clock()) * 1000.0 / (f64::from(width) * f64::from(height))
}

const WHOLE: usize = usize::MAX;
const SOME: usize = 32;
const EBUSY: i32 = 16;
/// How often the pace is looked at before it counts as wrong.
const ATTEMPTS: u32 = 5;
