//! The display socket: where the device asks about displays and says what to show.
//!
//! Some questions stall the control queue until they are answered, so all are answered at once. Pixels go to the
//! monitor; everything else that is to be shown is counted and dropped. The end of this socket is how a dead queue worker shows: the process and its
//! main socket may live on.
//!
//! Source: QEMU, docs/interop/vhost-user-gpu.rst. `flags` are never looked at: QEMU sends uninitialised ones.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::edid;
use super::monitor::{Monitor, Place};
use super::wire::receive;

/// What the device wanted shown, since the connection was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DisplayCounts {
    /// Scanouts set or disabled.
    pub scanouts: u64,
    /// Updates of a scanout's contents.
    pub updates: u64,
    /// Cursor images, moves and hides.
    pub cursor: u64,
    /// Questions answered.
    pub answered: u64,
    /// Messages of an unknown kind.
    pub unknown: u64,
    /// Bytes thrown away, mostly images of pointers.
    pub dropped_bytes: u64,
}

/// Why the display socket is of no use any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DisplayEnd {
    #[error("the device closed its display socket: the device or its queue worker has died; restart it")]
    Closed,
    #[error("the device asks on its display socket without reading the answers; restart it")]
    Deaf,
    #[error("its display socket failed: {0}; restart it")]
    Broken(Errno),
}

/// Whether everything has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Nothing is left.
    Empty,
    /// It stopped to let others have their turn.
    More,
}

/// Our end of the display socket.
pub(super) struct Display {
    socket: Arc<OwnedFd>,
    /// Width and height at the start.
    extent: (u32, u32),
    counts: DisplayCounts,
    monitor: Monitor,
    stage: Stage,
    buffer: [u8; KEPT],
    have: usize,
    scratch: Box<[u8]>,
}

/// What the next bytes belong to.
#[derive(Clone, Copy)]
enum Stage {
    Header,
    Payload(Header),
    /// The place of an update whose payload has so many bytes.
    Place(usize),
    /// Pixels of an update: so many are there, and so many bytes are to come.
    Pixels(Place, usize, usize),
    /// That many bytes are to be thrown away.
    Skip(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    request: u32,
    flags: u32,
    size: u32,
}

impl Display {
    /// One display, of so many pixels unless the monitor was given another size, behind a connected, non-blocking socket.
    pub(super) fn new(socket: Arc<OwnedFd>, extent: (u32, u32), monitor: Monitor) -> Self {
        Self {
            socket,
            extent,
            counts: DisplayCounts::default(),
            monitor,
            stage: Stage::Header,
            buffer: [0; KEPT],
            have: 0,
            scratch: vec![0; SCRATCH].into(),
        }
    }

    /// What to watch.
    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        self.socket.clone()
    }

    /// What is connected, and who is told when it changes.
    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    fn extent(&self) -> (u32, u32) {
        self.monitor.extent().unwrap_or(self.extent)
    }

    pub(super) fn counts(&self) -> DisplayCounts {
        self.counts
    }

    /// Reads and answers what is there, a few megabytes at most.
    pub(super) fn ready(&mut self) -> Result<Drained, DisplayEnd> {
        for _ in 0..READS_PER_TURN {
            let target = match self.stage {
                Stage::Header => &mut self.buffer[self.have..HEADER],
                Stage::Payload(header) => &mut self.buffer[self.have..header.size as usize],
                Stage::Place(_) => &mut self.buffer[self.have..UPDATE_PLACE],
                Stage::Pixels(_, _, left) | Stage::Skip(left) => &mut self.scratch[..left.min(SCRATCH)],
            };
            match receive(&self.socket, target) {
                Ok(0) | Err(Errno::CONNRESET) => return Err(DisplayEnd::Closed),
                Ok(count) => self.advance(count)?,
                Err(Errno::AGAIN) => return Ok(Drained::Empty),
                Err(error) => return Err(DisplayEnd::Broken(error)),
            }
        }
        Ok(Drained::More)
    }

    /// `count` bytes of what was wanted have come.
    fn advance(&mut self, count: usize) -> Result<(), DisplayEnd> {
        self.have += count;
        match self.stage {
            Stage::Header if self.have == HEADER => self.begin(),
            Stage::Payload(header) if self.have == header.size as usize => self.act(header, self.have),
            Stage::Skip(left) => {
                self.counts.dropped_bytes += count as u64;
                self.expect(if count == left { Stage::Header } else { Stage::Skip(left - count) });
                Ok(())
            }
            Stage::Place(size) if self.have == UPDATE_PLACE => {
                let [scanout, x, y, width, height] = self.words();
                let place = Place { scanout, x, y, width, height };
                self.expect(Stage::Pixels(place, 0, size - UPDATE_PLACE));
                Ok(())
            }
            Stage::Pixels(place, done, left) => {
                self.monitor.fill(place, done, &self.scratch[..count]);
                let whole = count == left;
                self.expect(if whole {
                    Stage::Header
                } else {
                    Stage::Pixels(place, done + count, left - count)
                });
                Ok(())
            }
            Stage::Header | Stage::Payload(_) | Stage::Place(_) => Ok(()),
        }
    }

    /// The first words of a payload.
    fn words<const N: usize>(&self) -> [u32; N] {
        std::array::from_fn(|index| {
            let mut word = [0; 4];
            word.copy_from_slice(&self.buffer[4 * index..4 * index + 4]);
            u32::from_ne_bytes(word)
        })
    }

    fn expect(&mut self, stage: Stage) {
        self.stage = stage;
        self.have = 0;
    }

    /// A header is whole. A payload longer than that of any question is thrown away.
    fn begin(&mut self) -> Result<(), DisplayEnd> {
        let (header, _) = Header::read_from_prefix(&self.buffer).unwrap_or_else(|_| {
            // PANIC: the buffer is longer than a header, and a header may have any bytes.
            unreachable!("a header is shorter than the buffer")
        });
        match header.size as usize {
            0 => self.act(header, 0),
            size @ UPDATE_WITH_PIXELS.. if header.request == UPDATE => {
                self.counts.updates += 1;
                self.expect(Stage::Place(size));
                Ok(())
            }
            1..=KEPT => {
                self.expect(Stage::Payload(header));
                Ok(())
            }
            size => {
                self.act(header, 0)?;
                self.expect(Stage::Skip(size));
                Ok(())
            }
        }
    }

    /// Answers or counts one message, of whose payload `kept` bytes are in the buffer.
    fn act(&mut self, header: Header, kept: usize) -> Result<(), DisplayEnd> {
        self.expect(Stage::Header);
        match header.request {
            GET_PROTOCOL_FEATURES => self.answer(header.request, &PROTOCOL_EDID.to_ne_bytes()),
            GET_DISPLAY_INFO => self.answer(header.request, &display_info(self.extent())),
            GET_EDID => self.answer(header.request, &edid_answer(self.extent())),
            DMABUF_UPDATE => {
                self.counts.updates += 1;
                self.answer(header.request, &[])
            }
            request => {
                self.counts.dropped_bytes += kept as u64;
                match request {
                    SET_PROTOCOL_FEATURES => {}
                    CURSOR_POS | CURSOR_POS_HIDE | CURSOR_UPDATE => self.counts.cursor += 1,
                    SCANOUT => {
                        self.counts.scanouts += 1;
                        if kept >= SCANOUT_BYTES {
                            let [scanout, width, height] = self.words();
                            self.monitor.set(scanout, width, height);
                        }
                    }
                    DMABUF_SCANOUT | DMABUF_SCANOUT2 => self.counts.scanouts += 1,
                    UPDATE => self.counts.updates += 1,
                    unknown => {
                        self.counts.unknown += 1;
                        tracing::debug!(
                            request = unknown,
                            size = header.size,
                            "unknown display message dropped"
                        );
                    }
                }
                Ok(())
            }
        }
    }

    fn answer(&mut self, request: u32, payload: &[u8]) -> Result<(), DisplayEnd> {
        let mut message = [0; HEADER + LONGEST_ANSWER];
        let length = HEADER + payload.len();
        // PANIC: the answers are the three above.
        let size = u32::try_from(payload.len()).expect("an answer is short");
        let header = Header { request, flags: REPLY, size };
        message[..HEADER].copy_from_slice(header.as_bytes());
        message[HEADER..length].copy_from_slice(payload);
        self.counts.answered += 1;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::io::retry_on_intr(|| send(&self.socket, &message[..length], flags)) {
            Ok(sent) if sent == length => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => Err(DisplayEnd::Deaf),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(DisplayEnd::Closed),
            Err(error) => Err(DisplayEnd::Broken(error)),
        }
    }
}

/// Answer to GET_DISPLAY_INFO: a response header of virtio-gpu and 16 scanouts, the first enabled
/// (virtio 1.2, section 5.7.6.8).
fn display_info((width, height): (u32, u32)) -> [u8; 408] {
    let mut answer = [0; 408];
    answer[..4].copy_from_slice(&0x1101_u32.to_le_bytes());
    answer[32..36].copy_from_slice(&width.to_le_bytes());
    answer[36..40].copy_from_slice(&height.to_le_bytes());
    answer[40..44].copy_from_slice(&1_u32.to_le_bytes());
    answer
}

/// Answer to GET_EDID: a response header of virtio-gpu, the size of the part that is meant, the EDID.
fn edid_answer((width, height): (u32, u32)) -> [u8; 1056] {
    let edid = edid::describe(width, height);
    let mut answer = [0; 1056];
    answer[..4].copy_from_slice(&0x1104_u32.to_le_bytes());
    // QEMU takes nothing but the size of the whole field.
    answer[24..28].copy_from_slice(&1024_u32.to_le_bytes());
    answer[32..32 + edid.len()].copy_from_slice(&edid);
    answer
}

const GET_PROTOCOL_FEATURES: u32 = 1;
const SET_PROTOCOL_FEATURES: u32 = 2;
const GET_DISPLAY_INFO: u32 = 3;
const CURSOR_POS: u32 = 4;
const CURSOR_POS_HIDE: u32 = 5;
const CURSOR_UPDATE: u32 = 6;
const SCANOUT: u32 = 7;
const UPDATE: u32 = 8;
const DMABUF_SCANOUT: u32 = 9;
const DMABUF_UPDATE: u32 = 10;
const GET_EDID: u32 = 11;
const DMABUF_SCANOUT2: u32 = 12;

/// Protocol feature: we answer GET_EDID.
const PROTOCOL_EDID: u64 = 1 << 0;
const REPLY: u32 = 1 << 2;

const HEADER: usize = size_of::<Header>();
/// The longest payload of a question is that of DMABUF_UPDATE, 20 bytes.
const KEPT: usize = 32;
/// A scanout, its width and its height.
const SCANOUT_BYTES: usize = 12;
/// A scanout and a rectangle, before the pixels.
const UPDATE_PLACE: usize = 20;
const UPDATE_WITH_PIXELS: usize = UPDATE_PLACE + 1;
const LONGEST_ANSWER: usize = 1056;
const SCRATCH: usize = 64 * 1024;
const READS_PER_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn display() -> (Display, UnixStream) {
        let (ours, device) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Display::new(Arc::new(ours.into()), (1280, 800), Monitor::default()), device)
    }

    fn message(request: u32, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap();
        // Flags as uninitialised as QEMU's.
        let header = Header { request, flags: 0xdead_beef, size };
        [header.as_bytes(), payload].concat()
    }

    fn heard(device: &mut UnixStream, request: u32, size: usize) -> Vec<u8> {
        let mut header = [0; HEADER];
        device.read_exact(&mut header).unwrap();
        let size_word = u32::try_from(size).unwrap();
        assert_eq!(header, Header { request, flags: REPLY, size: size_word }.as_bytes());
        let mut payload = vec![0; size];
        device.read_exact(&mut payload).unwrap();
        payload
    }

    #[test]
    fn questions_are_answered_in_the_sizes_that_devices_demand() {
        let (mut display, mut device) = display();
        device.write_all(&message(GET_PROTOCOL_FEATURES, &[])).unwrap();
        device.write_all(&message(SET_PROTOCOL_FEATURES, &[0; 8])).unwrap();
        device.write_all(&message(GET_DISPLAY_INFO, &[])).unwrap();
        device.write_all(&message(GET_EDID, &[0; 4])).unwrap();
        device.write_all(&message(DMABUF_UPDATE, &[0; 20])).unwrap();
        assert_eq!(display.ready(), Ok(Drained::Empty));
        heard(&mut device, GET_PROTOCOL_FEATURES, 8);
        let info = heard(&mut device, GET_DISPLAY_INFO, 408);
        assert_eq!(info[32..44], [1280_u32, 800, 1].map(u32::to_le_bytes).concat());
        assert_eq!(heard(&mut device, GET_EDID, 1056)[24..28], 1024_u32.to_le_bytes());
        heard(&mut device, DMABUF_UPDATE, 0);
        assert_eq!((display.counts().answered, display.counts().unknown), (4, 0));
    }

    #[test]
    fn pixels_come_in_pieces_and_do_not_disturb_what_follows() {
        let (mut display, mut device) = display();
        let writer = std::thread::spawn(move || {
            let words = |words: &[u32]| words.iter().flat_map(|it| it.to_ne_bytes()).collect::<Vec<_>>();
            device.write_all(&message(SCANOUT, &words(&[0, 1250, 1000]))).unwrap();
            let update = [words(&[0, 0, 0, 1250, 1000]), vec![3; 5_000_000]].concat();
            device.write_all(&message(UPDATE, &update)).unwrap();
            // A pointer's image, and updates that are no updates.
            device.write_all(&message(CURSOR_UPDATE, &[5; 16404])).unwrap();
            device.write_all(&message(UPDATE, &[5; 20])).unwrap();
            device.write_all(&message(SCANOUT, &[5; 8])).unwrap();
            device.write_all(&message(77, &[0; 200])).unwrap();
            for byte in message(GET_DISPLAY_INFO, &[]) {
                device.write_all(&[byte]).unwrap();
            }
            heard(&mut device, GET_DISPLAY_INFO, 408);
            device
        });
        while !writer.is_finished() {
            display.ready().unwrap();
        }
        let _device = writer.join().unwrap();
        assert_eq!((display.counts().updates, display.counts().unknown), (2, 1));
        let [screen] = &display.monitor.screens()[..] else { panic!("one screen") };
        assert_eq!((screen.width, screen.height), (1250, 1000));
        assert!(screen.pixels.len() == 5_000_000 && screen.pixels.iter().all(|byte| *byte == 3));
    }

    #[test]
    fn the_end_and_deafness_are_told() {
        let (mut display, device) = display();
        drop(device);
        assert_eq!(display.ready(), Err(DisplayEnd::Closed));
        let (mut display, mut device) = self::display();
        device.set_nonblocking(true).unwrap();
        let question = message(GET_EDID, &[0; 4]);
        let mut outcome = Ok(Drained::Empty);
        for _ in 0..10_000 {
            let _ = device.write(&question);
            outcome = display.ready();
            if outcome.is_err() {
                break;
            }
        }
        assert_eq!(outcome, Err(DisplayEnd::Deaf));
    }
}
