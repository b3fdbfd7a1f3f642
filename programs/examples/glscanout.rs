//! Shows on the card what GL draws: frames of a scene in GBM buffers, flipped by the `drm` crate, and what GL reads of the
//! last one, to be compared with what is on the screen.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use drm::buffer::{self, DrmFourcc};
use drm::control::{Device as _, PageFlipFlags, framebuffer};
use virgld_programs::canvas::read_picture;
use virgld_programs::egl::Display;
use virgld_programs::gbm::{self, XRGB8888};
use virgld_programs::scene::{Scene, names};
use virgld_programs::stop::{Stop, Verdict};

use card::{Card, Screen};

mod card;

/// Draws a scene on the screen, and shows the last frame until its input ends.
#[derive(Parser)]
struct Options {
    /// The node.
    #[arg(long, default_value = "/dev/dri/card0")]
    node: PathBuf,
    /// How many frames to draw.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    frames: u16,
    /// What to draw.
    #[arg(long, default_value = names()[0], value_parser = names())]
    scene: String,
    /// Where to write what GL reads of the last frame.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            println!("FAIL glscanout: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Verdict {
    let card = Card::open(&options.node)?;
    let screen = Screen::find(&card)?;
    let (width, height) = screen.mode.size();
    // GL and mode setting by the same open file, as compositors have it.
    let display = Display::on(card.as_fd().try_clone_to_owned()?)?;
    let device = display.gbm().ok_or_else(|| Stop::failed("no GBM device"))?;
    let native = device.screen_surface(width.into(), height.into(), XRGB8888)?;
    let window = display.window(&native, XRGB8888)?;
    let context = display.context()?;
    context.activate_on(&window)?;
    let gl = context.gl();
    println!("renderer: {}; {width}x{height}", gl.renderer());
    let scene = Scene::new(&context, &options.scene, (width.into(), height.into()), None)?;
    let mut shown: Option<(gbm::Buffer<'_>, framebuffer::Handle)> = None;
    for frame in 1..=options.frames {
        scene.draw(f32::from(frame) / 60.0);
        scene.show();
        if let Some(path) = options.png.as_ref().filter(|_| frame == options.frames) {
            gl.bind_framebuffer(glow::READ_FRAMEBUFFER, None);
            read_picture(gl, width.into(), height.into()).write(path, None)?;
        }
        gl.check()?;
        window.swap()?;
        let front = native.front()?;
        let framebuffer = Front::of(&card, &front)?.framebuffer(&card)?;
        if let Some((before, old)) = shown.take() {
            card.page_flip(screen.crtc, framebuffer, PageFlipFlags::EVENT, None)?;
            card.wait_for_flip(screen.crtc)?;
            card.destroy_framebuffer(old)?;
            drop(before);
        } else {
            let connectors = [screen.connector];
            card.set_crtc(screen.crtc, Some(framebuffer), (0, 0), &connectors, Some(screen.mode))?;
        }
        shown = Some((front, framebuffer));
    }
    println!("shown: frame {}", options.frames);
    io::stdin().read_to_end(&mut Vec::new())?;
    card.set_crtc(screen.crtc, None, (0, 0), &[], None)?;
    shown.map_or(Ok(()), |(_, framebuffer)| Ok(card.destroy_framebuffer(framebuffer)?))
}

/// A GBM buffer as the card knows it. Its handle is GBM's too, so it is not closed here.
struct Front {
    size: (u32, u32),
    pitch: u32,
    handle: buffer::Handle,
}

impl Front {
    fn of(card: &Card, front: &gbm::Buffer<'_>) -> Verdict<Self> {
        let dmabuf = front.export()?;
        let descriptor: &OwnedFd = &dmabuf.fd;
        let handle = card.prime_fd_to_buffer(descriptor.as_fd())?;
        let shape = dmabuf.shape;
        Ok(Self { size: (shape.width, shape.height), pitch: shape.stride, handle })
    }

    fn framebuffer(&self, card: &Card) -> Verdict<framebuffer::Handle> {
        Ok(card.add_framebuffer(self, 24, 32)?)
    }
}

impl buffer::Buffer for Front {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn format(&self) -> DrmFourcc {
        DrmFourcc::Xrgb8888
    }

    fn pitch(&self) -> u32 {
        self.pitch
    }

    fn handle(&self) -> buffer::Handle {
        self.handle
    }
}
