//! The screen of a virtual machine, as QEMU shows it to whoever connects: RFB 3.8 (RFC 6143), as much as it takes.
//!
//! Rectangles come raw. The pointer comes by itself (the pseudo-encoding "Cursor"), and a viewer may ask for another
//! size of the display ("ExtendedDesktopSize").

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::failure::{Context, Failure, Result};
use crate::sheet::Picture;

/// A viewer.
pub(crate) struct Screen {
    stream: UnixStream,
    width: usize,
    height: usize,
    /// Red, green, blue.
    bytes: Vec<u8>,
    pointer: Option<Picture>,
}

impl Screen {
    /// Connects.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).context(|| format!("cannot connect to {}", socket.display()))?;
        let mut screen = Self { stream, width: 0, height: 0, bytes: Vec::new(), pointer: None };
        screen.greet().context(|| "QEMU's screen".into())?;
        Ok(screen)
    }

    /// What is on it now.
    pub(crate) fn look(&mut self) -> Result<Picture> {
        self.refresh().context(|| "QEMU's screen".into())?;
        Ok(Picture::of(self.width, self.height, self.bytes.clone()))
    }

    /// The pointer's image, once there was one.
    pub(crate) fn pointer(&self) -> Option<&Picture> {
        self.pointer.as_ref()
    }

    /// Asks for another size.
    pub(crate) fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        let mut message = vec![SET_DESKTOP_SIZE, 0];
        message.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        // One screen, number 0, at the corner.
        message.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        message.extend([width.to_be_bytes(), height.to_be_bytes(), [0; 2], [0; 2]].concat());
        self.stream.write_all(&message).context(|| "QEMU's screen".into())
    }

    fn greet(&mut self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let mut version = [0; 12];
        self.stream.read_exact(&mut version)?;
        self.stream.write_all(b"RFB 003.008\n")?;
        let kinds = self.byte()?;
        self.skip(kinds.into())?;
        self.stream.write_all(&[NO_SECURITY])?;
        if self.long()? != 0 {
            return Err(io::Error::other("it lets nobody in without a password"));
        }
        self.stream.write_all(&[SHARED])?;
        let (width, height) = (self.short()?, self.short()?);
        self.resized(width.into(), height.into());
        self.skip(16)?;
        let name = self.long()?;
        self.skip(name as usize)?;
        // 32 bits a pixel, blue first.
        self.stream.write_all(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])?;
        let mut encodings = vec![2, 0, 0, 4];
        for encoding in [RAW, POINTER, SIZE, EXTENDED_SIZE] {
            encodings.extend(encoding.to_be_bytes());
        }
        self.stream.write_all(&encodings)
    }

    /// Asks for the whole screen, and takes what comes until that came.
    fn refresh(&mut self) -> io::Result<()> {
        let mut request = vec![3, 0, 0, 0, 0, 0];
        for side in [self.width, self.height] {
            request.extend(u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes());
        }
        self.stream.write_all(&request)?;
        while !self.message()? {}
        Ok(())
    }

    /// Takes one message. Says whether pixels came with it, or another size, after which there are none.
    fn message(&mut self) -> io::Result<bool> {
        match self.byte()? {
            0 => {
                self.skip(1)?;
                let mut seen = false;
                for _ in 0..self.short()? {
                    seen |= self.rectangle()?;
                }
                Ok(seen)
            }
            2 => Ok(false),
            3 => {
                self.skip(3)?;
                let length = self.long()?;
                self.skip(length as usize).map(|()| false)
            }
            other => Err(io::Error::other(format!("it sent a message of kind {other}"))),
        }
    }

    fn rectangle(&mut self) -> io::Result<bool> {
        let [x, y, width, height] =
            [self.short()?, self.short()?, self.short()?, self.short()?].map(usize::from);
        match self.long()?.cast_signed() {
            RAW => {
                let pixels = self.pixels(width, height)?;
                for (line, row) in pixels.chunks_exact(width * 3).enumerate() {
                    let at = ((y + line) * self.width + x) * 3;
                    if let Some(place) = self.bytes.get_mut(at..at + row.len()) {
                        place.copy_from_slice(row);
                    }
                }
                Ok(true)
            }
            POINTER => {
                let pixels = self.pixels(width, height)?;
                self.skip(width.div_ceil(8) * height)?;
                self.pointer = (width > 0).then(|| Picture::of(width, height, pixels));
                Ok(false)
            }
            SIZE => {
                self.resized(width, height);
                Ok(true)
            }
            EXTENDED_SIZE => {
                let screens = self.byte()?;
                self.skip(3 + 16 * usize::from(screens))?;
                // `y` is other than 0 where a viewer's wish was not granted.
                if y == 0 {
                    self.resized(width, height);
                }
                Ok(true)
            }
            other => Err(io::Error::other(format!("it sent a rectangle of kind {other}"))),
        }
    }

    fn pixels(&mut self, width: usize, height: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; width * height * 4];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect())
    }

    fn resized(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.bytes = vec![0; width * height * 3];
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).map(|()| byte[0])
    }

    fn short(&mut self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.stream.read_exact(&mut bytes).map(|()| u16::from_be_bytes(bytes))
    }

    fn long(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.stream.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    }

    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        self.stream.read_exact(&mut vec![0; bytes])
    }
}

/// A picture that keeps coming differently is a failure of its own.
pub(crate) fn until(
    screen: &mut Screen,
    what: &str,
    limit: Duration,
    mut right: impl FnMut(&Picture, &Screen) -> bool,
) -> Result<()> {
    let begin = std::time::Instant::now();
    loop {
        let seen = screen.look()?;
        if right(&seen, screen) {
            return Ok(());
        }
        if begin.elapsed() > limit {
            return Err(Failure::new(format!("the screen does not show {what} ({seen})")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

const NO_SECURITY: u8 = 1;
const SHARED: u8 = 1;
const SET_DESKTOP_SIZE: u8 = 251;
const RAW: i32 = 0;
const POINTER: i32 = -239;
const SIZE: i32 = -223;
const EXTENDED_SIZE: i32 = -308;
const PATIENCE: Duration = Duration::from_secs(30);
