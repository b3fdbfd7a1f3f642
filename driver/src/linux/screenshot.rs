//! `virgld screenshot`.

use std::fs::File;
use std::io::{BufWriter, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use png::Compression;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::Error;
use super::command_line::{Meeting, Screenshot};
use super::directory::PICTURE;
use super::pictures::{Album, Shape};

/// A picture, or none of a screen that is off.
pub(super) type Shot = Option<(Shape, Vec<u8>)>;

/// Writes what is on a screen to a file.
pub(crate) fn screenshot(options: &Screenshot) -> Result<(), Error> {
    let shot = take(&options.meeting, options.output, options.sent)?;
    let (shape, pixels) = shot.ok_or_else(|| format!("screen {} is off", options.output))?;
    let path = &options.file;
    let file = File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    encode(BufWriter::new(file), &shape, &pixels, Compression::Balanced)
}

/// What is on a screen, if it is on: blue, green, red and a byte without meaning for each pixel.
pub(super) fn take(meeting: &Meeting, output: usize, sent: bool) -> Result<Shot, Error> {
    let directory = meeting.directory();
    let stream = UnixStream::connect(directory.join(PICTURE)).map_err(|error| {
        format!("no daemon serves in {}: {error}; start one with `virgld serve`", directory.display())
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut album, mut memory) = receive(&stream)?;
    let (shown, screens) = (&album.pictures, if sent { &album.sent } else { &album.pictures });
    let Some(shape) = screens.get(output) else {
        let (what, screens) = (if sent { "sent picture of " } else { "" }, screens.len());
        return Err(format!("there is no {what}screen {output}: there are {screens}, from 0 on").into());
    };
    let skipped = if sent { shown.as_slice() } else { &[] };
    let before = skipped.iter().chain(&screens[..output]).map(bytes).sum::<u64>();
    if bytes(shape) == 0 {
        return Ok(None);
    }
    memory.seek(std::io::SeekFrom::Start(before))?;
    let mut pixels = vec![0; usize::try_from(bytes(shape))?];
    memory.read_exact(&mut pixels)?;
    let screens = if sent { &mut album.sent } else { &mut album.pictures };
    Ok(Some((screens.swap_remove(output), pixels)))
}

/// Writes them as PNG.
pub(super) fn encode(
    to: impl Write,
    shape: &Shape,
    pixels: &[u8],
    compression: Compression,
) -> Result<(), Error> {
    let mut encoder = png::Encoder::new(to, shape.width, shape.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(compression);
    let colours: Vec<u8> = pixels.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colours)?;
    writer.finish()?;
    Ok(())
}

fn bytes(shape: &Shape) -> u64 {
    u64::from(shape.width) * u64::from(shape.height) * 4
}

fn receive(stream: &UnixStream) -> Result<(Album, File), Error> {
    let mut words = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut words)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map_err(|error| format!("the daemon does not answer: {error}"))?;
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let memory = descriptors.flatten().next().ok_or("the daemon showed nothing: too many ask at once")?;
    let album = serde_json::from_slice(&words[..received.bytes])
        .map_err(|error| format!("the daemon's answer makes no sense: {error}"))?;
    Ok((album, File::from(memory)))
}
