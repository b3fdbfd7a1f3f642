//! `virgld screenshot`.

use std::fs::File;
use std::io::{BufWriter, IoSliceMut, Read, Seek};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::Error;
use super::command_line::Screenshot;
use super::directory::PICTURE;
use super::pictures::{Album, Shape};

/// Writes what is on a screen to a file.
pub(crate) fn screenshot(options: &Screenshot) -> Result<(), Error> {
    let directory = options.meeting.directory();
    let stream = UnixStream::connect(directory.join(PICTURE)).map_err(|error| {
        format!("no daemon serves in {}: {error}; start one with `virgld serve`", directory.display())
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (album, mut memory) = receive(&stream)?;
    let (shown, screens) = (&album.pictures, if options.sent { &album.sent } else { &album.pictures });
    let Some(shape) = screens.get(options.output) else {
        let (what, screens) = (if options.sent { "sent picture of " } else { "" }, screens.len());
        return Err(
            format!("there is no {what}screen {}: there are {screens}, from 0 on", options.output).into()
        );
    };
    let skipped = if options.sent { shown.as_slice() } else { &[] };
    let before = skipped.iter().chain(&screens[..options.output]).map(bytes).sum::<u64>();
    if bytes(shape) == 0 {
        return Err(format!("screen {} is off", options.output).into());
    }
    memory.seek(std::io::SeekFrom::Start(before))?;
    let mut pixels = vec![0; usize::try_from(bytes(shape))?];
    memory.read_exact(&mut pixels)?;
    write(&options.file, shape, &pixels)
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

fn write(path: &Path, shape: &Shape, pixels: &[u8]) -> Result<(), Error> {
    let file = File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), shape.width, shape.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let colours: Vec<u8> = pixels.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colours)?;
    writer.finish()?;
    Ok(())
}
